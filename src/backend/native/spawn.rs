//! Starting a process.
//!
//! A plain fork copies the host's page tables, which for a daemon of some GiB takes longer than all the rest of a launch.
//! So the child is made by clone(2) with `CLONE_VM | CLONE_VFORK`: it borrows the host's memory, and the calling thread is
//! suspended until the child has executed the program or has ended. posix_spawn(3) does the same; it is not used because it
//! gives no pidfd that is sure to be this child's, and does not say which step failed.
//!
//! This file decides what the child does: a list of [`Step`]s, made by the parent. [`child`] does it.
//!
//! A step that fails comes back as its number and its errno over a close-on-exec pipe, not through the borrowed memory:
//! where clone is emulated (user-mode emulators, some debuggers) the child's memory is a copy.

mod child;

use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::pipe2;

use self::child::{ERROR_FD, Step};
use super::process::Child;

/// What to start, and what it gets.
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [CString],
    pub(super) envp: &'a [CString],
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Where the process writes `+` and its number as a line before it executes the program.
    pub(super) announce_on: Option<BorrowedFd<'a>>,
}

/// Why nothing was started.
#[derive(Debug)]
pub(super) enum SpawnError {
    /// The host cannot start any process now.
    Host { what: &'static str, errno: Errno },
    /// A process was made, and a step failed in it. It has ended, and its number is its own until it is reaped.
    Child { child: Child, failed: Failed, errno: Errno },
}

/// The step that failed in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// It could not write to [`Launch::announce_on`].
    Announce,
    /// Any other: what could not be done.
    Other(&'static str),
}

/// How long an emulated vfork is waited for, in milliseconds.
const EXEC_WAIT_MS: u16 = 1000;

/// Starts a process in a process group of its own, with `/` as its directory, these three streams and no other
/// descriptor, no signal blocked, ignored or handled.
pub(super) fn spawn(launch: Launch<'_>) -> Result<Child, SpawnError> {
    let host = |what| move |errno| SpawnError::Host { what, errno };
    let (error_read, error_write) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(host("could not make a pipe"))?;
    let (argv, envp) = (pointers(launch.argv), pointers(launch.envp));
    let [stdin, stdout, stderr, error] =
        [launch.stdin, launch.stdout, launch.stderr, error_write].map(above_standard_streams);
    let (stdin, stdout, stderr, error) = (stdin?, stdout?, stderr?, error?);
    let announce = launch.announce_on.map(|pipe| Step::Announce(pipe.as_raw_fd()));
    // New steps go before `CloseFrom` if they need a descriptor of the host's, and after it if not. What narrows the
    // process's rights goes as late as its own step's needs allow.
    let mut steps = vec![Step::DefaultSignals, Step::OwnGroup];
    steps.extend(announce);
    steps.extend([
        Step::Directory(c"/"),
        Step::Stream { from: stdin.as_raw_fd(), to: libc::STDIN_FILENO },
        Step::Stream { from: stdout.as_raw_fd(), to: libc::STDOUT_FILENO },
        Step::Stream { from: stderr.as_raw_fd(), to: libc::STDERR_FILENO },
        Step::ErrorPipe { from: error.as_raw_fd() },
        Step::CloseFrom(ERROR_FD + 1),
        Step::UnblockSignals,
        Step::Execute { program: launch.program, argv: &argv, envp: &envp },
    ]);
    let child = child::start(&steps, error.as_fd()).map_err(host("could not make a process"))?;
    drop((stdin, stdout, stderr, error));

    let Some([number, errno @ ..]) = failure(error_read) else { return Ok(child) };
    let failed = match steps.get(usize::from(number)) {
        Some(Step::Announce(_)) => Failed::Announce,
        step => Failed::Other(step.map_or("could not be started", Step::failed)),
    };
    Err(SpawnError::Child { child, failed, errno: Errno::from_raw(i32::from_ne_bytes(errno)) })
}

/// What the child wrote to the pipe; `None` once execve has closed it.
///
/// By now the child has executed the program or ended, so this does not wait, with two exceptions: where vfork is emulated
/// the child may still be on its way, and a process that the host forks for itself at this moment may hold the pipe open
/// for ever. So the wait is bounded.
fn failure(pipe: OwnedFd) -> Option<[u8; 5]> {
    let mut pipe = File::from(pipe);
    let mut message = [0; 5];
    for wait in [EXEC_WAIT_MS, 0] {
        match pipe.read(&mut message) {
            // Five bytes are written to a pipe in one piece.
            Ok(5) => return Some(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return None,
        }
        let _ = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], wait);
    }
    None
}

/// The same description under a number above the standard streams' and the error pipe's, which the child assigns anew. A
/// host that has closed its own streams has descriptors there.
fn above_standard_streams(fd: OwnedFd) -> Result<OwnedFd, SpawnError> {
    let moved = || {
        if fd.as_raw_fd() > ERROR_FD {
            return Ok(fd);
        }
        // The standard library gives copies that are above the standard streams. The first may have ERROR_FD itself, and
        // then the second has not.
        let first = fd.try_clone()?;
        if first.as_raw_fd() > ERROR_FD { Ok(first) } else { first.try_clone() }
    };
    moved().map_err(|error: io::Error| SpawnError::Host {
        what: "could not move a descriptor",
        errno: error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw),
    })
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests;
