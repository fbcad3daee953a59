//! Hosts that collect the exit statuses of all their children. Linux 6.15 and later keep them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hookvisor::{Runtime, Termination};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::waitpid;

use super::Until;
use crate::support::alone::{alone, is_emulated};
use crate::support::leftovers::Leftovers;
use crate::support::program::tell;
use crate::support::{DRIVER, Hooks, event, impatient};

/// The running kernel's version.
fn version() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether this kernel keeps the exit status of a reaped process.
fn is_kept() -> bool {
    let version = version();
    if version < (6, 15) {
        tell("a status that the host has taken is lost here: it is kept from Linux 6.15 on");
    }
    version >= (6, 15)
}

/// The guest's name selects what the hook does.
fn hooks() -> Hooks {
    let leaves = "leaves) (trap '' TERM; sleep 3600) & echo $! >&2; trap 'exit 0' TERM; wait ;;";
    Hooks::new()
        .script(DRIVER, &format!("case $1 in exit*) exit ${{1#exit}} ;; kill*) kill -${{1#kill}} $$ ;; {leaves} esac"))
}

fn check(runtime: &Runtime, object: &str, expected: Termination, is_kept: bool) {
    let report = runtime.run(&event(object, "start"));
    if is_kept {
        assert_eq!(report.hooks[0].termination, expected, "{object}");
    } else if report.hooks[0].termination != expected {
        // Sometimes the status is read in time.
        let said = report.hooks[0].termination.to_string();
        assert!(
            said.starts_with("ended, but its exit status is unavailable: the host process ignores SIGCHLD or waits"),
            "{object}: {said}"
        );
        assert_eq!(report.exit_status(), 125);
    }
}

fn check_all(runtime: &Runtime) {
    let is_kept = is_kept();
    let signaled = |signal, name: &str| Termination::Signaled { signal, name: name.to_owned() };
    for _ in 0..if is_emulated() { 1 } else { 30 } {
        check(runtime, "exit0", Termination::Exited(0), is_kept);
        check(runtime, "exit3", Termination::Exited(3), is_kept);
        check(runtime, "exit255", Termination::Exited(255), is_kept);
        check(runtime, "killKILL", signaled(9, "SIGKILL"), is_kept);
        check(runtime, "kill40", signaled(40, "SIGRTMIN+6"), is_kept);
    }
    // The other member of the group is killed even though its leader's number is free by then.
    let mut limits = impatient();
    limits.grace = Duration::from_millis(300);
    let report = runtime.call(&event("leaves", "start")).limits(limits).run();
    assert_eq!(report.exit_status(), 124, "{report}");
    let member = String::from_utf8(report.hooks[0].stderr.clone()).unwrap();
    let unreachable = report.hooks[0].notes.iter().any(|note| note.starts_with("processes of its group may still run"));
    assert!(!unreachable || version() < (6, 9), "{report:?}");
    if unreachable {
        // Another process may have its number by now, so this is reported and not done.
        let member = nix::unistd::Pid::from_raw(member.trim().parse().unwrap());
        nix::sys::signal::kill(member, Signal::SIGKILL).unwrap();
        return;
    }
    let stat = format!("/proc/{}/stat", member.trim());
    crate::support::wait_until("the group's other member is killed", || {
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[expect(unsafe_code, reason = "changing a disposition affects the whole process, which is this test's own")]
pub(super) fn on_sigchld(handler: SigHandler, flags: SaFlags) {
    // SAFETY: neither SIG_IGN nor SIG_DFL installs a handler.
    unsafe { sigaction(Signal::SIGCHLD, &SigAction::new(handler, flags, SigSet::empty())) }.unwrap();
}

#[test]
fn the_status_is_right_in_a_host_that_ignores_sigchld() {
    alone("faults::children::the_status_is_right_in_a_host_that_ignores_sigchld", || {
        let hooks = hooks();
        let runtime = hooks.runtime();
        let before = Leftovers::now();
        on_sigchld(SigHandler::SigIgn, SaFlags::empty());
        check_all(&runtime);
        on_sigchld(SigHandler::SigDfl, SaFlags::SA_NOCLDWAIT);
        check_all(&runtime);
        on_sigchld(SigHandler::SigDfl, SaFlags::empty());
        check(&runtime, "exit3", Termination::Exited(3), true);
        Leftovers::assert_none_since(&before, "a host that ignores SIGCHLD");
    });
}

#[test]
fn the_status_is_right_in_a_host_that_waits_for_every_child() {
    alone("faults::children::the_status_is_right_in_a_host_that_waits_for_every_child", || {
        let hooks = hooks();
        let runtime = hooks.runtime();
        let before = Leftovers::now();
        let done = AtomicBool::new(false);
        let taken = thread::scope(|scope| {
            let host = scope.spawn(|| {
                let mut taken = 0;
                while !done.load(Ordering::Relaxed) {
                    match waitpid(None, None) {
                        // nix has no name for a real-time signal.
                        Ok(_) | Err(Errno::EINVAL) => taken += 1,
                        Err(Errno::ECHILD) => thread::yield_now(),
                        Err(errno) => unreachable!("{errno}"),
                    }
                }
                taken
            });
            {
                let _until = Until(&done);
                check_all(&runtime);
            }
            host.join().unwrap()
        });
        assert!(taken > 0, "the host came too late each time");
        check(&runtime, "exit3", Termination::Exited(3), true);
        Leftovers::assert_none_since(&before, "a host that waits for every child");
    });
}
