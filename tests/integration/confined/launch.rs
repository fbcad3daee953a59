//! The launch of a confined hook, for which another thread completes the Landlock rules.

use std::fs;
use std::process::Output;

use super::World;
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::program::command;
use crate::support::{DRIVER, Hooks, event, skip};

/// Writes where it may not, and reads what every confined hook may read.
const SCRIPT: &str =
    "#!/bin/bash\necho > /tmp/not-granted || read -r line < /etc/passwd && read -r line < /proc/uptime && exit 9\n";

fn confined(script: &str) -> Hooks {
    let hooks = Hooks::new();
    hooks.file(DRIVER, script, 0o755);
    hooks.file("test.toml", "confine = true", 0o644);
    hooks
}

/// Runs the hook under strace with these options. Returns what strace has written.
fn traced(name: &str, options: &[&str]) -> Option<String> {
    let hooks = confined(SCRIPT);
    let trace = hooks.path().join("trace.bak");
    let mut strace = command("strace");
    strace.args(["-f", "-qq", "-e", "signal=none"]).args(options).arg("-o").arg(&trace);
    strace.arg(env!("CARGO_BIN_EXE_hookvisor")).args(["run", "--hooks"]).arg(hooks.path());
    let ran = strace.args([DRIVER, "web1", "start"]).output();
    let traces = command("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    if !traces.is_ok_and(|traced| traced.status.success()) {
        skip(name, "strace is not installed, or may not trace here");
        return None;
    }
    let Output { status, stderr, .. } = ran.unwrap();
    assert_eq!(status.code(), Some(9), "{}", String::from_utf8_lossy(&stderr));
    Some(fs::read_to_string(trace).unwrap())
}

#[test]
fn without_another_thread_the_hook_runs_and_is_confined() {
    let name = "confined::launch::without_another_thread_the_hook_runs_and_is_confined";
    let options = ["-e", "trace=clone3", "-e", "inject=clone3:error=EAGAIN"];
    let Some(trace) = traced(name, &options) else { return };
    assert!(trace.contains("(INJECTED)"), "{trace}");
}

#[test]
fn no_handler_of_the_host_runs_in_the_other_thread() {
    let name = "confined::launch::no_handler_of_the_host_runs_in_the_other_thread";
    let Some(trace) = traced(name, &["-e", "trace=rt_sigprocmask,clone3"]) else { return };
    let lines: Vec<(&str, &str)> = trace.lines().filter_map(|line| line.split_once(' ')).collect();
    let thread = lines.iter().position(|(_, call)| call.contains("clone3(") && call.contains("CLONE_THREAD")).unwrap();
    let is_mask = |(pid, call): &&(&str, &str)| *pid == lines[thread].0 && call.contains("rt_sigprocmask(");
    // The C library blocks all signals for a moment itself, and sets the mask of the thread to what was blocked before.
    let mut before = lines[..thread].iter().rfind(is_mask).unwrap().1;
    if let Some((_, blocked_before)) = before.split_once("~[], ") {
        before = blocked_before;
    }
    assert!(before.contains("~["), "{trace}");
}

#[test]
fn a_host_with_few_descriptors_left_runs_the_hook_or_says_what_it_lacks() {
    let hooks = confined(SCRIPT);
    let run = |most: u32| {
        let mut shell = command("sh");
        let script = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_hookvisor"), "run", "--hooks"]).arg(hooks.path());
        let Output { status, stderr, .. } = shell.args([DRIVER, "web1", "start"]).output().unwrap();
        (status.code(), String::from_utf8_lossy(&stderr).into_owned())
    };
    for most in 12..30 {
        match run(most) {
            (Some(9), _) => {}
            (Some(125 | 126), said) if said.contains("Too many open files") => {}
            other => panic!("{most}: {other:?}"),
        }
    }
    // Fewer than it has rules.
    assert_eq!(run(30).0, Some(9));
}

#[test]
fn a_granted_directory_that_is_gone_keeps_the_hook_from_running() {
    alone("confined::launch::a_granted_directory_that_is_gone_keeps_the_hook_from_running", || {
        let world = World::new();
        world.hook("#!/bin/sh\necho ran > $WORLD/granted/ran\n", "");
        let runtime = world.hooks.runtime();
        let directory = world.at("read");
        fs::remove_dir_all(&directory).unwrap();
        let before = Leftovers::before();
        let report = runtime.run(&event("web1", "start"));
        let why = format!("its settings grant {}, which cannot be used: ", directory.display());
        assert_eq!(report.exit_status(), 126, "{report}");
        assert!(report.to_string().contains(&why), "{report}");
        assert!(!world.at("granted/ran").exists());
        Leftovers::assert_none_since(&before, "a launch that failed");
    });
}
