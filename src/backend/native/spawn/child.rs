//! The child's side of a launch: the code between clone and execve, on the host's memory.
//!
//! Borrowed memory requires these rules:
//! - All signals are blocked in the calling thread from before the clone, so that no handler of the host runs in the child,
//!   and thread cancellation is off. The child's table of dispositions and its table of descriptors are its own (no
//!   `CLONE_SIGHAND`, no `CLONE_FILES`), so the host's are untouched.
//! - The child allocates nothing, takes no lock, cannot panic, and makes only raw system calls. The parent prepares all
//!   its data as a list of [`Step`]s.
//! - It ends with execve or `_exit`, and has its own stack.
#![expect(unsafe_code, reason = "a process on borrowed memory, and raw system calls in it")]

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::restrict::{self, Restriction};
use super::syscall::{address, call};
use crate::backend::native::kernel::{AllSignalsBlocked, SIGSET_SIZE};
use crate::backend::native::process::Child;
use crate::pthread::CancellationOff;

/// The number of the child's pipe for its errno.
pub(super) const ERROR_FD: c_int = 3;
/// The kernel's number of signals.
const SIGNALS: c_int = 64;
const STACK_SIZE: usize = 16 << 10;

/// One step of the child before it executes the program. Each is one system call, or a loop of one.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Sets all signal dispositions to their defaults.
    DefaultSignals,
    /// Creates its own process group.
    OwnGroup,
    /// Writes `+` and its number as a line to this descriptor.
    Announce(c_int),
    /// Changes the working directory.
    Directory(&'a CStr),
    /// Replaces one of the standard streams with this descriptor.
    Stream { from: c_int, to: c_int },
    /// Moves the pipe for its errno from this descriptor to [`ERROR_FD`].
    ErrorPipe { from: c_int },
    /// Gives up some of its rights.
    Restrict(Restriction<'a>),
    /// Moves a descriptor to another number. execve closes it.
    Keep { from: c_int, to: c_int },
    /// Closes every descriptor from this number on. Until here, the host's descriptors are open.
    CloseFrom(c_int),
    /// The same without close_range(2): Linux before 5.9, and filters that do not know the call.
    #[cfg(test)]
    CloseListedFrom(c_int),
    /// Unblocks all signals.
    UnblockSignals,
    /// Executes the program. Both arrays end with a null pointer.
    Execute { program: &'a CStr, argv: &'a [*const c_char], envp: &'a [*const c_char] },
}

impl Step<'_> {
    /// What failed, as a fragment after "could not be run: ".
    pub(super) fn failed(&self) -> &'static str {
        match self {
            Self::DefaultSignals | Self::UnblockSignals => "could not reset its signals",
            Self::OwnGroup => "could not create its process group",
            Self::Announce(_) => "could not be announced to the guardian process",
            Self::Directory(_) => "could not enter its directory",
            Self::Restrict(restriction) => restriction.failed(),
            Self::Stream { .. } | Self::ErrorPipe { .. } | Self::Keep { .. } => "could not connect its streams",
            Self::CloseFrom(_) => {
                "could not close the host's descriptors (this needs close_range, Linux 5.9, or a mounted /proc)"
            }
            #[cfg(test)]
            Self::CloseListedFrom(_) => "could not close the host's descriptors",
            Self::Execute { .. } => "could not be executed",
        }
    }
}

/// The child's data in the borrowed memory.
struct Plan<'a> {
    steps: &'a [Step<'a>],
    /// The pipe for its errno, before it is moved.
    error: c_int,
}

/// Starts a child that performs these steps. The last step must be [`Step::Execute`]. A failed step writes its number
/// and errno to `error`.
pub(super) fn start(steps: &[Step<'_>], error: BorrowedFd<'_>) -> Result<Child, Errno> {
    let plan = Plan { steps, error: error.as_raw_fd() };
    // Elements of 16 bytes give the stack alignment that every ABI requires.
    let mut stack: Vec<u128> = Vec::with_capacity(STACK_SIZE / size_of::<u128>());
    let mut pidfd: c_int = -1;
    let cancellation_off = CancellationOff::for_this_thread();
    let signals_blocked = AllSignalsBlocked::for_this_thread()?;
    // SAFETY: the stack is ours, large enough for `child`'s few calls, and passed by its upper end (stacks grow down on
    // every Linux architecture that Rust supports). `plan` and what it points to outlive the child's use of them,
    // because CLONE_VFORK suspends this thread until the child has executed the program or ended. `child` keeps to the rules
    // above. The kernel may write to `pidfd`, as CLONE_PIDFD asks of the parent_tid argument.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr().add(stack.capacity()).cast::<c_void>(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD,
            ptr::from_ref(&plan).cast_mut().cast::<c_void>(),
            &raw mut pidfd,
        )
    };
    let errno = Errno::last();
    drop(signals_blocked);
    drop(cancellation_off);
    if pid == -1 {
        return Err(errno);
    }
    // SAFETY: the clone succeeded, so the kernel has stored a new descriptor here that nobody else knows.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child::new(Pid::from_raw(pid), pidfd))
}

/// The child's code.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `plan` is the parent's, alive and unchanged while the parent is suspended.
    let plan = unsafe { &*plan.cast::<Plan<'_>>().cast_const() };
    let mut error = plan.error;
    for (number, step) in (0_u8..).zip(plan.steps) {
        if let Err(errno) = take(step) {
            let errno = errno.to_ne_bytes();
            let message = [number, errno[0], errno[1], errno[2], errno[3]];
            // SAFETY: the message is as long as the call is told.
            let _ = unsafe { call(libc::SYS_write, [error.into(), address(&raw const message), 5, 0, 0, 0]) };
            break;
        }
        if matches!(step, Step::ErrorPipe { .. }) {
            error = ERROR_FD;
        }
    }
    // SAFETY: it does not return, and runs none of the host's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Does one step.
fn take(step: &Step<'_>) -> Result<(), c_int> {
    // SAFETY: each call gets numbers, or pointers to what the parent keeps alive and as long as it says. The child's tables
    // of descriptors and dispositions, its group and its mask are its own.
    unsafe {
        match *step {
            Step::DefaultSignals => {
                default_signals();
                Ok(())
            }
            Step::OwnGroup => call(libc::SYS_setpgid, [0; 6]).map(drop),
            Step::Announce(to) => announce(to),
            Step::Directory(path) => call(libc::SYS_chdir, [address(path.as_ptr()), 0, 0, 0, 0, 0]).map(drop),
            Step::Stream { from, to } => duplicate(from, to, 0),
            Step::ErrorPipe { from } => duplicate(from, ERROR_FD, libc::O_CLOEXEC),
            Step::Restrict(ref restriction) => restrict::apply(restriction),
            Step::Keep { from, to } => duplicate(from, to, libc::O_CLOEXEC),
            Step::CloseFrom(first) => {
                let last = c_long::from(c_int::MAX);
                match call(libc::SYS_close_range, [first.into(), last, 0, 0, 0, 0]) {
                    Ok(_) => Ok(()),
                    Err(_unknown) => close_listed_from(first),
                }
            }
            #[cfg(test)]
            Step::CloseListedFrom(first) => close_listed_from(first),
            Step::UnblockSignals => {
                let none = 0_u64;
                let how = c_long::from(libc::SIG_SETMASK);
                call(libc::SYS_rt_sigprocmask, [how, address(&raw const none), 0, SIGSET_SIZE as c_long, 0, 0])
                    .map(drop)
            }
            Step::Execute { program, argv, envp } => {
                let [program, argv, envp] = [address(program.as_ptr()), address(argv.as_ptr()), address(envp.as_ptr())];
                call(libc::SYS_execve, [program, argv, envp, 0, 0, 0]).map(drop)
            }
        }
    }
}

fn default_signals() {
    // The kernel's own structure, all zeros: SIG_DFL, no flags, an empty mask. The C library's sigaction refuses its
    // own two signals, which a host can have inherited as ignored.
    let default = [0_u64; 8];
    for signal in 1..=SIGNALS {
        let arguments = [signal.into(), address(&raw const default), 0, SIGSET_SIZE as c_long, 0, 0];
        // SIGKILL and SIGSTOP have no disposition, and fail.
        // SAFETY: the structure is as large as the kernel's on every architecture, or larger.
        let _ = unsafe { call(libc::SYS_rt_sigaction, arguments) };
    }
}

/// # Safety
/// Nobody may have a use for what `to` is now.
unsafe fn duplicate(from: c_int, to: c_int, flags: c_int) -> Result<(), c_int> {
    // SAFETY: a call on numbers; the caller has no use for what is replaced.
    unsafe { call(libc::SYS_dup3, [from.into(), to.into(), flags.into(), 0, 0, 0]).map(drop) }
}

/// Writes `+` and the process's number as a line.
fn announce(to: c_int) -> Result<(), c_int> {
    // Filled from its end. A number has at most ten digits.
    let mut line = *b"           \n";
    let mut length = 2;
    // SAFETY: it takes nothing and cannot fail.
    let mut rest = unsafe { call(libc::SYS_getpid, [0; 6]) }?;
    for byte in line.iter_mut().rev().skip(1) {
        if rest == 0 {
            *byte = b'+';
            break;
        }
        *byte = b'0' | (rest % 10).to_le_bytes()[0];
        rest /= 10;
        length += 1;
    }
    // SAFETY: the line's last `length` bytes, which it has.
    let written = unsafe {
        let start = line.as_ptr().add(line.len() - length);
        call(libc::SYS_write, [to.into(), address(start), length as c_long, 0, 0, 0])?
    };
    if written == length as c_long { Ok(()) } else { Err(libc::EIO) }
}

/// Closes the descriptors from `first` on that /proc lists. So the work does not grow with the descriptor limit, which
/// may be 10^9, and descriptors above a lowered limit are closed too.
///
/// # Safety
/// No descriptor from `first` on may be used afterwards.
unsafe fn close_listed_from(first: c_int) -> Result<(), c_int> {
    /// linux_dirent64: inode, offset, length of the entry, type, name.
    const LENGTH_AT: usize = 16;
    const NAME_AT: usize = 19;
    let mut entries = [0_u64; 128];
    let size = size_of_val(&entries);
    let flags = c_long::from(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC);
    let path = address(c"/proc/self/fd".as_ptr());
    // SAFETY: a path that ends with a NUL byte.
    let directory = unsafe { call(libc::SYS_openat, [libc::AT_FDCWD.into(), path, flags, 0, 0, 0])? };
    loop {
        let buffer = address(entries.as_mut_ptr().cast_const());
        // SAFETY: the kernel writes no more than the size of the buffer.
        let read = unsafe { call(libc::SYS_getdents64, [directory, buffer, size as c_long, 0, 0, 0])? };
        if read == 0 {
            break;
        }
        let bytes = entries.as_ptr().cast::<u8>();
        let mut at = 0;
        while at + NAME_AT < read as usize {
            // SAFETY: the kernel has written whole entries up to `read`, each with its length, and a name that ends with a
            // NUL byte.
            let (length, number) = unsafe {
                let length = u16::from_ne_bytes([*bytes.add(at + LENGTH_AT), *bytes.add(at + LENGTH_AT + 1)]);
                (length, number(bytes.add(at + NAME_AT)))
            };
            if let Some(number) = number
                && number >= first.into()
                && number != directory
            {
                // SAFETY: the caller has no use for it.
                let _ = unsafe { call(libc::SYS_close, [number, 0, 0, 0, 0, 0]) };
            }
            at += usize::from(length).max(NAME_AT);
        }
    }
    // SAFETY: it is this function's own.
    unsafe { call(libc::SYS_close, [directory, 0, 0, 0, 0, 0]).map(drop) }
}

/// The number that a name represents in decimal, if any.
///
/// # Safety
/// The name ends with a NUL byte.
unsafe fn number(name: *const u8) -> Option<c_long> {
    let mut value = 0;
    let mut at = 0;
    loop {
        // SAFETY: no byte before this was the NUL.
        match unsafe { *name.add(at) } {
            0 => return (at > 0).then_some(value),
            digit @ b'0'..=b'9' if at < 10 => value = value * 10 + c_long::from(digit - b'0'),
            _ => return None,
        }
        at += 1;
    }
}
