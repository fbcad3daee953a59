//! Commands of a sandboxed hook: only the granted ones run, and within the hook's own limits.

use std::fs;
use std::time::{Duration, Instant};

use hookvisor::{Event, Limits, Report, Termination};

use crate::support::alone::alone;
use crate::support::guests::wasm_for;
use crate::support::leftovers::Leftovers;
use crate::support::{Hooks, stderr};

const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];
/// A shell with any one script, and an echo with fixed arguments.
const GRANTS: &str = "\
[[command]]
program = '/bin/sh'
args = ['-c', '*']

[[command]]
program = '/bin/echo'
args = ['guest', '*', '{object}', { regex = '[0-9]+' }]
";

/// A hook for a target that runs the command in the event's extra argument.
fn hook(target: &str, settings: &str) -> Hooks {
    let hooks = Hooks::new().copy("qemu.d/10-sdk.wasm", &wasm_for("sdk", target));
    hooks.file("qemu.d/10-sdk.toml", format!("{settings}\n{GRANTS}"), 0o644);
    hooks
}

fn limits(timeout: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.timeout = timeout;
    limits.grace = Duration::from_millis(300);
    limits
}

/// The result of one command, and its duration.
fn run(hooks: &Hooks, limits: Limits, command: &str, document: impl Into<Vec<u8>>) -> (Report, Duration) {
    let runtime = hooks.builder().limits(limits).build().unwrap();
    let event = Event::new("qemu", "web1", "start").unwrap().with_extra(&format!("run={command}")).unwrap();
    let began = Instant::now();
    let report = runtime.run(&event.with_document(document.into()));
    (report, began.elapsed())
}

const PATIENT: Duration = Duration::from_secs(60);

/// The text that the hook got, and vetoed with.
fn told(hooks: &Hooks, command: &str) -> String {
    let (report, _) = run(hooks, limits(PATIENT), command, "<domain/>");
    assert_eq!(report.exit_status(), 1, "{report}");
    stderr(&report)
}

/// Whether a process with this text in its arguments runs.
fn runs(what: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut arguments = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    arguments.any(|arguments| String::from_utf8_lossy(&arguments).split('\0').any(|argument| argument.contains(what)))
}

#[test]
fn commands_that_are_not_listed_exactly_are_refused() {
    for target in TARGETS {
        let hooks = hook(target, "");
        let granted = told(&hooks, "/bin/echo guest any_thing web1 42");
        assert_eq!(granted, "it exited with 0, wrote 24 bytes and said \"\"\n", "{target}");
        for command in [
            // Another program, under any name.
            "/bin/cat /etc/passwd",
            "/usr/bin/env",
            "/bin/../bin/sh -c true",
            "./sh -c true",
            "/bin/sh%0 -c true",
            "",
            // Other arguments.
            "/bin/sh",
            "/bin/sh -c",
            "/bin/sh -c true more",
            "/bin/sh -x true",
            "/bin/echo guest any web2 42",
            "/bin/echo guest any web1 42 more",
            "/bin/echo guest any web1 4_2",
            "/bin/echo guest any web1 42%n",
            "/bin/echo guest any web1 42%0",
            // Arguments that a star does not match.
            "/bin/echo guest --help web1 42",
            "/bin/echo guest - web1 42",
            "/bin/echo guest any%nother web1 42",
            "/bin/echo guest any%0other web1 42",
            "/bin/echo guest  web1 42",
            "/bin/sh -c --version",
        ] {
            let (report, _) = run(&hooks, limits(PATIENT), command, "");
            let said = stderr(&report);
            assert!(said.starts_with("refused: this hook may not run "), "{target}: {command:?}: {said}");
            let note = &report.hooks[0].notes[0];
            assert!(note.starts_with("it asked for a command that its settings do not list; "), "{command:?}: {note}");
            // One sentence and three lines of TOML, whatever the hook requested.
            assert!(note.lines().count() == 4 && !note.contains('\0'), "{command:?}: {note:?}");
        }
    }
}

#[test]
fn a_command_inherits_no_environment_of_host_or_hook() {
    for target in TARGETS {
        let hooks = hook(target, "env = { SECRET = 'of the hook' }");
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some(), "the host has a variable that would be seen");
        let seen = told(&hooks, "/bin/sh -c env_|_cut_-d=_-f1_|_sort_|_tr_'\\n'_'_'_>&2");
        let names = seen.split('"').nth(1).unwrap().split(' ').filter(|name| !name.is_empty());
        let known = ["HOME", "LC_ALL", "LOGNAME", "PATH", "PWD", "TMPDIR", "USER", "_", "SHLVL", "OLDPWD"];
        let names: Vec<&str> = names.collect();
        assert!(names.contains(&"LC_ALL") && names.iter().all(|name| known.contains(name)), "{target}: {names:?}");
    }
}

#[test]
fn a_command_and_its_group_end_at_the_hook_s_timeout() {
    alone("brokered::a_command_and_its_group_end_at_the_hook_s_timeout", || {
        for target in TARGETS {
            let hooks = hook(target, "");
            told(&hooks, "/bin/sh -c true");
            let before = Leftovers::before();
            for (command, marker) in [
                ("/bin/sh -c sleep_72611", "72611"),
                ("/bin/sh -c sleep_72612_&_sleep_72612_&_wait", "72612"),
                ("/bin/sh -c trap_''_TERM;_while_:;_do_sleep_72613;_done", "72613"),
            ] {
                let (report, took) = run(&hooks, limits(Duration::from_secs(2)), command, "");
                assert!(
                    matches!(report.hooks[0].termination, Termination::TimedOut { .. }),
                    "{target}: {command}: {report}"
                );
                assert!(took < Duration::from_secs(20), "{target}: {command}: {took:?}");
                assert!(!runs(marker), "{target}: {command}");
                Leftovers::assert_none_since(&before, command);
            }
        }
    });
}

#[test]
fn a_command_s_output_is_bounded_and_unread_input_is_no_error() {
    alone("brokered::a_command_s_output_is_bounded_and_unread_input_is_no_error", || {
        for target in TARGETS {
            let hooks = hook(target, "memory = '512MiB'");
            told(&hooks, "/bin/sh -c true");
            let before = Leftovers::before();
            let flood = told(&hooks, "/bin/sh -c head_-c_2G_/dev/zero;_exit_7");
            assert_eq!(flood, "it exited with 7, wrote 8388608 bytes and said \"\"\n", "{target}");
            let stderr_flood = told(&hooks, "/bin/sh -c head_-c_1G_/dev/zero_>&2;_exit_8");
            assert!(stderr_flood.starts_with("it exited with 8, wrote 0 bytes and said "), "{target}");
            assert!(stderr_flood.len() < 1 << 20, "{target}: {}", stderr_flood.len());

            let (report, took) = run(&hooks, limits(PATIENT), "/bin/sh -c exit_9", vec![b'x'; 50 << 20]);
            assert_eq!(stderr(&report), "it exited with 9, wrote 0 bytes and said \"\"\n", "{target}: {report}");
            assert!(took < PATIENT, "{took:?}");
            Leftovers::assert_none_since(&before, "floods");
        }
    });
}

#[test]
fn a_background_process_of_a_command_is_not_waited_for() {
    alone("brokered::a_background_process_of_a_command_is_not_waited_for", || {
        for target in TARGETS {
            let hooks = hook(target, "");
            told(&hooks, "/bin/sh -c true");
            let before = Leftovers::before();
            // A grandchild in its own session, with all three pipes open.
            let (report, took) =
                run(&hooks, limits(PATIENT), "/bin/sh -c (setsid_sleep_31_&)_;_echo_done;_exit_5", "<domain/>");
            assert_eq!(stderr(&report), "it exited with 5, wrote 5 bytes and said \"\"\n", "{target}");
            assert!(took < Duration::from_secs(20), "{took:?}");
            let note = &report.hooks[0].notes[0];
            assert!(note.starts_with("/bin/sh: ") && note.contains("sleep"), "{target}: {note}");
            Leftovers::assert_none_since(&before, "a background process");
        }
    });
}

#[test]
fn what_a_command_reads_is_checked_before_it_starts() {
    for target in TARGETS {
        let hooks = hook(target, "");
        let grant = "[[command]]\nprogram = '/bin/cat'\nstdin = { lines = 'add [a-z]+' }\n";
        hooks.file("qemu.d/10-sdk.toml", grant, 0o644);
        let ran = |document: &str| run(&hooks, limits(PATIENT), "/bin/cat", document).0;
        assert_eq!(stderr(&ran("add one\nadd two\n")), "it exited with 0, wrote 16 bytes and said \"\"\n", "{target}");
        let report = ran("add one\nflush\n");
        let said = stderr(&report);
        assert!(said.starts_with("refused: this hook may not run "), "{target}: {said}");
        let note = report.hooks[0].notes.join("\n").replace(&hooks.path().display().to_string(), "HOOKS");
        assert_eq!(
            note,
            "`stdin` in HOOKS/qemu.d/10-sdk.toml does not allow the stdin that it gave /bin/cat: line 2 does not match: \
             \"flush\"; to allow it, write in HOOKS/qemu.d/10-sdk.toml:\n    stdin = { lines = \"add [a-z]+|flush\" }"
        );
    }
}
