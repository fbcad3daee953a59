//! Ctrl-C and similar signals while hooks run.

use std::fs;
use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::processes::{line_of, wait_until};
use crate::support::{DRIVER, Hooks};

/// Hooks. The first creates a file when it starts, and waits.
fn waiting() -> Hooks {
    let hooks = Hooks::new().script(DRIVER, "echo begun >&2; : > \"$0.bak\"; sleep 3600 & wait");
    hooks.script("test.d/20-next", ": > \"$0.bak\"")
}

/// Starts the program from a shell that sets which signals are ignored, and waits until the hook runs. Otherwise a
/// background test run could ignore Ctrl-C.
fn started(hooks: &Hooks, ignored: &str, arguments: &str) -> Child {
    let signals = ["HUP", "INT", "TERM"]
        .map(|signal| format!("--{}-signal={signal}", if signal == ignored { "ignore" } else { "default" }));
    let script = format!("exec env {} {} {arguments}", signals.join(" "), env!("CARGO_BIN_EXE_hookvisor"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).env("HOOKS", hooks.path()).stdin(Stdio::null()).stderr(Stdio::piped());
    // As a shell does for a job. Ctrl-Z has no effect on a group if the parents of all its members are in the group or
    // in another session.
    let child = shell.process_group(0).spawn().unwrap();
    while !hooks.path().join("test.bak").exists() {
        thread::yield_now();
    }
    child
}

/// How the program ended: its signal and its output.
fn ended_by(child: Child, signals: &[Signal], hooks: &Path) -> (Option<i32>, String) {
    for signal in signals {
        kill(Pid::from_raw(child.id().cast_signed()), *signal).unwrap();
    }
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap().replace(&hooks.display().to_string(), "DIR");
    (ended.status.signal(), said)
}

#[test]
fn ctrl_c_ends_the_hook_reports_it_and_then_ends_the_program() {
    for (signal, arguments) in [
        (Signal::SIGINT, "run --hooks $HOOKS test web1 start"),
        (Signal::SIGTERM, "run --hooks $HOOKS test web1 stopped"),
        (Signal::SIGHUP, "exec $HOOKS/test"),
    ] {
        let hooks = waiting();
        let child = started(&hooks, "", arguments);
        let (by, said) = ended_by(child, &[signal], hooks.path());
        assert_eq!(by, Some(signal as i32), "{arguments}: {said}");
        let expected = "Hook script execution failed: Hook script DIR/test";
        assert!(said.starts_with(expected) && said.ends_with(" was interrupted: begun\n"), "{said}");
        assert!(!hooks.path().join("test.d/20-next.bak").exists(), "{arguments}: the next hook was called");
    }
}

/// A sandboxed hook has no poll loop. It is interrupted whether it computes or sleeps.
#[test]
#[cfg(feature = "wasm")]
fn ctrl_c_ends_a_sandboxed_hook() {
    for what in ["spin", "sleep=3600000"] {
        let hooks = Hooks::new().copy(DRIVER, crate::support::guests::wasm_probe());
        let granted = format!("[[dir]]\nhost = {:?}\nguest = \"/d\"\naccess = \"read-write\"\n", hooks.path());
        hooks.file("test.toml", &granted, 0o644);
        let child = started(&hooks, "", &format!("run --hooks $HOOKS test 'write=/d/test.bak:;{what}' start"));
        let (by, said) = ended_by(child, &[Signal::SIGINT], hooks.path());
        assert_eq!(by, Some(Signal::SIGINT as i32), "{what}: {said}");
        assert!(said.contains("Hook script DIR/test was interrupted"), "{what}: {said}");
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let hooks = waiting();
    let child = started(&hooks, "HUP", "run --hooks $HOOKS test web1 start");
    assert_eq!(ended_by(child, &[Signal::SIGHUP, Signal::SIGTERM], hooks.path()).0, Some(Signal::SIGTERM as i32));
}

/// Hooks. The first reports SIGTERM and continues.
fn stubborn() -> Hooks {
    let body = "trap ': > \"$0.asked.bak\"' TERM; : > \"$0.bak\"; while :; do sleep 0.01; done";
    Hooks::new().script(DRIVER, body)
}

#[test]
fn a_second_ctrl_c_kills_the_hook_at_once() {
    for arguments in ["run --hooks $HOOKS test web1 start", "exec $HOOKS/test"] {
        let hooks = stubborn();
        let began = Instant::now();
        let child = started(&hooks, "", arguments);
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
        wait_until("the hook is asked to end", || hooks.path().join("test.asked.bak").exists());
        let (by, said) = ended_by(child, &[Signal::SIGINT], hooks.path());
        // The grace period is 5 s.
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        assert_eq!(by, Some(Signal::SIGINT as i32), "{arguments}: {said}");
    }
}

#[test]
fn a_document_that_does_not_end_can_be_interrupted() {
    for arguments in [&["run", "--hooks", "HOOKS", "test", "web1", "start"][..], &["exec", "HOOKS/test"]] {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookvisor"));
        command.args(arguments.iter().map(|argument| argument.replace("HOOKS", &hooks.path().display().to_string())));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        // The program has read this much once the pipe is full.
        child.stdin.as_mut().unwrap().write_all(&vec![b'x'; 1 << 20]).unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGTERM as i32), "{arguments:?}");
    }
}

fn state(process: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().chars().take(1).collect()
}

#[test]
fn ctrl_z_stops_the_hook_and_the_program_until_both_are_continued() {
    let body = "echo $$ > \"$0.pid.bak\"; : > \"$0.bak\"; until [ -e \"$0.go.bak\" ]; do :; done; exit 3";
    let hooks = Hooks::new().script(DRIVER, body);
    let mut child = started(&hooks, "", "run --hooks $HOOKS test web1 start");
    let program = child.id().to_string();
    let hook = line_of(&hooks.path().join("test.pid.bak"));
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTSTP).unwrap();
    wait_until("both are stopped", || state(&program) == "T" && state(&hook) == "T");
    fs::write(hooks.path().join("test.go.bak"), "").unwrap();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGCONT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}
