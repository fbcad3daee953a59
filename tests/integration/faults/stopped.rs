//! Hooks that are stopped, by themselves or by others.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use hookvisor::{Decision, Termination};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{TOO_LONG, start};
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event, impatient, wait_until};

/// The process group that a hook has written to a file.
fn group(file: &Path) -> Pid {
    let written = || fs::read_to_string(file).ok().filter(|text| text.ends_with('\n'));
    wait_until("the hook has begun", || written().is_some());
    Pid::from_raw(written().unwrap().trim().parse().unwrap())
}

fn is_stopped(process: Pid) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| stat.contains(") T "))
}

#[test]
fn a_hook_that_stops_itself_times_out() {
    alone("faults::stopped::a_hook_that_stops_itself_times_out", || {
        let hooks = Hooks::new().script(DRIVER, "kill -STOP $$");
        let runtime = hooks.impatient_runtime();
        let before = Leftovers::now();
        // Not after the grace period of 30 s: the hook is continued, so it can act on SIGTERM.
        let began = std::time::Instant::now();
        let report = runtime.run(&event("web1", "start"));
        assert!(began.elapsed() < TOO_LONG / 2, "{:?}", began.elapsed());
        assert_eq!(report.hooks[0].termination, Termination::TimedOut { after: impatient().timeout, of_call: false });
        Leftovers::assert_none_since(&before, "a hook that stopped itself");
    });
}

#[test]
fn a_hook_that_is_stopped_and_continued_succeeds() {
    alone("faults::stopped::a_hook_that_is_stopped_and_continued_succeeds", || {
        let hooks = Hooks::new().script(DRIVER, "echo $$ > \"$0.bak\"; read -r line < \"$0.fifo.bak\"; exit \"$line\"");
        let fifo = hooks.path().join("test.fifo.bak");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let runtime = hooks.runtime();
        let before = Leftovers::now();
        let report = thread::scope(|scope| {
            scope.spawn(|| {
                let group = group(&hooks.path().join("test.bak"));
                killpg(group, Signal::SIGSTOP).unwrap();
                wait_until("it is stopped", || is_stopped(group));
                killpg(group, Signal::SIGCONT).unwrap();
                fs::write(&fifo, "3\n").unwrap();
            });
            runtime.run(&event("web1", "start"))
        });
        assert_eq!(report.hooks[0].termination, Termination::Exited(3));
        Leftovers::assert_none_since(&before, "a hook that was stopped for a while");
    });
}

#[test]
fn a_hook_that_is_stopped_in_its_grace_period_is_killed_after_it() {
    alone("faults::stopped::a_hook_that_is_stopped_in_its_grace_period_is_killed_after_it", || {
        // After SIGTERM, it says so and continues.
        let body = "trap 'echo $$ > \"$0.bak\"' TERM; while :; do sleep 0.01; done";
        let hooks = Hooks::new().script(DRIVER, body);
        let mut limits = impatient();
        limits.grace = Duration::from_secs(1);
        let runtime = hooks.builder().limits(limits.clone()).build().unwrap();
        let before = Leftovers::now();
        let (report, group) = thread::scope(|scope| {
            let stopper = scope.spawn(|| {
                let group = group(&hooks.path().join("test.bak"));
                killpg(group, Signal::SIGSTOP).unwrap();
                group
            });
            let report = runtime.run(&event("web1", "start"));
            (report, stopper.join().unwrap())
        });
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 124), "{report}");
        assert!(report.hooks[0].duration >= limits.timeout + limits.grace, "{report:?}");
        assert!(report.hooks[0].duration < TOO_LONG, "{report:?}");
        wait_until("nobody is left of its group", || killpg(group, None).is_err());
        Leftovers::assert_none_since(&before, "a hook that was stopped in its grace");
        fs::write(hooks.path().join(DRIVER), "#!/bin/sh\nexit 0\n").unwrap();
        assert!(matches!(start(&runtime, "web1"), super::Became::Allowed));
    });
}
