//! Ctrl-C and its like, while hooks run.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{DRIVER, Hooks};

/// Hooks of which the first begins, by making a file, and waits.
fn waiting() -> Hooks {
    let hooks = Hooks::new().script(DRIVER, "echo begun >&2; : > \"$0.bak\"; sleep 3600 & wait");
    hooks.script("test.d/20-next", ": > \"$0.bak\"")
}

/// Starts the program by a shell that says which signals are ignored, and waits until the hook has begun. Otherwise whoever
/// runs the tests in the background may have them ignore Ctrl-C.
fn started(hooks: &Hooks, ignored: &str, arguments: &str) -> Child {
    let signals = ["HUP", "INT", "TERM"]
        .map(|signal| format!("--{}-signal={signal}", if signal == ignored { "ignore" } else { "default" }));
    let script = format!("exec env {} {} {arguments}", signals.join(" "), env!("CARGO_BIN_EXE_hookvisor"));
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &script]).env("HOOKS", hooks.path()).stdin(Stdio::null()).stderr(Stdio::piped());
    let child = shell.spawn().unwrap();
    while !hooks.path().join("test.bak").exists() {
        thread::yield_now();
    }
    child
}

/// What the program came to: the signal that it ended by, and what it wrote.
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
        assert!(said.starts_with(expected) && said.ends_with(" was cancelled by the host: begun\n"), "{said}");
        assert!(!hooks.path().join("test.d/20-next.bak").exists(), "{arguments}: the next hook was called");
    }
}

#[test]
fn a_signal_that_is_ignored_stays_so() {
    let hooks = waiting();
    let child = started(&hooks, "HUP", "run --hooks $HOOKS test web1 start");
    assert_eq!(ended_by(child, &[Signal::SIGHUP, Signal::SIGTERM], hooks.path()).0, Some(Signal::SIGTERM as i32));
}
