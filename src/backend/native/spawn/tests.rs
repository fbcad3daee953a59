//! What need not be seen in a real host: `tests/integration/faults/children.rs` has the rest.

use super::*;

#[test]
fn what_the_kernel_recorded_is_taken_only_where_it_says_so() {
    let without = u64::from(libc::PIDFD_INFO_PID | libc::PIDFD_INFO_CGROUPID);
    let with = without | u64::from(libc::PIDFD_INFO_EXIT);
    for (status, state) in [
        (0, ExitState::Exited(0)),
        (3 << 8, ExitState::Exited(3)),
        (255 << 8, ExitState::Exited(255)),
        (9, ExitState::Signaled(9)),
        (0x80 | 11, ExitState::Signaled(11)),
        (40, ExitState::Signaled(40)),
    ] {
        assert_eq!(recorded(Ok((with, status))), Ok(Some(state)));
        // Linux 6.13 and 6.14 leave a zero there, which is no success.
        assert_eq!(recorded(Ok((without, status))), Ok(None));
    }
    // Before 6.13 the request is not known; 6.13 and 6.14 know nothing of a process that is gone.
    for unknown in [Errno::ENOTTY, Errno::EINVAL, Errno::ESRCH] {
        assert_eq!(recorded(Err(unknown)), Err(unknown));
    }
}

#[test]
fn a_descriptor_of_anything_else_tells_no_end() {
    let (read, _write) = pipe2(OFlag::O_CLOEXEC).unwrap_or_else(|errno| unreachable!("{errno}"));
    assert_eq!(end_of_reaped(read.as_fd()), None);
}
