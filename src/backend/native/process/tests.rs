//! Simulated older kernels. `tests/integration/faults/children.rs` tests the running one.

use std::cell::RefCell;
use std::ffi::c_int;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::*;

/// A kernel with fixed answers, which records the signals by number.
struct Faked {
    by_pidfd: Result<(), Errno>,
    wait: Result<Option<Termination>, Errno>,
    exit_info: Result<(u64, c_int), Errno>,
    by_number: RefCell<Vec<(Pid, Signal)>>,
}

/// Linux 6.1, with a running child.
fn linux_6_1() -> Faked {
    Faked { by_pidfd: Err(Errno::EINVAL), wait: Ok(None), exit_info: Err(Errno::ENOTTY), by_number: RefCell::default() }
}

impl Kernel for Faked {
    fn signal_group_by_pidfd(&self, _leader: BorrowedFd<'_>, _signal: Signal) -> Result<(), Errno> {
        self.by_pidfd
    }

    fn signal_group_by_number(&self, group: Pid, signal: Signal) -> Result<(), Errno> {
        self.by_number.borrow_mut().push((group, signal));
        Ok(())
    }

    fn exit_info(&self, _process: BorrowedFd<'_>) -> Result<(u64, c_int), Errno> {
        self.exit_info
    }

    fn wait(&self, _child: BorrowedFd<'_>, _then: Then) -> Result<Option<Termination>, Errno> {
        self.wait.clone()
    }
}

/// A child that does not exist: an impossible number, and a descriptor that hangs up at once.
fn child() -> Child {
    let (read, _write) = pipe2(OFlag::O_CLOEXEC).unwrap_or_else(|errno| unreachable!("{errno}"));
    Child::new(Pid::from_raw(i32::MAX), read)
}

#[test]
fn a_group_is_signalled_by_number_only_while_that_is_its_own() {
    let child = child();
    let signalled = |kernel: &Faked| {
        let went = child.process().signal_group_by(kernel, Signal::SIGTERM);
        (went, kernel.by_number.borrow().len())
    };
    let with_pidfds = Faked { by_pidfd: Ok(()), ..linux_6_1() };
    assert_eq!(signalled(&with_pidfds), (Signalled::Sent, 0));
    let all_gone = Faked { by_pidfd: Err(Errno::ESRCH), ..linux_6_1() };
    assert_eq!(signalled(&all_gone), (Signalled::Sent, 0));

    assert_eq!(signalled(&linux_6_1()), (Signalled::Sent, 1));
    let zombie = Faked { wait: Ok(Some(Termination::Exited(0))), ..linux_6_1() };
    assert_eq!(signalled(&zombie), (Signalled::Sent, 1));
    let filtered = Faked { by_pidfd: Err(Errno::ENOSYS), ..linux_6_1() };
    assert_eq!(signalled(&filtered), (Signalled::Sent, 1));
    // The host has reaped it: another process may have the number.
    let reaped = Faked { wait: Err(Errno::ECHILD), ..linux_6_1() };
    assert_eq!(signalled(&reaped), (Signalled::Unreachable, 0));
}

#[test]
fn the_exit_status_is_read_wherever_it_is() {
    let exit = u64::from(libc::PIDFD_INFO_EXIT);
    let reaped = |kernel: &Faked| child().reap_by(kernel, Duration::ZERO);
    let taken = || Faked { wait: Err(Errno::ECHILD), ..linux_6_1() };
    let three = Termination::Exited(3);
    assert_eq!(reaped(&Faked { wait: Ok(Some(three.clone())), ..linux_6_1() }), Reaped::Ended(three.clone()));
    assert_eq!(reaped(&Faked { exit_info: Ok((exit, 3 << 8)), ..taken() }), Reaped::Ended(three));
    assert_eq!(reaped(&taken()), Reaped::StatusTaken);
    // Linux 6.13 and 6.14 leave a zero there, which does not mean success.
    assert_eq!(reaped(&Faked { exit_info: Ok((0, 0)), ..taken() }), Reaped::StatusTaken);
    // A debugger holds it.
    assert_eq!(reaped(&linux_6_1()), Reaped::NotYet);
}

#[test]
fn an_exit_status_is_used_only_if_the_kernel_marks_it_valid() {
    let without = u64::from(libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CGROUPID);
    let with = without | u64::from(libc::PIDFD_INFO_EXIT);
    let signaled = |signal, name: &str| Termination::Signaled { signal, name: name.to_owned() };
    for (status, end) in [
        (0, Termination::Exited(0)),
        (3 << 8, Termination::Exited(3)),
        (255 << 8, Termination::Exited(255)),
        (9, signaled(9, "SIGKILL")),
        (0x80 | 11, signaled(11, "SIGSEGV")),
        (32, signaled(32, "SIGCANCEL")),
        (33, signaled(33, "SIGSETXID")),
        (34, signaled(34, "SIGRTMIN")),
        (40, signaled(40, "SIGRTMIN+6")),
    ] {
        assert_eq!(recorded_end(Ok((with, status))), Ok(Some(end)));
        assert_eq!(recorded_end(Ok((without, status))), Ok(None));
    }
    // Kernels before 6.13 do not know the request. 6.13 and 6.14 know nothing about reaped processes.
    for unknown in [Errno::ENOTTY, Errno::EINVAL, Errno::ESRCH] {
        assert_eq!(recorded_end(Err(unknown)), Err(unknown));
    }
    // The running kernel answers so for no other descriptor.
    assert_eq!(child().end_of_reaped(&Linux), None);
}
