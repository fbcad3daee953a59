//! The three pipes between the host and a hook.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, Bytes};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::unistd::pipe2;

use super::host_error;
use super::spawn;
use crate::capture::Capture;
use crate::hook::error::LaunchError;

/// The host's ends, which never block.
pub(super) struct Ours {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The hook's ends, which do, as a program expects.
pub(super) struct Theirs {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

pub(super) fn create() -> Result<(Ours, Theirs), LaunchError> {
    let make = || {
        let (stdin_read, stdin_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_read, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_read, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
        for ours in [&stdin_write, &stdout_read, &stderr_read] {
            fcntl(ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let ours = Ours { stdin: stdin_write, stdout: stdout_read, stderr: stderr_read };
        let theirs = Theirs { stdin: stdin_read, stdout: stdout_write, stderr: stderr_write };
        Ok((ours, theirs))
    };
    make().map_err(|errno| host_error("could not make a pipe", errno))
}

/// The pipe to a hook's stdin, and what has still to go through it.
pub(super) struct Feed {
    pipe: Option<File>,
    rest: Bytes,
}

impl Feed {
    pub(super) fn new(pipe: OwnedFd, document: Bytes) -> Self {
        Self { pipe: Some(pipe.into()), rest: document }
    }

    /// The descriptor to poll for room, while there is something left to write.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Writes what there is room for. At the end of the document, or once nobody reads any more, the pipe is closed:
    /// a hook may ignore its stdin.
    pub(super) fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        while !self.rest.is_empty() {
            match pipe.write(&self.rest) {
                Ok(n) => self.rest.advance(n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.close();
    }

    pub(super) fn close(&mut self) {
        self.pipe = None;
    }
}

/// The pipe from a hook's stdout or stderr, and what has come through it.
pub(super) struct Drain {
    pub(super) name: &'static str,
    pipe: Option<File>,
    capture: Capture,
}

/// How much is read from one stream before the others have their turn.
const READ_AT_ONCE: usize = 64 << 10;

impl Drain {
    pub(super) fn new(name: &'static str, pipe: OwnedFd, capture: Capture) -> Self {
        Self { name, pipe: Some(pipe.into()), capture }
    }

    /// The descriptor to poll for data, until its end.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, up to one buffer's worth. Returns whether it got any, so that there may be more.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> bool {
        let Some(pipe) = &mut self.pipe else { return false };
        buffer.resize(READ_AT_ONCE, 0);
        match pipe.read(buffer) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                self.capture.push(&buffer[..n]);
                return true;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.pipe = None,
        }
        false
    }

    pub(super) fn into_capture(self) -> Capture {
        self.capture
    }
}

/// Keeps a write to a hook that has closed its stdin from killing the host by SIGPIPE, without touching the host's
/// disposition of it: while this lives the signal is blocked for this thread, and one that came is taken away.
pub(super) struct SigpipeBlocked {
    before: Option<SigSet>,
}

impl SigpipeBlocked {
    pub(super) fn for_this_thread() -> Self {
        if spawn::sigpipe_is_pending() {
            // It is the host's own, blocked by the host already.
            return Self { before: None };
        }
        let mut before = SigSet::empty();
        let blocked: Result<(), Errno> =
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGPIPE)), Some(&mut before));
        Self { before: blocked.is_ok().then_some(before) }
    }
}

impl Drop for SigpipeBlocked {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            spawn::discard_pending_sigpipe();
            let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(before), None);
            debug_assert_eq!(restored, Ok(()), "a mask that was in force can be set again");
        }
    }
}
