//! Starting a process and learning of its end: the one file with `unsafe`.
//!
//! A plain fork copies the page tables of the host, which for a daemon of some GiB takes longer than all the rest of a
//! launch. So the child is made by clone(2) with `CLONE_VM | CLONE_VFORK`: it borrows the host's memory, and the calling
//! thread is suspended until it has executed the hook or left. That is what posix_spawn(3) does too; it is not used
//! because it gives no pidfd that is sure to be this child's, and no way to say which step failed.
//!
//! The rules that follow from borrowed memory:
//! - Every signal is blocked in the calling thread from before the clone, so that no handler of the host runs in the
//!   child. The child sets all dispositions to their defaults before it unblocks anything; the table of dispositions and
//!   that of descriptors are its own (no `CLONE_SIGHAND`, no `CLONE_FILES`), so the host's are untouched.
//! - The child allocates nothing, takes no lock, cannot panic, and calls only async-signal-safe functions. All that it
//!   needs has been made by the parent.
//! - It leaves by execve or `_exit`, and has a stack of its own.
//!
//! A failed execve comes back as errno over a close-on-exec pipe, not through the borrowed memory: where clone is
//! emulated (user-mode emulators, some debuggers) the child's memory is a copy.
#![allow(unsafe_code, reason = "the one place where the operating system is called without nix")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg, pthread_sigmask};
use nix::unistd::{Pid, pipe2};

use super::guard::Pass;

/// What to start, and what it gets.
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [CString],
    pub(super) envp: &'a [CString],
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    /// With it, the process group is under guard before the program is executed.
    pub(super) pass: Option<&'a Pass>,
}

/// A started process, not yet waited for.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Why nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpawnError {
    /// The host cannot start any process now.
    Host { what: &'static str, errno: Errno },
    /// A process was made, and could not become the hook.
    Exec { what: &'static str, errno: Errno },
    /// A process was made, and its guardian could not be told.
    Unguarded { errno: Errno },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExitState {
    Exited(u8),
    Signaled(i32),
}

/// The child's steps, by the number that goes through the pipe.
const STEPS: [&str; 6] = [
    "could not make its process group",
    "could not tell its guardian",
    "could not enter the directory /",
    "could not connect its streams",
    "could not close the host's descriptors",
    "could not be executed",
];
const SETPGID: u8 = 0;
const GUARD: u8 = 1;
const CHDIR: u8 = 2;
const STREAMS: u8 = 3;
const DESCRIPTORS: u8 = 4;
const EXECVE: u8 = 5;

/// How long an emulated vfork is waited for, in milliseconds.
const EXEC_WAIT_MS: u16 = 1000;
/// How long another's wait may take from its beginning to its end, in milliseconds.
const REAP_WAIT_MS: u16 = 1000;
/// pidfd_send_signal's flag for the group that the process leads (linux/pidfd.h, 6.9).
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;
/// The descriptor number at which the child keeps the pipe for its errno.
const ERROR_FD: c_int = 3;
/// The kernel's number of signals, and the bytes of its `sigset_t`, which has a bit for each.
const SIGNALS: c_int = 64;
const SIGSET_SIZE: usize = 8;
const STACK_SIZE: usize = 64 << 10;

/// What the child finds in the borrowed memory.
struct Plan {
    program: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    streams: [c_int; 3],
    error: c_int,
    /// The guardian's pipe; -1 without one.
    guard: c_int,
}

/// Starts a process in a process group of its own, with `/` as its directory, these three streams and no other
/// descriptor, no signal blocked and none ignored or handled.
pub(super) fn spawn(launch: Launch<'_>) -> Result<Child, SpawnError> {
    let host = |what| move |errno| SpawnError::Host { what, errno };
    let (error_read, error_write) =
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(host("could not make a pipe"))?;
    let argv = pointers(launch.argv);
    let envp = pointers(launch.envp);
    // The child moves its descriptors to 0, 1, 2 and 3, so none of them may be there already, as they would be in a
    // host that has closed its own.
    let [stdin, stdout, stderr, error] =
        [launch.stdin, launch.stdout, launch.stderr, error_write].map(above_standard_streams);
    let (stdin, stdout, stderr, error) = (stdin?, stdout?, stderr?, error?);
    let plan = Plan {
        program: launch.program.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        streams: [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()],
        error: error.as_raw_fd(),
        guard: launch.pass.map_or(-1, |pass| pass.pipe().as_raw_fd()),
    };
    let child = clone_vfork(&plan)?;
    drop((stdin, stdout, stderr, error));

    let Some([step, errno @ ..]) = failure(error_read) else { return Ok(child) };
    if let Some(pass) = launch.pass {
        pass.void(child.pid);
    }
    // It has left by _exit already; this takes its remains away.
    let _ = wait(child.pidfd(), WaitFor::Exit);
    let errno = Errno::from_raw(i32::from_ne_bytes(errno));
    if step == GUARD {
        return Err(SpawnError::Unguarded { errno });
    }
    let what = STEPS.get(usize::from(step)).copied().unwrap_or("could not be started");
    Err(SpawnError::Exec { what, errno })
}

/// What the child wrote to the pipe; `None` once execve has closed it.
///
/// By now the child has executed or left, so this need not wait, but for two cases: where vfork is emulated the child may
/// still be on its way; and a process that the host has forked, in that moment, for itself, may hold the pipe for ever.
/// So the wait is a bounded one.
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

fn clone_vfork(plan: &Plan) -> Result<Child, SpawnError> {
    // 16-byte elements give the alignment that every ABI asks of a stack.
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_SIZE / size_of::<u128>());
    let mut pidfd: c_int = -1;
    let mut before = SigSet::empty();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))
        .map_err(|errno| SpawnError::Host { what: "could not block signals", errno })?;
    // SAFETY: the stack is ours, large enough for `child`'s few calls, and passed by its upper end (stacks grow down on
    // every Linux architecture that Rust supports). `plan` and what it points to outlive the child's use of them,
    // because CLONE_VFORK suspends this thread until the child has executed or left. `child` keeps to the rules above.
    // `pidfd` is valid for the kernel to write to, as CLONE_PIDFD asks of the parent_tid argument.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr().add(stack.capacity()).cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            ptr::from_ref(plan).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let errno = Errno::last();
    let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    debug_assert_eq!(restored, Ok(()), "a mask that was in force can be set again");
    if pid == -1 {
        return Err(SpawnError::Host { what: "could not make a process", errno });
    }
    // SAFETY: the clone succeeded, so the kernel has stored a new descriptor here that nobody else knows of.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: Pid::from_raw(pid), pidfd })
}

/// What runs in the child, on borrowed memory.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is the parent's `Plan`, alive and unchanged while it is suspended. Every function called is a thin
    // wrapper of a system call and async-signal-safe; the pointers are to NUL-terminated strings and null-terminated
    // arrays of them.
    unsafe {
        let plan = &*plan.cast::<Plan>().cast_const();
        // The kernel's own structure, all zeros: SIG_DFL, no flags, an empty mask. The C library's sigaction would refuse
        // the two signals that it keeps for itself, which a host can have inherited as ignored. SIGKILL and SIGSTOP fail.
        let default = [0_u64; 8];
        for signal in 1..=SIGNALS {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null::<c_void>(), SIGSET_SIZE);
        }
        let mut failed = None;
        if libc::setpgid(0, 0) != 0 {
            failed = Some(SETPGID);
        } else if plan.guard != -1 && !tell_guardian(plan.guard) {
            failed = Some(GUARD);
        } else if libc::chdir(c"/".as_ptr()) != 0 {
            failed = Some(CHDIR);
        } else if (0..).zip(plan.streams).any(|(to, from)| libc::dup2(from, to) == -1)
            || libc::dup3(plan.error, ERROR_FD, libc::O_CLOEXEC) == -1
        {
            failed = Some(STREAMS);
        } else if close_from(ERROR_FD + 1) != 0 {
            failed = Some(DESCRIPTORS);
        }
        // Before its last step the pipe is still where it was, should it be needed.
        let error = if matches!(failed, None | Some(DESCRIPTORS)) { ERROR_FD } else { plan.error };
        let failed = match failed {
            Some(step) => step,
            None => {
                let mut nothing: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut nothing);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const nothing, ptr::null_mut());
                libc::execve(plan.program, plan.argv, plan.envp);
                EXECVE
            }
        };
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let message = [failed, errno[0], errno[1], errno[2], errno[3]];
        libc::write(error, message.as_ptr().cast(), message.len());
        libc::_exit(127)
    }
}

/// Writes `+` and the process's number as a line to the guardian's pipe, in the child.
fn tell_guardian(pipe: c_int) -> bool {
    // Filled from its end, where there is a newline already; a number has no more than ten digits.
    let mut line = *b"           \n";
    let mut length = 2;
    // SAFETY: it takes nothing and cannot fail.
    let mut rest = unsafe { libc::getpid() }.cast_unsigned();
    for byte in line.iter_mut().rev().skip(1) {
        if rest == 0 {
            *byte = b'+';
            break;
        }
        *byte = b'0' | (rest % 10).to_le_bytes()[0];
        rest /= 10;
        length += 1;
    }
    // SAFETY: the line's last `length` bytes, of which there are no more than it has. The pipe is the parent's, which keeps
    // it open.
    let written = unsafe { libc::write(pipe, line.as_ptr().add(line.len() - length).cast(), length) };
    written == length.cast_signed()
}

/// Closes every descriptor from `first` on, in the child.
///
/// # Safety
/// No descriptor from `first` on may be used afterwards.
unsafe fn close_from(first: c_int) -> c_int {
    // SAFETY: plain system calls on numbers; the caller has no use for the descriptors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, c_int::MAX, 0) == 0 {
            return 0;
        }
        // A kernel before 5.9, or a filter that does not know the call.
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return -1;
        }
        let end = c_int::try_from(limit.rlim_max).unwrap_or(1 << 20);
        for fd in first..end {
            libc::close(fd);
        }
        0
    }
}

/// The same description under a number past the standard streams' and the error pipe's.
fn above_standard_streams(fd: OwnedFd) -> Result<OwnedFd, SpawnError> {
    if fd.as_raw_fd() > ERROR_FD {
        return Ok(fd);
    }
    // SAFETY: fcntl on a descriptor that we own; the result, if it is one, is new and ours.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ERROR_FD + 1) {
            -1 => Err(SpawnError::Host { what: "could not move a descriptor", errno: Errno::last() }),
            new => Ok(OwnedFd::from_raw_fd(new)),
        }
    }
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitFor {
    /// Waits for the end, and takes the process's remains away.
    Exit,
    /// Takes them away if it has ended, and does not wait.
    ExitNow,
}

impl Child {
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal to its process group, if anything is left of that.
    ///
    /// By the pidfd, since a number may have passed to somebody else where the host waits for every child itself. A kernel
    /// before 6.9 knows only the number.
    pub(super) fn signal_group(&self, signal: Signal) {
        let (pidfd, flags) = (self.pidfd.as_raw_fd(), PIDFD_SIGNAL_PROCESS_GROUP);
        // SAFETY: a system call on numbers; without a siginfo_t the kernel makes one as for kill(2).
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd, signal as c_int, ptr::null::<libc::siginfo_t>(), flags)
        };
        if sent == -1 && matches!(Errno::last(), Errno::EINVAL | Errno::ENOSYS) {
            // ESRCH: all of it has gone by itself. EPERM: it has become somebody else, and there is nothing more to do.
            let _ = killpg(self.pid, signal);
        }
    }
}

/// Waits for a process by its pidfd. `None` if it has not ended yet.
///
/// nix's `waitid` is not used: it has no word for a process that a real-time signal killed, and gives an error when the
/// process, and its status, are gone already.
pub(super) fn wait(pidfd: BorrowedFd<'_>, what: WaitFor) -> Result<Option<ExitState>, Errno> {
    let flags = match what {
        WaitFor::Exit => libc::WEXITED,
        WaitFor::ExitNow => libc::WEXITED | libc::WNOHANG,
    };
    let id = pidfd.as_raw_fd().cast_unsigned();
    loop {
        // SAFETY: `info` is zeroed, which is a valid siginfo_t and what tells "nothing yet" from a result, and the
        // kernel may write to it. The fields are read by the accessors that belong to a SIGCHLD's siginfo_t.
        let (done, ended, code, status) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let done = libc::waitid(libc::P_PIDFD, id, &raw mut info, flags);
            (done, info.si_pid() != 0, info.si_code, info.si_status())
        };
        return match (done, code) {
            (0, _) if !ended => Ok(None),
            (0, libc::CLD_EXITED) => Ok(Some(ExitState::Exited(status.cast_unsigned().to_le_bytes()[0]))),
            (0, _) => Ok(Some(ExitState::Signaled(status))),
            _ if Errno::last() == Errno::EINTR => continue,
            _ => Err(Errno::last()),
        };
    }
}

/// The end of a process that somebody else has waited for: the host, or the kernel for a host that ignores SIGCHLD. `None`
/// where the kernel does not keep it, as before 6.15.
pub(super) fn end_of_reaped(pidfd: BorrowedFd<'_>) -> Option<ExitState> {
    match recorded(ask_for_end(pidfd)) {
        // The other's wait is still under way. The hang-up, for which nothing need be asked, is its end.
        Ok(None) => {
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::empty())], REAP_WAIT_MS);
            recorded(ask_for_end(pidfd)).ok().flatten()
        }
        told => told.ok().flatten(),
    }
}

/// The answer to PIDFD_GET_INFO: which of its parts are there, and the wait status.
fn ask_for_end(pidfd: BorrowedFd<'_>) -> Result<(u64, c_int), Errno> {
    // SAFETY: `info` is all integers, for which zero is a value, and the kernel writes no more of it than the size that is
    // part of the request's number.
    unsafe {
        let mut info: libc::pidfd_info = std::mem::zeroed();
        info.mask = libc::PIDFD_INFO_EXIT.into();
        let asked = Errno::result(libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info));
        asked.map(|_| (info.mask, info.exit_code))
    }
}

/// What the kernel recorded, if it says so: one before 6.15 may answer, and leave the end out.
fn recorded(answer: Result<(u64, c_int), Errno>) -> Result<Option<ExitState>, Errno> {
    let (mask, status) = answer?;
    Ok((mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then(|| match libc::WIFEXITED(status) {
        true => ExitState::Exited(libc::WEXITSTATUS(status).to_le_bytes()[0]),
        false => ExitState::Signaled(libc::WTERMSIG(status)),
    }))
}

/// Takes a SIGPIPE away that is pending for this thread, which must have it blocked.
pub(super) fn discard_pending_sigpipe() {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `set` is initialised by sigemptyset before its use, and a zero timeout only takes what is pending already.
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

#[cfg(test)]
mod tests;
