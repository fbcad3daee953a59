//! A child process: signalling its group, reading how it ended, and reaping it if nobody could wait for it before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::kernel::{Kernel, Linux, Then, recorded_end};
use crate::report::termination::Termination;

/// Killed children that could not be reaped yet, for example because of an uninterruptible system call. Each launch
/// tries again.
static UNREAPED: Mutex<Vec<Arc<Process>>> = Mutex::new(Vec::new());

/// How long the host's own wait for a child may take.
const OTHERS_WAIT: Duration = Duration::from_secs(1);
/// The pause between two attempts to reap an ended child: a debugger that traces it is served first.
const REAP_PAUSE: Duration = Duration::from_millis(5);

/// A process started by this one, with its number and pidfd.
#[derive(Debug)]
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

/// A process that must still be reaped. Dropping it earlier kills its process group, and a later launch reaps it.
#[derive(Debug)]
pub(super) struct Child {
    process: Arc<Process>,
    reaped: bool,
    /// The process that started it. A fork of that process has no such child.
    parent: u32,
}

/// The result of signalling a process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signalled {
    /// All members got the signal, if there were any.
    Sent,
    /// Somebody else has reaped the leader, and this kernel knows the group only by its number, which another group may
    /// have by now. No process got the signal.
    Unreachable,
}

/// The result of trying to reap a child.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reaped {
    Ended(Termination),
    /// It has not ended, is stuck in the kernel, or is held by a debugger.
    NotYet,
    /// The host has taken its exit status, and this kernel does not keep it.
    StatusTaken,
    Failed(Errno),
}

impl Process {
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to its process group.
    pub(super) fn signal_group(&self, signal: Signal) -> Signalled {
        self.signal_group_by(&Linux, signal)
    }

    fn signal_group_by(&self, kernel: &impl Kernel, signal: Signal) -> Signalled {
        match kernel.signal_group_by_pidfd(self.pidfd(), signal) {
            // A kernel before 6.9, or a filter that does not know the call.
            Err(Errno::EINVAL | Errno::ENOSYS) => {}
            // ESRCH: the whole group has ended. EPERM: it runs as another user, and nothing more can be done.
            Ok(()) | Err(_) => return Signalled::Sent,
        }
        // Until the leader is reaped, no other process can have its number.
        if kernel.wait(self.pidfd(), Then::Leave) == Err(Errno::ECHILD) {
            return Signalled::Unreachable;
        }
        let _ = kernel.signal_group_by_number(self.pid, signal);
        Signalled::Sent
    }

    /// Waits up to this long until it has ended. Returns whether it has.
    pub(super) fn wait_for_end(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut ended = [PollFd::new(self.pidfd(), PollFlags::POLLIN)];
            match poll(&mut ended, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
                Err(Errno::EINTR) => {}
                polled => return polled.is_ok_and(|ready| ready > 0),
            }
        }
    }
}

impl Child {
    pub(super) fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { process: Arc::new(Process { pid, pidfd }), reaped: false, parent: std::process::id() }
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Whether this process started it, and is not a fork of the one that did.
    pub(super) fn is_of_this_process(&self) -> bool {
        self.parent == std::process::id()
    }

    /// Reaps it, and returns how it ended. Waits up to this long for a debugger.
    pub(super) fn reap(&mut self, at_most: Duration) -> Reaped {
        self.reap_by(&Linux, at_most)
    }

    fn reap_by(&mut self, kernel: &impl Kernel, at_most: Duration) -> Reaped {
        let until = Instant::now() + at_most;
        loop {
            let reaped = match kernel.wait(self.process.pidfd(), Then::Reap) {
                Ok(Some(termination)) => Reaped::Ended(termination),
                Ok(None) if Instant::now() < until => {
                    thread::sleep(REAP_PAUSE);
                    continue;
                }
                Ok(None) => return Reaped::NotYet,
                Err(Errno::ECHILD) => self.end_of_reaped(kernel).map_or(Reaped::StatusTaken, Reaped::Ended),
                Err(errno) => Reaped::Failed(errno),
            };
            self.reaped = true;
            return reaped;
        }
    }

    /// How it ended if somebody else has reaped it: the host, or the kernel for a host that ignores SIGCHLD.
    fn end_of_reaped(&self, kernel: &impl Kernel) -> Option<Termination> {
        let pidfd = self.process.pidfd();
        match recorded_end(kernel.exit_info(pidfd)) {
            // The host's wait is still in progress. At its end the pidfd hangs up, an event that poll always reports.
            Ok(None) => {
                let patience = PollTimeout::try_from(OTHERS_WAIT).unwrap_or(PollTimeout::MAX);
                let _ = poll(&mut [PollFd::new(pidfd, PollFlags::empty())], patience);
                recorded_end(kernel.exit_info(pidfd)).ok().flatten()
            }
            recorded => recorded.ok().flatten(),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.reaped || !self.is_of_this_process() {
            return;
        }
        self.process.signal_group(Signal::SIGKILL);
        if self.reap(Duration::ZERO) == Reaped::NotYet {
            UNREAPED.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&self.process));
        }
    }
}

/// Reaps the children that earlier calls could not. It does not wait: another thread may be doing the same, or may have
/// been doing so when this process was forked.
pub(super) fn reap_the_unreaped() {
    if let Ok(mut unreaped) = UNREAPED.try_lock() {
        unreaped.retain(|process| Linux.wait(process.pidfd(), Then::Reap) == Ok(None));
    }
}

#[cfg(test)]
mod tests;
