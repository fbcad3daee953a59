//! A connection of a shim, and the command that it asks for.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::request::{self, Reply, Request};
use crate::backend::native::guard::GuardedGroup;
use crate::backend::native::process::{Child, Reaped};

/// How long a debugger may keep commands that have ended from being reaped.
pub(super) const REAP_WAIT: Duration = Duration::from_secs(1);
/// How long commands may take to end once the hook has ended.
pub(super) const END_WAIT: Duration = Duration::from_millis(500);

/// A connection of a shim.
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// A command whose standard input is read before it is decided on.
    pub(super) waiting: Option<Waiting>,
    pub(super) command: Option<Running>,
}

/// A command that is not decided on yet.
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) stdin: Vec<u8>,
}

/// A command that runs. Its guard ends before it is reaped.
pub(super) struct Running {
    pub(super) guard: Option<GuardedGroup>,
    pub(super) child: Child,
    pub(super) program: PathBuf,
}

impl Connection {
    /// Ends a command that nobody waits for.
    pub(super) fn end(&mut self) {
        if let Some(command) = &self.command {
            command.child.process().signal_group(Signal::SIGKILL);
            command.child.process().wait_for_end(END_WAIT);
            self.ended();
        }
    }

    /// Reaps the command and tells the shim.
    pub(super) fn ended(&mut self) {
        let Some(mut command) = self.command.take() else { return };
        command.guard = None;
        let termination = match command.child.reap(REAP_WAIT) {
            Reaped::Ended(termination) => termination,
            Reaped::NotYet | Reaped::StatusTaken | Reaped::Failed(_) => {
                request::reply(self.socket.as_fd(), &Reply::Failed(125, "the command's exit status is unavailable"));
                return;
            }
        };
        request::reply(self.socket.as_fd(), &Reply::Ended(&termination));
    }
}
