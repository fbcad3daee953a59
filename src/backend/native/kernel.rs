//! The system calls that nix lacks, each behind a safe function.
//!
//! [`Kernel`] has the calls that depend on the kernel's version. Tests replace it with an older kernel.
#![expect(unsafe_code, reason = "system calls that nix does not have")]

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::report::termination::Termination;

/// The system calls that depend on the kernel's version.
pub(super) trait Kernel {
    /// Sends a signal to the process group that a process leads or led. Linux 6.9 and later; before that `EINVAL`.
    fn signal_group_by_pidfd(&self, leader: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno>;

    /// Sends a signal to the process group that currently has this number.
    fn signal_group_by_number(&self, group: Pid, signal: Signal) -> Result<(), Errno>;

    /// Reads how a reaped process ended: the valid fields of the answer, and the wait status. Linux 6.15 and later.
    fn exit_info(&self, process: BorrowedFd<'_>) -> Result<(u64, c_int), Errno>;

    /// Checks on a child without waiting: how it ended, or `None` if it has not. `ECHILD` if it was reaped.
    fn wait(&self, child: BorrowedFd<'_>, then: Then) -> Result<Option<Termination>, Errno>;
}

/// Whether this process ignores a signal.
#[must_use]
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: without a new action, the kernel only writes the current one to `now`, for which zeros are a value.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as c_int, ptr::null(), &raw mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Reap,
    Leave,
}

/// The kernel that is running.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linux;

/// `pidfd_send_signal`'s flag for the group that the process leads (linux/pidfd.h).
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

impl Kernel for Linux {
    fn signal_group_by_pidfd(&self, leader: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
        // SAFETY: the arguments are numbers. Without a siginfo_t, the kernel creates one as for kill(2).
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                leader.as_raw_fd(),
                signal as c_int,
                ptr::null::<libc::siginfo_t>(),
                PIDFD_SIGNAL_PROCESS_GROUP,
            )
        };
        Errno::result(sent).map(drop)
    }

    fn signal_group_by_number(&self, group: Pid, signal: Signal) -> Result<(), Errno> {
        killpg(group, signal)
    }

    fn exit_info(&self, process: BorrowedFd<'_>) -> Result<(u64, c_int), Errno> {
        // SAFETY: `info` is all integers, for which zero is a value. The kernel writes no more of it than the size that
        // is part of the request's number.
        unsafe {
            let mut info: libc::pidfd_info = std::mem::zeroed();
            info.mask = libc::PIDFD_INFO_EXIT.into();
            let asked = Errno::result(libc::ioctl(process.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info));
            asked.map(|_| (info.mask, info.exit_code))
        }
    }

    /// nix's `waitid` cannot represent a death by a real-time signal.
    fn wait(&self, child: BorrowedFd<'_>, then: Then) -> Result<Option<Termination>, Errno> {
        let leave = match then {
            Then::Reap => 0,
            Then::Leave => libc::WNOWAIT,
        };
        let id = child.as_raw_fd().cast_unsigned();
        loop {
            // SAFETY: `info` is zeroed, which is a valid siginfo_t, and the kernel may write to it. The fields are read by
            // the accessors for SIGCHLD's siginfo_t.
            let (done, ended, code, status) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let done = libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::WNOHANG | leave);
                (done, info.si_pid() != 0, info.si_code, info.si_status())
            };
            return match (done, code) {
                (0, _) if !ended => Ok(None),
                (0, libc::CLD_EXITED) => Ok(Some(Termination::Exited(status.cast_unsigned().to_le_bytes()[0]))),
                (0, _) => Ok(Some(killed_by(status))),
                _ if Errno::last() == Errno::EINTR => continue,
                _ => Err(Errno::last()),
            };
        }
    }
}

/// The answer of [`Kernel::exit_info`]. Kernels before 6.15 may leave it out.
pub(super) fn recorded_end(answer: Result<(u64, c_int), Errno>) -> Result<Option<Termination>, Errno> {
    let (valid, status) = answer?;
    Ok((valid & u64::from(libc::PIDFD_INFO_EXIT) != 0).then(|| match libc::WIFEXITED(status) {
        true => Termination::Exited(libc::WEXITSTATUS(status).to_le_bytes()[0]),
        false => killed_by(libc::WTERMSIG(status)),
    }))
}

/// The termination by a signal.
pub(super) fn killed_by(signal: c_int) -> Termination {
    Termination::Signaled { signal, name: signal_name(signal) }
}

/// A signal's name. Real-time signals are counted from SIGRTMIN, as shells do.
fn signal_name(signal: c_int) -> String {
    /// The first real-time signal that the C libraries leave to programs.
    const FIRST_REAL_TIME: c_int = 34;
    match signal {
        // The C library's own signals.
        32 => "SIGCANCEL".to_owned(),
        33 => "SIGSETXID".to_owned(),
        FIRST_REAL_TIME => "SIGRTMIN".to_owned(),
        35.. => format!("SIGRTMIN+{}", signal - FIRST_REAL_TIME),
        _ => Signal::try_from(signal).map_or_else(|_| format!("SIG{signal}"), |name| name.as_str().to_owned()),
    }
}

/// Blocks all 64 signals of the kernel for this thread until it is dropped.
///
/// The C library's functions do not block the two signals that it uses itself (32 and 33).
pub(super) struct AllSignalsBlocked {
    before: u64,
}

/// The kernel's signal set: one bit for each of its 64 signals.
pub(super) const SIGSET_SIZE: usize = size_of::<u64>();

impl AllSignalsBlocked {
    pub(super) fn for_this_thread() -> Result<Self, Errno> {
        Ok(Self { before: set_signal_mask(u64::MAX)? })
    }
}

impl Drop for AllSignalsBlocked {
    fn drop(&mut self) {
        let restored = set_signal_mask(self.before);
        debug_assert!(restored.is_ok(), "a mask that was in force can be set again");
    }
}

/// Sets this thread's signal mask, and returns the previous one.
fn set_signal_mask(mask: u64) -> Result<u64, Errno> {
    let mut before = 0_u64;
    // SAFETY: both sets are as large as the size says.
    let set = unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, &raw mut before, SIGSET_SIZE)
    };
    Errno::result(set).map(|_| before)
}

/// Removes a pending SIGPIPE of this thread, which must have it blocked.
pub(super) fn discard_pending_sigpipe() {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `set` is initialized by sigemptyset before its use. A zero timeout only takes what is pending already.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGPIPE);
        while libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const now) == -1 && Errno::last() == Errno::EINTR
        {
        }
    }
}

/// Whether a SIGPIPE is pending for this thread.
pub(super) fn sigpipe_is_pending() -> bool {
    // SAFETY: `set` is written by sigpending before it is read.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigpending(&raw mut set) == 0 && libc::sigismember(&raw const set, libc::SIGPIPE) == 1
    }
}
