//! A hook's file causes the work of compiling: it is checked before, and limited in time and memory.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cache, Cancel, Compiler, Limits, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::alone::alone;
use crate::support::guests::{module_that_exits, wasm_component_probe, wasm_probe};
use crate::support::leftovers::{Leftovers, peak_kib_of};
use crate::support::old_kernel::lose_system_call;
use crate::support::processes::{children, wait_for_the_end_of, wait_until};
use crate::support::program::tell;
use crate::support::{DRIVER, Hooks, event, start};

/// Enough empty functions to keep a compiler busy longer than any test waits.
const ENDLESS: usize = 900_000;
/// Longer than any refusal takes, even on a slow machine.
const TOO_LONG: Duration = Duration::from_secs(60);

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb128(content.len()), content].concat()
}

/// A program with this many empty functions. It imports `import` if given.
fn functions(count: usize, import: Option<(&str, &str)>) -> Vec<u8> {
    let text = |text: &str| [leb128(text.len()), text.as_bytes().to_vec()].concat();
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module.extend(section(1, &[1, 0x60, 0, 0]));
    if let Some((module_name, name)) = import {
        module.extend(section(2, &[vec![1], text(module_name), text(name), vec![0, 0]].concat()));
    }
    module.extend(section(3, &[leb128(count), vec![0; count]].concat()));
    module.extend(section(7, &[vec![1], text("_start"), vec![0, u8::from(import.is_some())]].concat()));
    module.extend(section(10, &[leb128(count), [2, 0, 0x0b].repeat(count)].concat()));
    module
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

fn hooks_with(module: impl AsRef<[u8]>) -> Hooks {
    let hooks = Hooks::new();
    hooks.file(DRIVER, module, 0o755);
    hooks
}

/// Why the hook cannot be called.
fn reason(runtime: &Runtime) -> String {
    runtime.inventory().hooks[0].reason.clone().unwrap_or_default()
}

fn hookvisor() -> Compiler {
    Compiler::program(env!("CARGO_BIN_EXE_hookvisor"))
}

fn limits(time: Duration, memory: u64) -> Limits {
    let mut limits = Limits::default();
    (limits.compile_time, limits.compile_memory) = (time, memory);
    limits
}

#[test]
fn modules_that_cannot_run_are_refused_before_they_are_compiled() {
    let began = Instant::now();
    let start = "(func (export \"_start\"))";
    for (module, expected) in [
        (
            functions(ENDLESS, Some(("wasi_unstable", "sched_yield"))),
            "it is a program for WASI preview 0 (`wasi_unstable`), and hookvisor runs preview 1 and WASI 0.2: build it with \
             a newer toolchain (in Rust, for wasm32-wasip1)",
        ),
        (
            functions(ENDLESS, Some(("env", "emscripten_notify"))),
            "it has unknown imports: env.emscripten_notify; a hook can import only WASI preview 1 (wasi_snapshot_preview1) and the functions of hookvisor-guest",
        ),
        (
            wat("(module (func (export \"_initialize\")) (func (export \"run\")))"),
            "it is a reactor: it exports `_initialize` and no `_start`, so it is a library, not a program: build it as a \
             command (with clang, without -mexec-model=reactor; in Rust, as a binary)",
        ),
        (
            wat("(module (func (export \"run\")))"),
            "it exports no function `_start`, so it is a library, not a program: build it as a binary (in Rust, with a \
             `fn main`)",
        ),
        (
            wat(&format!("(module (tag $e) {start} (func (throw $e)))")),
            "it uses WebAssembly exceptions, which hookvisor does not support: build it without them (with clang, \
             -fno-exceptions; in Rust, -C panic=abort)",
        ),
        (
            wat(&format!("(module (memory 1 1 shared) {start} (func (atomic.fence)))")),
            "it uses threads, which hookvisor does not support: build it without them (for wasm32-wasip1 and not \
             wasm32-wasip1-threads; with clang, without -pthread)",
        ),
        (
            wat(&format!("(module (type $s (struct)) {start} (func (drop (struct.new $s))))")),
            "it uses WebAssembly garbage collection, which hookvisor does not support: build it for WASI in a language that \
             brings its own memory management (Rust, C, Go, Python)",
        ),
        (
            wat("(component (import \"wasi:http/types@0.2.0\" (instance)) (instance $i) \
                 (export \"wasi:cli/run@0.2.0\" (instance $i)))"),
            "it has unknown imports: wasi:http/types@0.2.0; a hook can import only WASI 0.2 and the functions of hookvisor-guest",
        ),
        (
            wat("(component)"),
            "it exports no `wasi:cli/run`, so it is a library, not a program: build it as a command (in Rust, as a \
             binary for wasm32-wasip2)",
        ),
    ] {
        for compiler in [None, Some(hookvisor())] {
            let hooks = hooks_with(&module);
            let builder = Runtime::builder(hooks.path());
            let runtime = compiler.into_iter().fold(builder, |builder, compiler| builder.compiler(compiler)).build();
            assert_eq!(reason(&runtime.unwrap()), expected);
        }
    }
    assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
}

#[test]
fn compiling_in_a_separate_process_is_limited_in_time_and_memory() {
    alone("compiling::compiling_in_a_separate_process_is_limited_in_time_and_memory", || {
        let hooks = hooks_with(functions(ENDLESS, None));
        let build = |limits| Runtime::builder(hooks.path()).limits(limits).compiler(hookvisor()).build().unwrap();
        let before = Leftovers::before();
        let began = Instant::now();
        let mut slow = String::new();
        let peak = peak_kib_of(|| slow = reason(&build(limits(Duration::from_millis(500), 8 << 30))));
        assert_eq!(slow, "compiling it took longer than 500ms: build it smaller, or raise compile_time");
        assert!(peak < 64 << 10, "the host grew by {peak} KiB");
        assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
        let large = reason(&build(limits(Duration::from_secs(60), 96 << 20)));
        let expected =
            "the compiler was killed by signal 6 (SIGABRT) with a limit of 96.0 MiB of memory: memory allocation of ";
        assert!(
            large.starts_with(expected) && large.ends_with("; build the module smaller, or raise compile_memory"),
            "{large}"
        );
        assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
        Leftovers::assert_none_since(&before, "compilers that were ended");
    });
}

#[test]
fn compiling_in_the_host_s_process_is_limited_too() {
    alone("compiling::compiling_in_the_host_s_process_is_limited_too", || {
        let hooks = hooks_with(functions(ENDLESS, None));
        let build = |limits| Runtime::builder(hooks.path()).limits(limits).build().unwrap();
        let began = Instant::now();
        let large = reason(&build(Limits::default()));
        assert!(
            large.starts_with("compiling it would take about 4.7 GiB of memory, and the limit is 2.0 GiB: "),
            "{large}"
        );
        let hooks = hooks_with(functions(2000, None));
        let build = |limits| Runtime::builder(hooks.path()).limits(limits).build().unwrap();
        let slow = reason(&build(limits(Duration::from_millis(1), 8 << 30)));
        assert_eq!(slow, "compiling it took longer than 1ms: build it smaller, or raise compile_time");
        // The compiler cannot be stopped, so nothing else starts before it ends.
        let other = hooks_with(module_that_exits(0));
        let build = || Runtime::builder(other.path()).build().unwrap();
        assert_eq!(reason(&build()), "it was not compiled: another module is still being compiled past its time limit");
        wait_until("the compiler's end", || reason(&build()).is_empty());
        assert!(began.elapsed() < 2 * TOO_LONG, "{:?}", began.elapsed());
    });
}

#[test]
fn code_from_a_separate_compiler_runs_and_is_cached() {
    for probe in [wasm_probe(), wasm_component_probe()] {
        let hooks = Hooks::new().copy(DRIVER, probe);
        let cache = tempfile::tempdir().unwrap();
        let builder = || Runtime::builder(hooks.path()).cache(Cache::open(cache.path()).unwrap());
        let compiled = builder().compiler(hookvisor()).build().unwrap();
        assert_eq!(compiled.run(&event("exit=1", "start")).exit_status(), 1);
        // A compiler that would fail is not called.
        let cached = builder().compiler(Compiler::program("/no/such/compiler")).build().unwrap();
        assert_eq!(cached.run(&event("exit=1", "start")).exit_status(), 1);
    }
}

#[test]
fn a_compiler_that_cannot_be_run_vetoes_with_a_reason() {
    let hooks = hooks_with(module_that_exits(0));
    let failed = |compiler: &str| {
        let runtime = Runtime::builder(hooks.path()).compiler(Compiler::program(compiler)).build().unwrap();
        let report = runtime.run(&event("web1", "start"));
        (report.exit_status(), reason(&runtime))
    };
    assert_eq!(
        failed("/no/such/compiler"),
        (125, "the compiler's process failed: /no/such/compiler does not exist".to_owned())
    );
    assert_eq!(failed("/bin/false"), (125, "the compiler's process failed: it wrote no reason".to_owned()));
    assert_eq!(failed("/bin/true").0, 126);
    assert_eq!(start(&hooks).exit_status(), 0);
}

#[test]
fn a_signal_ends_the_program_and_its_compiler() {
    let hooks = hooks_with(functions(ENDLESS, None));
    for (signal, arguments) in [
        (Signal::SIGTERM, &["run", "--hooks", "DIR", DRIVER, "web1", "start"][..]),
        (Signal::SIGINT, &["check", "--hooks", "DIR"]),
        (Signal::SIGKILL, &["compile", "--hooks", "DIR"]),
    ] {
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=TERM", "--default-signal=INT", env!("CARGO_BIN_EXE_hookvisor")]);
        command.args(arguments.iter().map(|a| if *a == "DIR" { hooks.path().as_os_str() } else { a.as_ref() }));
        command.arg("--cache").arg(hooks.path().join(".cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let program = command.spawn().unwrap();
        let mut compilers = Vec::new();
        wait_until("the compiler", || {
            compilers = children(program.id(), "compile-module");
            !compilers.is_empty()
        });
        let began = Instant::now();
        kill(Pid::from_raw(program.id().cast_signed()), signal).unwrap();
        let ended = program.wait_with_output().unwrap();
        assert_eq!(ended.status.signal(), Some(signal as i32), "{}", String::from_utf8_lossy(&ended.stderr));
        compilers.iter().for_each(|pid| wait_for_the_end_of(pid));
        assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
    }
}

#[test]
fn a_killed_compiler_does_not_crash_the_host() {
    alone("compiling::a_killed_compiler_does_not_crash_the_host", || {
        let hooks = hooks_with(functions(ENDLESS, None));
        std::thread::scope(|scope| {
            let runtime = scope.spawn(|| Runtime::builder(hooks.path()).compiler(hookvisor()).build().unwrap());
            let mut compilers = Vec::new();
            wait_until("the compiler", || {
                compilers = children(std::process::id(), "compile-module");
                !compilers.is_empty()
            });
            for pid in &compilers {
                kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGSEGV).unwrap();
            }
            let reason = reason(&runtime.join().unwrap());
            let expected = "the compiler was killed by signal 11 (SIGSEGV) with a limit of 2.0 GiB of memory: ";
            assert!(reason.starts_with(expected), "{reason}");
        });
    });
}

/// The kernel's lines about a process or thread.
fn status(path: &Path) -> String {
    fs::read_to_string(path.join("status")).unwrap_or_default()
}

#[test]
fn a_separate_compiler_is_confined_to_its_streams() {
    alone("compiling::a_separate_compiler_is_confined_to_its_streams", || {
        let hooks = hooks_with(functions(ENDLESS, None));
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let builder = Runtime::builder(hooks.path()).compiler(hookvisor()).cancel(&cancel);
            let runtime = scope.spawn(|| builder.build().unwrap());
            let mut compilers = Vec::new();
            wait_until("the compiler", || {
                compilers = children(std::process::id(), "compile-module");
                !compilers.is_empty()
            });
            let compiler = Path::new("/proc").join(&compilers[0]);
            let has = |status: &str, line: &str| status.lines().any(|found| found == line);
            wait_until("its filter", || has(&status(&compiler), "Seccomp:\t2"));
            // Several threads compile.
            let threads = || fs::read_dir(compiler.join("task")).into_iter().flatten().flatten();
            wait_until("its threads", || threads().count() > 1);
            for thread in threads() {
                let status = status(&thread.path());
                assert!(has(&status, "Seccomp:\t2") && has(&status, "NoNewPrivs:\t1"), "{status}");
                assert!(has(&status, "CapEff:\t0000000000000000"), "{status}");
            }
            let descriptors = fs::read_dir(compiler.join("fd")).unwrap().flatten();
            let mut descriptors: Vec<_> = descriptors.map(|entry| entry.file_name().into_string().unwrap()).collect();
            descriptors.sort();
            assert_eq!(descriptors, ["0", "1", "2"]);
            cancel.cancel();
            drop(runtime.join().unwrap());
        });
    });
}

/// There the limits and the change of user remain.
#[test]
fn a_kernel_that_cannot_confine_the_compiler_compiles_all_the_same() {
    alone("compiling::a_kernel_that_cannot_confine_the_compiler_compiles_all_the_same", || {
        let hooks = Hooks::new().copy(DRIVER, wasm_probe());
        let exit = || {
            let runtime = Runtime::builder(hooks.path()).compiler(hookvisor()).build().unwrap();
            (runtime.run(&event("exit=3", "start")).exit_status(), reason(&runtime))
        };
        lose_system_call(libc::SYS_landlock_create_ruleset);
        assert_eq!(exit(), (3, String::new()));
        lose_system_call(libc::SYS_seccomp);
        assert_eq!(exit(), (3, String::new()));
    });
}

#[test]
#[ignore = "a measurement"]
fn the_cost_of_compiling_in_a_separate_process() {
    cost("confined");
    // For this thread alone.
    lose_system_call(libc::SYS_landlock_create_ruleset);
    lose_system_call(libc::SYS_seccomp);
    cost("not confined");
}

fn cost(confined: &str) {
    let small = module_that_exits(0);
    for (what, module) in [("a module of 100 bytes", small), ("the probe", std::fs::read(wasm_probe()).unwrap())] {
        let hooks = hooks_with(module);
        let median = |compiler: Option<Compiler>| {
            let mut times: Vec<Duration> = (0..21)
                .map(|_| {
                    let began = Instant::now();
                    let builder = Runtime::builder(hooks.path());
                    let runtime =
                        compiler.iter().cloned().fold(builder, |builder, c| builder.compiler(c)).build().unwrap();
                    assert_eq!(reason(&runtime), "");
                    began.elapsed()
                })
                .collect();
            times.sort();
            times[times.len() / 2]
        };
        tell(&format!(
            "{what}: {:?} in the host, {:?} in a process of its own ({confined})",
            median(None),
            median(Some(hookvisor()))
        ));
    }
}
