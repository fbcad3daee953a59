//! Starts a process.
//!
//! A plain fork copies the host's page tables, which for a daemon of several GiB takes longer than the rest of a
//! launch. So the child is created by clone(2) with `CLONE_VM | CLONE_VFORK`: it borrows the host's memory, and the
//! calling thread is suspended until the child has executed the program or ended. posix_spawn(3) works the same way,
//! but gives no reliable pidfd and does not report which step failed.
//!
//! This file decides what the child does: the parent prepares a list of [`Step`]s, and [`child`] performs them.
//!
//! A failed step is reported as its number and errno over a close-on-exec pipe, not through the borrowed memory: where
//! clone is emulated (user-mode emulators, some debuggers), the child's memory is a copy.

mod child;
mod restrict;
mod syscall;

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::unistd::pipe2;

use seccompiler::sock_filter;

use self::child::{ERROR_FD, Step};
pub(super) use self::restrict::{LISTENER_FLAG, Restriction};
use super::process::Child;

/// What to start, and what it gets.
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [CString],
    pub(super) envp: &'a [CString],
    pub(super) directory: &'a CStr,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// Where the process writes `+` and its number as a line before it executes the program.
    pub(super) announce_on: Option<BorrowedFd<'a>>,
    /// The rights that the process gives up before it executes the program.
    pub(super) confined: Option<Confined<'a>>,
}

/// The rights that a process gives up.
pub(super) struct Confined<'a> {
    /// In this order, before the filter, which refuses some of them.
    pub(super) before: Vec<Restriction<'a>>,
    /// System calls. Some are questions for the runtime. It must let pass what is sent with [`LISTENER_FLAG`].
    pub(super) filter: &'a [sock_filter],
    /// Refuses this flag, if the filter would ask without it.
    pub(super) last_filter: Option<&'a [sock_filter]>,
    /// In this order, after the filter.
    pub(super) after: Vec<Restriction<'a>>,
    /// Becomes [`CHANNEL_FD`]. Like all descriptors here, its number is [`above_assigned`].
    pub(super) channel: BorrowedFd<'a>,
    /// Becomes [`RULESET_FD`].
    pub(super) ruleset: BorrowedFd<'a>,
}

/// Why nothing was started.
#[derive(Debug)]
pub(super) enum SpawnError {
    /// The host cannot start any process now.
    Host { what: &'static str, errno: Errno },
    /// A process was created, and one of its steps failed. It has ended, and keeps its number until it is reaped.
    Child { child: Child, failed: Failed, errno: Errno },
}

/// The step that failed in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// It could not write to [`Launch::announce_on`].
    Announce,
    /// It could not give up this right.
    Confine(&'static str),
    /// Any other step: what failed.
    Other(&'static str),
}

/// The confined child's socket, on which it sends the descriptor that answers its filter's questions.
pub(super) const CHANNEL_FD: c_int = ERROR_FD + 1;
/// The confined child's Landlock ruleset.
pub(super) const RULESET_FD: c_int = CHANNEL_FD + 1;
/// How long to wait for an emulated vfork, in milliseconds.
const EXEC_WAIT_MS: u16 = 1000;

/// Starts a process in its own process group, in directory `/`, with these three streams and no other descriptor, and
/// with no signal blocked, ignored or handled.
pub(super) fn spawn(launch: Launch<'_>) -> Result<Child, SpawnError> {
    let host = |what| move |errno| SpawnError::Host { what, errno };
    let (error_read, error_write) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(host("could not create a pipe"))?;
    let (argv, envp) = (pointers(launch.argv), pointers(launch.envp));
    let [stdin, stdout, stderr, error] = [launch.stdin, launch.stdout, launch.stderr, error_write].map(above_assigned);
    let moved = host("could not move a descriptor");
    let (stdin, stdout, stderr, error) =
        (stdin.map_err(moved)?, stdout.map_err(moved)?, stderr.map_err(moved)?, error.map_err(moved)?);
    let announce = launch.announce_on.map(|pipe| Step::Announce(pipe.as_raw_fd()));
    // Add new steps before `CloseFrom` if they need a descriptor of the host, and after it otherwise. Steps that reduce
    // the process's rights come as late as possible.
    let mut steps = vec![Step::DefaultSignals, Step::OwnGroup];
    steps.extend(announce);
    steps.extend([
        Step::Directory(launch.directory),
        Step::Stream { from: stdin.as_raw_fd(), to: libc::STDIN_FILENO },
        Step::Stream { from: stdout.as_raw_fd(), to: libc::STDOUT_FILENO },
        Step::Stream { from: stderr.as_raw_fd(), to: libc::STDERR_FILENO },
        Step::ErrorPipe { from: error.as_raw_fd() },
    ]);
    match launch.confined {
        None => steps.extend([Step::CloseFrom(ERROR_FD + 1), Step::UnblockSignals]),
        Some(Confined { before, filter, last_filter, after, channel, ruleset }) => {
            steps.extend(before.into_iter().map(Step::Restrict));
            steps.extend([
                Step::Keep { from: channel.as_raw_fd(), to: CHANNEL_FD },
                Step::Keep { from: ruleset.as_raw_fd(), to: RULESET_FD },
                Step::CloseFrom(RULESET_FD + 1),
                Step::UnblockSignals,
                Step::Restrict(Restriction::AskingFilter { program: filter, send_on: CHANNEL_FD }),
            ]);
            steps.extend(last_filter.map(|filter| Step::Restrict(Restriction::Filter(filter))));
            steps.extend(after.into_iter().map(Step::Restrict));
        }
    }
    steps.push(Step::Execute { program: launch.program, argv: &argv, envp: &envp });
    let child = child::start(&steps, error.as_fd()).map_err(host("could not create a process"))?;
    drop((stdin, stdout, stderr, error));

    let Some([number, errno @ ..]) = failure(error_read) else { return Ok(child) };
    let failed = match steps.get(usize::from(number)) {
        Some(Step::Announce(_)) => Failed::Announce,
        Some(Step::Restrict(restriction)) => Failed::Confine(restriction.failed()),
        step => Failed::Other(step.map_or("could not be started", Step::failed)),
    };
    Err(SpawnError::Child { child, failed, errno: Errno::from_raw(i32::from_ne_bytes(errno)) })
}

/// The child's message on the pipe; `None` after execve has closed it.
///
/// The child has executed the program or ended by now, so this does not wait, with two exceptions. With an emulated
/// vfork, the child may still be running its steps. And a process that the host forks at this moment may hold the pipe
/// open forever. So the wait is bounded.
fn failure(pipe: OwnedFd) -> Option<[u8; 5]> {
    let mut pipe = File::from(pipe);
    let mut message = [0; 5];
    for wait in [EXEC_WAIT_MS, 0] {
        match pipe.read(&mut message) {
            // A write of five bytes to a pipe is atomic.
            Ok(5) => return Some(message),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return None,
        }
        let _ = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], wait);
    }
    None
}

/// The same open file, under a number above those that the child assigns. A host with closed standard streams has
/// descriptors with such low numbers.
pub(super) fn above_assigned(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    let mut copies = vec![];
    let mut last = fd;
    while last.as_raw_fd() <= RULESET_FD {
        let copy = last.try_clone().map_err(|e| e.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))?;
        copies.push(std::mem::replace(&mut last, copy));
    }
    Ok(last)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

#[cfg(test)]
mod tests;
