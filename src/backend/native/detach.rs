//! Detached commands. Each has a keeper, a small independent process that stops the command when its time is up. It
//! keeps running when the hook or the host ends.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::error::host_error;
use crate::hook::error::LaunchError;

/// The path by which the keeper's program is executed: its standard input.
pub(super) const KEEPER: &str = "/proc/self/fd/0";
/// How long the keeper may take to report the start.
const START_WAIT_MS: u16 = 2000;

/// A detached command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Detached<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) directory: &'a CStr,
    /// Its run time, and the time between SIGTERM and SIGKILL.
    pub(crate) time: Duration,
    pub(crate) grace: Duration,
}

impl Detached<'_> {
    /// The keeper's arguments.
    pub(super) fn keeper_arguments(&self) -> Result<Vec<String>, LaunchError> {
        let program = self.program.to_str().ok_or_else(|| LaunchError::Refused("its path is not UTF-8".to_owned()))?;
        let times = [self.time, self.grace].map(|time| time.as_millis().to_string());
        let arguments = self.arguments.iter().map(|&argument| argument.to_owned());
        Ok(times.into_iter().chain([program.to_owned()]).chain(arguments).collect())
    }
}

/// The streams of a keeper: its program, a pipe for the errno of the command's start, and /dev/null.
pub(super) fn streams(program: OwnedFd, status: OwnedFd) -> Result<[OwnedFd; 3], LaunchError> {
    let null = open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
    Ok([program, status, null.map_err(|errno| host_error("could not open /dev/null", errno))?])
}

/// Why the command could not be executed, if so. Otherwise the keeper closes the pipe.
pub(super) fn failure(status: OwnedFd) -> Option<Errno> {
    let _ = poll(&mut [PollFd::new(status.as_fd(), PollFlags::POLLIN)], PollTimeout::from(START_WAIT_MS));
    let mut errno = [0; 4];
    match File::from(status).read(&mut errno) {
        Ok(4) => Some(Errno::from_raw(i32::from_ne_bytes(errno))),
        Ok(_) | Err(_) => None,
    }
}
