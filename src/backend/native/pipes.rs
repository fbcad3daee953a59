//! The three pipes between the host and a hook.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, Bytes};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::error::host_error;
use crate::capture::Capture;
use crate::hook::error::LaunchError;

/// The host's ends. They do not block.
pub(super) struct ParentEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// The hook's ends. They block, as programs expect.
pub(super) struct ChildEnds {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

pub(super) fn create() -> Result<(ParentEnds, ChildEnds), LaunchError> {
    let make = || {
        let (stdin_read, stdin_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_read, stdout_write) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_read, stderr_write) = pipe2(OFlag::O_CLOEXEC)?;
        for parents in [&stdin_write, &stdout_read, &stderr_read] {
            fcntl(parents, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        let parent = ParentEnds { stdin: stdin_write, stdout: stdout_read, stderr: stderr_read };
        let child = ChildEnds { stdin: stdin_read, stdout: stdout_write, stderr: stderr_write };
        Ok((parent, child))
    };
    make().map_err(|errno| host_error("could not create a pipe", errno))
}

/// Writes the document to a hook's stdin.
pub(super) struct StdinWriter {
    pipe: Option<File>,
    rest: Bytes,
}

impl StdinWriter {
    pub(super) fn new(pipe: OwnedFd, document: Bytes) -> Self {
        Self { pipe: Some(pipe.into()), rest: document }
    }

    /// The descriptor to poll for room, until the document is written.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Writes as much as fits. Closes the pipe at the end of the document, or if nothing reads it: a hook may ignore
    /// its stdin.
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

/// Reads a hook's stdout or stderr, and keeps as much as the limits allow.
pub(super) struct OutputReader {
    pub(super) name: &'static str,
    pipe: Option<File>,
    capture: Capture,
}

/// How much is read from one stream before the other is checked. More would be a new mapping of the allocator's.
const READ_AT_ONCE: usize = 16 << 10;

impl OutputReader {
    pub(super) fn new(name: &'static str, pipe: OwnedFd, capture: Capture) -> Self {
        Self { name, pipe: Some(pipe.into()), capture }
    }

    /// The descriptor to poll for data, until end of file.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads up to one buffer, and returns the number of bytes.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> usize {
        buffer.clear();
        buffer.reserve_exact(READ_AT_ONCE);
        while let Some(pipe) = &self.pipe {
            // Pages that nothing is read into are never touched.
            match rustix::io::read(pipe, spare_capacity(buffer)) {
                Ok(0) => self.pipe = None,
                Ok(n) => {
                    self.capture.push(buffer);
                    return n;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return 0,
                Err(_) => self.pipe = None,
            }
        }
        0
    }

    /// Reads everything that is in the pipe now, and no more, since a background process may write forever. This
    /// includes all that the hook itself wrote, whatever size it gave the pipe.
    pub(super) fn read_what_is_there(&mut self, buffer: &mut Vec<u8>) {
        let Some(pipe) = &self.pipe else { return };
        let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).ok().and_then(|bytes| usize::try_from(bytes).ok());
        let mut left = capacity.unwrap_or(READ_AT_ONCE);
        while left > 0 {
            match self.read(buffer) {
                0 => return,
                read => left = left.saturating_sub(read),
            }
        }
    }

    pub(super) fn into_capture(self) -> Capture {
        self.capture
    }
}
