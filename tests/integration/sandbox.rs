//! A sandboxed hook's rights and limits: time, memory, files.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cache, Decision, Report, Runtime, Termination};

use crate::support::alone::alone;
use crate::support::guests::{module_that_exits, wasm_component_probe, wasm_probe};
use crate::support::leftovers::Leftovers;
use crate::support::processes::wait_until;
use crate::support::program::tell;
use crate::support::{DRIVER, Hooks, event, impatient, stderr};

fn probe() -> Hooks {
    Hooks::new().copy("test.d/20-probe.wasm", wasm_probe())
}

/// The probe with these settings.
fn probe_with(settings: &str) -> Hooks {
    let hooks = probe();
    hooks.file("test.d/20-probe.toml", settings, 0o644);
    hooks
}

fn run(hooks: &Hooks, steps: &str) -> Report {
    hooks.runtime().run(&event(steps, "start"))
}

/// The exit status and stderr of a start.
fn ended(hooks: &Hooks, steps: &str) -> (u8, String) {
    let report = run(hooks, steps);
    (report.exit_status(), stderr(&report))
}

#[test]
fn by_default_there_is_no_file_and_no_variable() {
    let hooks = probe();
    assert_eq!(ended(&hooks, "variables;exit=1"), (1, String::new()));
    for path in ["/etc/passwd", "/", ".", "/proc/self/environ", "/dev/null"] {
        assert_eq!(ended(&hooks, &format!("open={path}")).0, 4, "{path}");
    }
}

#[test]
fn settings_grant_variables_and_directories() {
    let granted = tempfile::tempdir().unwrap();
    fs::write(granted.path().join("state"), "as it was\n").unwrap();
    let host = granted.path().display().to_string();

    let read = probe_with(&format!("env = {{ MODE = 'strict' }}\n[[dir]]\nhost = '{host}'\nguest = '/granted'\n"));
    assert_eq!(ended(&read, "variables;show=/granted/state;exit=1"), (1, "MODE=strict\nas it was\n".to_owned()));
    assert_eq!(ended(&read, "write=/granted/state:changed").0, 5);
    assert_eq!(fs::read_to_string(granted.path().join("state")).unwrap(), "as it was\n");
    assert_eq!(ended(&read, &format!("open={host}/state")).0, 4, "it is known by the guest's name alone");

    let write = probe_with(&format!("[[dir]]\nhost = '{host}'\naccess = 'read-write'\n"));
    assert_eq!(ended(&write, &format!("write={host}/state:changed")).0, 0);
    assert_eq!(fs::read_to_string(granted.path().join("state")).unwrap(), "changed");
}

#[test]
fn an_invalid_grant_is_reported_at_load_and_vetoes() {
    for (settings, told) in [
        (
            "[[dir]]\nhost = '/no/such'",
            "its settings grant the directory /no/such, which cannot be used: there is no such file: check its name",
        ),
        (
            "[[dir]]\nhost = '/etc/passwd'",
            "its settings grant the directory /etc/passwd, which cannot be used: it is not a directory",
        ),
        ("[[command]]\nprogram = '/no/such'", "its settings grant the program /no/such, which does not exist"),
        ("[[command]]\nprogram = '/etc/passwd'", "its settings grant the program /etc/passwd, which is not executable"),
        (
            "[[connect]]\nto = '127.0.0.1:1'",
            "its settings have `connect` to 127.0.0.1:1, which only a component can use: build it for wasm32-wasip2",
        ),
    ] {
        let hooks = probe_with(settings);
        assert_eq!(hooks.runtime().inventory().hooks[0].reason.as_deref(), Some(told));
        let report = run(&hooks, "exit=0");
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 126));
    }
}

#[test]
fn a_component_of_wasi_0_3_is_refused_by_name() {
    let told =
        "it is a component of WASI 0.3, and hookvisor runs WASI 0.2: build it for that (in Rust, for wasm32-wasip2)";
    let component = |version: &str, kind: &str, options: &str| {
        let text = format!(
            "(component (core module $m (func (export \"run\") (result i32) i32.const 0)
                    (func (export \"back\") (param i32 i32 i32) (result i32) i32.const 0))
                (core instance $i (instantiate $m))
                (func $run {kind} (result (result)) (canon lift (core func $i \"run\") {options}))
                (instance $run (export \"run\" (func $run)))
                (export \"wasi:cli/run@{version}\" (instance $run)))"
        );
        let hooks = Hooks::new();
        hooks.file("test", wat::parse_str(&text).unwrap_or_else(|e| unreachable!("{e}")), 0o755);
        hooks.runtime().inventory().hooks[0].reason.clone()
    };
    assert_eq!(component("0.3.0", "async", "async (callback (core func $i \"back\"))").as_deref(), Some(told));
    assert_eq!(component("0.3.0", "", "").as_deref(), Some(told));
    assert_eq!(component("0.2.0", "", ""), None);
}

#[test]
fn memory_table_and_stack_have_their_limits() {
    let (within, beyond) = (40 << 20, 70 << 20);
    let hooks = probe();
    assert_eq!(ended(&hooks, &format!("grow={within}")).0, 0);
    assert_eq!(ended(&hooks, &format!("grow={beyond}")).0, 3);
    assert_eq!(ended(&probe_with("memory = '128MiB'"), &format!("grow={beyond}")).0, 0);
    assert_eq!(ended(&probe_with("memory = '16MiB'"), &format!("grow={within}")).0, 3);
    let report = run(&hooks, "recurse=10000000");
    let Termination::Trapped(what) = &report.hooks[0].termination else { unreachable!("{report}") };
    assert!(what.contains("probe::recurse"), "{what}");
}

#[test]
fn a_status_past_255_is_255_with_a_note() {
    for status in ["256", "1000", "-1", "2147483647"] {
        let report = run(&probe(), &format!("exit={status}"));
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 255), "{status}");
        assert!(report.hooks[0].notes[0].starts_with("it asked for the exit status "), "{report}");
    }
}

#[test]
fn one_hook_s_timeout_does_not_end_another() {
    let hooks = probe();
    // The same hooks, engine and timer thread: the busy call has a short timeout, the others a long one.
    hooks.file("test.d/30-hasty.wasm", fs::read(wasm_probe()).unwrap(), 0o755);
    hooks.file("test.d/30-hasty.toml", "timeout = '200ms'\nobjects = ['spin']", 0o644);
    hooks.file("test.d/20-probe.toml", "objects = ['work=*', 'sleep=*']", 0o644);
    let runtime = hooks.runtime();
    thread::scope(|scope| {
        for steps in ["work=400000000", "sleep=700", "work=400000000"] {
            let runtime = &runtime;
            scope.spawn(move || assert_eq!(runtime.run(&event(steps, "start")).exit_status(), 0, "{steps}"));
        }
        for _ in 0..2 {
            assert_eq!(runtime.run(&event("spin", "start")).exit_status(), 124);
        }
    });
}

#[test]
fn it_runs_inside_a_task_of_the_caller_s_own_runtime() {
    let hooks = probe();
    // More waits than tokio's budget for a task, after which it must yield.
    let naps = "sleep=1;".repeat(300) + "exit=7";
    let flavours = [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()];
    for mut flavour in flavours {
        flavour.build().unwrap().block_on(async {
            let runtime = hooks.impatient_runtime();
            let mut patient = impatient();
            patient.timeout = Duration::from_secs(60);
            let napping = hooks.builder().limits(patient).build().unwrap();
            assert_eq!(napping.run(&event(&naps, "start")).exit_status(), 7);
            assert_eq!(runtime.run(&event("sleep=3600000", "start")).exit_status(), 124);
            assert_eq!(runtime.run(&event("spin", "start")).exit_status(), 124);
            // It also ends there.
            drop(runtime);
        });
    }
}

#[test]
fn nothing_wakes_up_while_no_hook_runs() {
    alone("sandbox::nothing_wakes_up_while_no_hook_runs", || {
        let hooks = probe();
        let runtime = hooks.impatient_runtime();
        assert_eq!(runtime.run(&event("spin", "start")).exit_status(), 124);
        // A native hook of another runtime lets time pass.
        let sleeping = Hooks::new().script(DRIVER, "sleep 1");
        let before = clock_switches();
        assert_eq!(sleeping.runtime().run(&event("web1", "start")).decision, Decision::Proceed);
        assert_eq!(clock_switches(), before);
        drop(runtime);
    });
}

/// How often the timer thread was woken.
fn clock_switches() -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let clock = tasks
        .filter(|task| fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "hookvisor-clock"))
        .map(|task| fs::read_to_string(task.join("status")).unwrap());
    let [status] = clock.collect::<Vec<_>>().try_into().unwrap();
    status.lines().filter(|line| line.contains("ctxt_switches")).collect()
}

#[test]
fn many_threads_at_once_leave_nothing_behind() {
    alone("sandbox::many_threads_at_once_leave_nothing_behind", || {
        let hooks = probe();
        let runtime = hooks.impatient_runtime();
        let before = Leftovers::before();
        thread::scope(|scope| {
            for caller in 0..16_u8 {
                let runtime = &runtime;
                scope.spawn(move || {
                    let sleeps = runtime.run(&event("sleep=3600000", "start"));
                    assert_eq!(sleeps.exit_status(), 124);
                    for call in 0..10_u8 {
                        let status = caller * 10 + call;
                        let report = runtime.run(&event(&format!("stderr={status};exit={status}"), "start"));
                        assert_eq!((report.exit_status(), stderr(&report)), (status, status.to_string()));
                    }
                });
            }
        });
        Leftovers::assert_none_since(&before, "176 calls from 16 threads");
        drop(runtime);
        wait_until("the clock goes with its runtime", || {
            !format!("{:?}", Leftovers::now()).contains("hookvisor-clock")
        });
    });
}

fn loaded(hooks: &Hooks, cache: &Path) -> Runtime {
    hooks.builder().cache(Cache::open(cache).unwrap()).build().unwrap()
}

#[test]
fn an_invalid_cache_entry_is_compiled_again_and_never_run() {
    let hooks = probe();
    let directory = tempfile::tempdir().unwrap();
    let cache = directory.path().join("cache");
    loaded(&hooks, &cache);
    let [entry] = fs::read_dir(&cache).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>().try_into().unwrap();
    let good = fs::read(&entry).unwrap();

    type Spoil<'a> = (&'a str, Box<dyn Fn() + 'a>);
    let write = |bytes: Vec<u8>| fs::write(&entry, bytes).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mode = |mode| fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    let spoils: Vec<Spoil<'_>> = vec![
        ("truncated", Box::new(|| write(good[..good.len() / 2].to_vec()))),
        ("empty", Box::new(|| write(Vec::new()))),
        ("its beginning flipped", Box::new(|| write(flipped(3)))),
        ("its digest flipped", Box::new(|| write(flipped(30)))),
        ("its code flipped", Box::new(|| write(flipped(good.len() / 2)))),
        ("longer", Box::new(|| write([good.clone(), vec![0]].concat()))),
        ("writable by the group", Box::new(|| mode(0o620))),
        ("writable by others", Box::new(|| mode(0o602))),
        (
            "a link",
            Box::new(|| {
                fs::rename(&entry, cache.join("elsewhere")).unwrap();
                std::os::unix::fs::symlink(cache.join("elsewhere"), &entry).unwrap();
            }),
        ),
        (
            "a directory",
            Box::new(|| {
                fs::remove_file(&entry).unwrap();
                fs::create_dir(&entry).unwrap();
            }),
        ),
    ];
    for (how, spoil) in spoils {
        spoil();
        let runtime = loaded(&hooks, &cache);
        assert_eq!(runtime.run(&event("exit=7", "start")).exit_status(), 7, "{how}");
        if how != "a directory" {
            let found = fs::symlink_metadata(&entry).unwrap();
            assert!(found.is_file() && fs::read(&entry).unwrap() == good, "{how}: it is replaced by a good one");
            mode(0o600);
        }
    }
}

/// The same as the fuzz target `cache_entry`, in the time of a test.
#[test]
fn a_randomly_damaged_cache_entry_is_never_run() {
    let hooks = Hooks::new();
    hooks.file(DRIVER, module_that_exits(7), 0o755);
    let directory = tempfile::tempdir().unwrap();
    let runtime = loaded(&hooks, directory.path());
    let entries = || fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().path()).filter(|e| e.is_file());
    let entry = entries().next().unwrap();
    let good = fs::read(&entry).unwrap();
    let seconds = std::env::var("HOOKVISOR_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    let (began, mut runs, mut random) = (Instant::now(), 0_u64, 0x9e37_79b9_7f4a_7c15_u64);
    // Xorshift, so that a failure can be reproduced.
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random).unwrap() % below
    };
    while began.elapsed() < Duration::from_secs(seconds) {
        let mut spoiled = good.clone();
        for _ in 0..=next(4) {
            let at = next(spoiled.len().max(1));
            match next(4) {
                0 => spoiled.truncate(at),
                1 => spoiled.insert(at.min(spoiled.len()), next(256) as u8),
                2 if at < spoiled.len() => drop(spoiled.remove(at)),
                _ if at < spoiled.len() => spoiled[at] ^= 1 << next(8),
                _ => spoiled.push(next(256) as u8),
            }
        }
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, &spoiled).unwrap();
        fs::set_permissions(&entry, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        runtime.reload().unwrap();
        assert_eq!(runtime.run(&event("web1", "start")).exit_status(), 7, "run {runs}");
        assert!(fs::read(&entry).unwrap() == good, "run {runs}: the entry is not what the runtime writes");
        runs += 1;
    }
    if seconds > 2 {
        tell(&format!("{runs} spoiled entries in {seconds} s"));
    }
}

#[test]
fn a_cache_that_others_may_write_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o770)).unwrap();
    let refused = Cache::open(directory.path()).map(drop).unwrap_err().to_string();
    assert!(refused.contains("cannot be trusted: it must belong to user "), "{refused}");
}

#[test]
fn later_changes_to_a_cache_entry_do_not_affect_running_code() {
    let hooks = probe();
    let directory = tempfile::tempdir().unwrap();
    loaded(&hooks, directory.path());
    let runtime = loaded(&hooks, directory.path());
    for entry in fs::read_dir(directory.path()).unwrap() {
        fs::File::options().write(true).truncate(true).open(entry.unwrap().path()).unwrap();
    }
    assert_eq!(runtime.run(&event("exit=7", "start")).exit_status(), 7);
}

/// Reads a document to a memory of 20 MiB from 3 MiB on. Exits with the number of its first bytes, 256 KiB apart, that were
/// not zero before, and traps if the document is not `x` to its end.
const LARGE_DOCUMENT: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 320)
    (func (export "_start") (local $at i32) (local $old i32)
        (local.set $at (i32.const 0x300000))
        (loop $look
            (local.set $old (i32.add (local.get $old) (i32.ne (i32.load8_u (local.get $at)) (i32.const 0))))
            (br_if $look (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 0x40000))) (i32.const 0x1400000))))
        (local.set $at (i32.const 0x300000))
        (loop $more
            (i32.store (i32.const 0) (local.get $at))
            (i32.store (i32.const 4) (i32.const 0x10000))
            (if (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (if (i32.load (i32.const 8)) (then
                (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 120)) (then unreachable))
                (local.set $at (i32.add (local.get $at) (i32.load (i32.const 8))))
                (if (i32.ne (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.const 120)) (then unreachable))
                (br $more))))
        (call $exit (local.get $old))))"#;

#[test]
fn nothing_of_a_large_document_is_left_for_the_next_call() {
    let hooks = Hooks::new();
    hooks.file(DRIVER, wat::parse_str(LARGE_DOCUMENT).unwrap(), 0o755);
    let runtime = hooks.runtime();
    for size in [16 << 20, 100, 10 << 20, 0] {
        let report = runtime.run(&event("web1", "start").with_document(vec![b'x'; size]));
        assert_eq!(report.exit_status(), 0, "{size} bytes: {report}");
    }
}

#[test]
fn a_renumbered_stream_works_under_its_new_number() {
    let moved = r#"(module
        (import "wasi_snapshot_preview1" "fd_renumber" (func $renumber (param i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\05\00\00\00")
        (data (i32.const 16) "hello")
        (func $must (param i32) (if (local.get 0) (then unreachable)))
        (func (export "_start")
            (call $must (call $renumber (i32.const 2) (i32.const 1)))
            (call $must (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))
            (call $must (call $close (i32.const 0)))
            ;; Both are gone: `errno.badf` is 8.
            (call $exit (i32.add
                (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 32))
                (i32.mul (i32.const 10) (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 32)))))))"#;
    let hooks = Hooks::new();
    hooks.file(DRIVER, wat::parse_str(moved).unwrap(), 0o755);
    let report = hooks.runtime().run(&event("web1", "start"));
    assert_eq!((report.exit_status(), stderr(&report).as_str()), (88, "hello"), "{report}");
}

#[test]
fn a_panic_is_reported_with_its_place_and_message() {
    for probe in [wasm_probe(), wasm_component_probe()] {
        let hooks = Hooks::new().copy(DRIVER, probe);
        let report = run(&hooks, "panic=on purpose");
        let Termination::Trapped(what) = &report.hooks[0].termination else { unreachable!("{report}") };
        let place = what.strip_prefix("panicked at tests/guests/probe/src/main.rs:").unwrap_or_default();
        assert!(place.ends_with(": on purpose") && !what.contains(" < "), "{what}");
        assert!(report.hooks[0].notes[0].starts_with("it ended in "), "{report}");
        assert_eq!(report.exit_status(), 134);
    }
}

#[test]
fn running_out_of_memory_names_the_limit_and_the_setting() {
    for probe in [wasm_probe(), wasm_component_probe()] {
        let hooks = Hooks::new().copy(DRIVER, probe);
        hooks.file("test.toml", "memory = '16MiB'\n", 0o644);
        let report = run(&hooks, "fill=40000000");
        let Termination::Trapped(what) = &report.hooks[0].termination else { unreachable!("{report}") };
        let file = hooks.path().join("test.toml");
        let expected =
            format!("memory allocation of 40000000 bytes failed (limit 16.0 MiB; `memory` in {})", file.display());
        assert_eq!(*what, expected);
        // A guest that handles the error writes its own message.
        let report = run(&hooks, "grow=40000000");
        let note =
            format!("it asked for more memory than it can have (limit 16.0 MiB; `memory` in {})", file.display());
        assert_ne!(report.exit_status(), 0);
        assert_eq!(report.hooks[0].notes, [note]);
    }
}

#[test]
fn a_short_address_space_is_enough_for_a_hook() {
    let hooks = Hooks::new().copy(DRIVER, wasm_probe());
    let ran = hooks.shell("ulimit -v 1048576; hookvisor exec \"$HOOKS/test\" 'grow=40000000' < /dev/null");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_limit_on_the_size_of_files_costs_only_the_cache_entry() {
    let hooks = Hooks::new().copy(DRIVER, wasm_probe());
    let ran = hooks.shell("ulimit -f 8; hookvisor exec \"$HOOKS/test\" exit=0 < /dev/null");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!(fs::read_dir(hooks.path().join(".cache")).unwrap().count(), 0);
    // A failed write to standard output is an error that is reported.
    let flood = "exec > \"$HOOKS/out\"; ulimit -f 8; hookvisor exec \"$HOOKS/test\" flood-stdout=100000 < /dev/null";
    let ran = hooks.shell(flood);
    let told = "hookvisor: standard output could not be written: File too large (os error 27)\n";
    assert_eq!((ran.status, ran.stderr.as_str()), (125, told));
}

#[test]
fn an_ungranted_path_is_reported_with_the_lines_that_would_allow_it() {
    let hooks = Hooks::new().copy(DRIVER, wasm_probe());
    let note = |step: &str| {
        let report = run(&hooks, step);
        assert_ne!(report.exit_status(), 0, "{report}");
        report.hooks[0].notes.join("")
    };
    let file = hooks.path().join("test.toml");
    let expected = format!(
        "it is not granted the directory /etc; to allow it, add to {}:\n    [[dir]]\n    host = \"/etc\"",
        file.display()
    );
    assert_eq!(note("show=/etc/hostname;exit=1"), expected);
    assert_eq!(note("open=/etc"), expected);
    // The suggested lines work.
    let lines = expected.split_once(':').map(|(_, lines)| lines.split_once('\n').unwrap().1).unwrap();
    hooks.file("test.toml", lines, 0o644);
    assert_eq!(run(&hooks, "open=/etc/passwd").exit_status(), 0);
    // A hook that succeeds without the file causes no note.
    let hooks = Hooks::new().copy(DRIVER, wasm_probe());
    assert_eq!(run(&hooks, "show=/etc/hostname").hooks[0].notes, Vec::<String>::new());
}
