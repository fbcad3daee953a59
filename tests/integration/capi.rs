//! The C API, as used by programs in C, C++ and Python, and the files that belong to it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Hooks;
use crate::support::capi::{
    ROOT, Tool, World, library, program, program_of_one_piece, succeed, symbols, versioned_library,
};
use crate::support::processes::wait_for_the_end_of;
use crate::support::program::{Ran, command};
use crate::support::skip;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PROGRAMS: [&str; 5] = ["verdicts", "misuse", "threads", "process", "control"];

#[test]
fn a_c_program_gets_the_right_answers() {
    let world = World::of_both_kinds();
    for name in PROGRAMS {
        world.run(Tool::None, &program(name, Tool::None), VERSION);
    }
    world.run(Tool::None, &program_of_one_piece("verdicts"), VERSION);
}

#[test]
fn a_fork_does_not_wait_for_threads_that_it_does_not_have() {
    World::of_native_hooks().run(Tool::None, &program("forks", Tool::None), VERSION);
}

/// The process ends while a hook runs in another thread. Hooks, their children and the guardian end with it.
#[test]
fn a_program_that_exits_during_a_call_leaves_nothing() {
    let hangs = "dir=${0%/*}/..; sleep 3600 & echo $! > \"$dir/child.bak\"\n\
                 cat /proc/$PPID/task/*/children > \"$dir/children.bak\"; echo $$ > \"$dir/pid.bak\"; wait";
    let world = World::of_both_kinds().script("hangs.d/10-hangs", hangs);
    let tools = [Tool::None, Tool::Sanitizers].into_iter().filter(|tool| *tool == Tool::None || tool.works());
    for tool in tools {
        let program = program("exits", tool);
        for how in ["exit", "_exit", "return"] {
            // LeakSanitizer does not see what is on the stack of a sandbox that runs.
            if tool == Tool::None {
                world.run_to(7, tool, &program, &[how, "wasm", "sleep=600000"]);
            }
            let pid = world.path().join("pid.bak");
            world.run_to(7, tool, &program, &[how, "hangs", "web1", pid.to_str().unwrap()]);
            let left = ["pid", "child", "children"]
                .map(|name| fs::read_to_string(world.path().join(format!("{name}.bak"))).unwrap());
            let left = left.join(" ");
            assert!(left.split_whitespace().count() >= 4, "the guardian is missing: {left}");
            left.split_whitespace().for_each(wait_for_the_end_of);
            fs::remove_file(pid).unwrap();
        }
    }
}

/// One GiB in slow tests: it is taken, with one copy that ends with the call. Without memory for it, it is refused.
#[test]
fn a_large_document_is_copied_once_or_refused() {
    let size = if std::env::var_os("HOOKVISOR_SLOW_TESTS").is_some() { 1_u64 << 30 } else { 256 << 20 };
    let world = World::of_both_kinds().script("counts.d/10-counts", "test \"$(wc -c)\" = \"$1\"");
    world.run(Tool::None, &program("large", Tool::None), &size.to_string());
}

/// Both kinds of hooks: the sanitizers understand switched stacks.
#[test]
fn sanitizers_find_nothing() {
    if !Tool::Sanitizers.works() {
        return;
    }
    let world = World::of_both_kinds();
    for name in PROGRAMS {
        world.run(Tool::Sanitizers, &program(name, Tool::Sanitizers), VERSION);
    }
}

/// Native hooks only: valgrind does not understand WebAssembly's stacks.
#[test]
fn valgrind_finds_nothing() {
    if !Tool::Valgrind.works() {
        return;
    }
    let world = World::of_native_hooks();
    for name in PROGRAMS {
        world.run(Tool::Valgrind, &program(name, Tool::Valgrind), VERSION);
    }
}

#[test]
fn it_can_be_unloaded() {
    let library = library().join("libhookvisor.so");
    World::of_both_kinds().run(Tool::None, &program("unload", Tool::None), library.to_str().unwrap());
}

#[test]
fn the_header_matches_the_source() {
    let mut cargo = Command::new(env!("CARGO"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    cargo.current_dir(ROOT).args(["run", "--quiet", "--locked", "--package", "header", "--target-dir"]).arg(target);
    let generated = succeed(&mut cargo);
    let header = fs::read_to_string(Path::new(ROOT).join("include/hookvisor.h")).unwrap();
    assert!(generated == header, "cargo run --package header > include/hookvisor.h");
}

#[test]
fn the_header_compiles_as_cpp() {
    let mut compiler = Command::new("g++");
    compiler.current_dir(ROOT).args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-std=c++11", "-fsyntax-only"]);
    compiler.args(["-Iinclude", "-include", "hookvisor.h", "-x", "c++", "/dev/null"]);
    if compiler.output().is_err() {
        return skip("capi::the_header_compiles_as_cpp", "g++ is not installed");
    }
    succeed(&mut compiler);
}

#[test]
fn nothing_else_is_exported_and_everything_is_declared() {
    let listing =
        succeed(Command::new("nm").args(["-D", "--defined-only", "-P"]).arg(library().join("libhookvisor.so")));
    // The version itself is an absolute symbol.
    let functions = listing.lines().filter(|line| !line.contains(" A "));
    let mut exported: Vec<&str> = functions.filter_map(|line| line.split([' ', '@']).next()).collect();
    exported.sort_unstable();
    let header = fs::read_to_string(Path::new(ROOT).join("include/hookvisor.h")).unwrap();
    let before_parentheses =
        header.lines().filter(|line| !line.starts_with([' ', '/'])).filter_map(|line| line.split_once('('));
    let mut declared: Vec<&str> = before_parentheses
        .filter_map(|(before, _)| before.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("hookvisor_"))
        .collect();
    declared.sort_unstable();
    assert_eq!(exported, declared);
    assert!(exported.len() > 10, "{exported:?}");
}

/// The output of a program for hooks that agree, for a veto, for a later failure, and without hooks.
fn embedded(run: impl Fn(&str) -> Ran) {
    let ends = |status, stderr: &str| Ran { status, stdout: String::new(), stderr: stderr.to_owned() };
    let policy = "case $2 in start) test \"$(cat)\" = '{\"memory\": 512}' || exit 9;; esac";
    let agrees = Hooks::new().script("mydaemon", policy);
    assert_eq!(agrees.ran_by(&run), ends(0, ""));
    let vetoes = Hooks::new().script("mydaemon", "echo \"no $1\" >&2; exit 3");
    let said = "Hook script execution failed: Hook script DIR/mydaemon failed with error code";
    assert_eq!(vetoes.ran_by(&run), ends(1, &format!("{said} 3: no web1\n")));
    let complains = Hooks::new().script("mydaemon", "test \"$2\" = start || { echo 'no such rule' >&2; exit 4; }");
    assert_eq!(complains.ran_by(&run), ends(0, &format!("{said} 4: no such rule\n")));
    let Ran { status, stderr, .. } = run("/nonexistent");
    assert!(status == 1 && stderr.contains("/nonexistent"), "{status} {stderr}");
}

impl Hooks {
    fn ran_by(&self, run: impl Fn(&str) -> Ran) -> Ran {
        let directory = self.path().to_str().unwrap();
        let Ran { status, stdout, stderr } = run(directory);
        Ran { status, stdout, stderr: stderr.replace(directory, "DIR") }
    }
}

fn ran(command: &mut assert_cmd::Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn the_example_in_c_asks_and_tells() {
    let example = program("embed", Tool::None);
    embedded(|directory| ran(command(&example).arg(directory)));
}

#[test]
fn the_example_in_python_asks_and_tells() {
    let example = Path::new(ROOT).join("examples/embed.py");
    let run = |directory: &str| {
        let mut python = command("python3");
        python.env("PYTHONPATH", format!("{ROOT}/python/src"));
        python.env("HOOKVISOR_LIBRARY", library().join("libhookvisor.so"));
        ran(python.arg("-B").arg(&example).arg(directory))
    };
    embedded(run);
}

/// The C lines in the README are lines of the example that is built and run.
#[test]
fn the_readme_s_lines_of_c_are_those_of_the_example() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, shown) = readme.split_once("\n```c\n").unwrap();
    let (shown, _) = shown.split_once("```\n").unwrap();
    let example = fs::read_to_string(Path::new(ROOT).join("examples/embed.c")).unwrap();
    assert!(example.contains(shown), "examples/embed.c does not contain what the README shows:\n{shown}");
}

/// pkg-config finds what cargo-c installs, and the example needs nothing else. It is built without wasmtime, which
/// would take minutes, and in a separate directory: cargo-c contains another version of cargo, which compiles
/// everything again.
#[test]
fn what_cargo_c_installs_is_complete() {
    let installed = Command::new(env!("CARGO")).args(["cinstall", "--version"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        return skip("capi::what_cargo_c_installs_is_complete", "cargo-c is not installed (cargo install cargo-c)");
    }
    let prefix = tempfile::TempDir::with_prefix("prefix-").unwrap();
    let at = prefix.path().display();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cargo-c");
    let mut cargo = Command::new(env!("CARGO"));
    let linker = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_LINKER", std::env::consts::ARCH.to_uppercase());
    cargo.env(linker, format!("{ROOT}/scripts/link-with-versions"));
    cargo.current_dir(ROOT).args(["cinstall", "--debug", "--locked", "--no-default-features", "--libdir", "lib"]);
    succeed(cargo.arg(format!("--prefix={at}")).arg("--target-dir").arg(target));
    let script = format!(
        "cd {at} && export PKG_CONFIG_PATH=lib/pkgconfig && test \"$(pkg-config --modversion hookvisor)\" = {VERSION} && \
         cc -std=c99 -Wall -Wextra -Werror {ROOT}/examples/embed.c -o embed $(pkg-config --cflags --libs hookvisor)"
    );
    succeed(Command::new("sh").args(["-c", &script]));
    let libraries = prefix.path().join("lib");
    assert_eq!(symbols(&libraries), symbols(versioned_library()));
    embedded(|directory| ran(command(prefix.path().join("embed")).arg(directory).env("LD_LIBRARY_PATH", &libraries)));
}
