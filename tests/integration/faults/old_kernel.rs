//! The fallbacks for older kernels, with real processes. `kernels.rs` has real older kernels.

use std::fs::File;
use std::time::Duration;

use hookvisor::Termination;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigHandler};

use super::children::on_sigchld;
use super::vetoed;
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::old_kernel::become_linux_5_8;
use crate::support::processes::{line_of, wait_for_the_end_of};
use crate::support::{DRIVER, Hooks, event, impatient, stderr};

#[test]
fn without_close_range_a_hook_still_has_no_other_descriptor() {
    alone("faults::old_kernel::without_close_range_a_hook_still_has_no_other_descriptor", || {
        // 300 descriptors, most of them above the limit when the hook starts.
        let leaked: Vec<File> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        for file in &leaked {
            fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let hooks = Hooks::new().script(DRIVER, "ls /proc/self/fd >&2; exit 1");
        let runtime = hooks.runtime();
        become_linux_5_8();
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 20, hard).unwrap();
        drop(leaked.into_iter().take(15).collect::<Vec<_>>());
        let report = runtime.run(&event("web1", "start"));
        // The last descriptor is the directory that `ls` reads.
        assert_eq!(stderr(&report), "0\n1\n2\n3\n", "{report}");
    });
}

#[test]
fn a_group_is_signalled_where_only_its_number_is_known() {
    alone("faults::old_kernel::a_group_is_signalled_where_only_its_number_is_known", || {
        let body = "(trap '' TERM; exec sleep 3600) & echo $! > \"$0.pid.bak\"; trap 'exit 0' TERM; wait";
        let hooks = Hooks::new().script(DRIVER, body);
        let mut limits = impatient();
        limits.grace = Duration::from_millis(300);
        let runtime = hooks.builder().limits(limits).build().unwrap();
        become_linux_5_8();
        let before = Leftovers::now();
        let report = runtime.run(&event("web1", "start"));
        assert_eq!(report.exit_status(), 124, "{report}");
        assert_eq!(report.hooks[0].notes, [""; 0]);
        wait_for_the_end_of(&line_of(&hooks.path().join("test.pid.bak")));
        Leftovers::assert_none_since(&before, "a timeout");
    });
}

#[test]
fn a_status_that_the_host_has_taken_is_lost_and_vetoes() {
    alone("faults::old_kernel::a_status_that_the_host_has_taken_is_lost_and_vetoes", || {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        let runtime = hooks.runtime();
        become_linux_5_8();
        on_sigchld(SigHandler::SigIgn, SaFlags::empty());
        let said = vetoed(&runtime, "web1");
        assert!(said.contains("the host process ignores SIGCHLD or waits for every child itself"), "{said}");
        on_sigchld(SigHandler::SigDfl, SaFlags::empty());
        let report = runtime.run(&event("web1", "start"));
        assert_eq!(report.hooks[0].termination, Termination::Exited(0));
    });
}
