//! The system calls for confining and serving a hook that nix lacks, each behind a safe function.
#![expect(unsafe_code, reason = "system calls that nix does not have")]

use std::ffi::{CStr, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use nix::unistd::Pid;
use seccompiler::sock_filter;

/// The version of Landlock's interface; 0 or less without Landlock.
pub(super) fn landlock_abi() -> i32 {
    const VERSION: c_long = 1;
    // SAFETY: with this flag the call takes no structure.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<u8>(), 0, VERSION) };
    i32::try_from(version).unwrap_or(0)
}

/// Adds a rule for an opened directory and everything below it, or for an opened file.
pub(super) fn add_landlock_rule(ruleset: BorrowedFd<'_>, opened: BorrowedFd<'_>, rights: u64) -> Result<(), Errno> {
    /// Linux's `struct landlock_path_beneath_attr`.
    #[repr(C, packed)]
    struct Rule {
        rights: u64,
        opened: c_int,
    }
    const PATH_BENEATH: c_long = 1;
    let rule = Rule { rights, opened: opened.as_raw_fd() };
    // SAFETY: the call reads the structure.
    let added =
        unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), PATH_BENEATH, &raw const rule, 0) };
    Errno::result(added).map(drop)
}

/// Whether seccomp filters can ask another process, which can answer with a descriptor.
pub(super) fn has_user_notification() -> bool {
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // SAFETY: the call reads one number.
    let available =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) } == 0;
    // Descriptors as answers are older than Landlock, which is also required.
    available
}

/// A system call of a hook that waits for the runtime's answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) id: u64,
    /// The thread that asks.
    pub(super) thread: Pid,
    pub(super) number: c_long,
    pub(super) arguments: [u64; 6],
}

/// The result of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Value(i64),
    Error(Errno),
    /// The kernel performs the call as it is then: memory that was examined may have changed.
    Continue,
}

/// The next question. Waits if there is none.
pub(super) fn next_question(listener: BorrowedFd<'_>) -> Result<Question, Errno> {
    // SAFETY: the structure is all integers, zeroed as the kernel requires, and as large as the request's number says.
    let asked = unsafe {
        let mut asked: libc::seccomp_notif = mem::zeroed();
        let done = libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked);
        Errno::result(done).map(|_| asked)
    }?;
    Ok(Question {
        id: asked.id,
        thread: Pid::from_raw(asked.pid.cast_signed()),
        number: asked.data.nr.into(),
        arguments: asked.data.args,
    })
}

/// Answers a question. If the process has ended, there is nothing to answer.
pub(super) fn answer(listener: BorrowedFd<'_>, id: u64, answer: Answer) {
    const CONTINUE: u32 = 1;
    let (value, error, flags) = match answer {
        Answer::Value(value) => (value, 0, 0),
        Answer::Error(errno) => (0, -(errno as i32), 0),
        Answer::Continue => (0, 0, CONTINUE),
    };
    respond(listener, id, value, error, flags);
}

fn respond(listener: BorrowedFd<'_>, id: u64, val: i64, error: i32, flags: u32) {
    let mut response = libc::seccomp_notif_resp { id, val, error, flags };
    // SAFETY: the structure is as large as the request's number says.
    let _ = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
}

/// Answers a question with a descriptor, which becomes the result of the system call.
/// `closes`: the descriptor is closed when the process executes a program.
pub(super) fn answer_with(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    closes: bool,
) -> Result<(), Errno> {
    // In two steps: with SECCOMP_ADDFD_FLAG_SEND, a signal to this thread could make the process take 0 for the
    // descriptor.
    let given = libc::seccomp_notif_addfd {
        id,
        flags: 0,
        srcfd: descriptor.as_raw_fd().cast_unsigned(),
        newfd: 0,
        newfd_flags: if closes { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    // SAFETY: the structure is as large as the request's number says.
    let number = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw const given) };
    respond(listener, id, Errno::result(number)?.into(), 0, 0);
    Ok(())
}

/// Whether the asking process is still waiting. If so, what was read from its memory before is its own.
pub(super) fn is_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the call reads one number.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// A file system in memory without a mount point. Needs CAP_SYS_ADMIN.
pub(super) fn detached_tmpfs() -> Result<OwnedFd, Errno> {
    const CLOEXEC: c_long = 1;
    const CMD_CREATE: c_long = 6;
    const NOSUID_NODEV: c_long = 0x2 | 0x4;
    // SAFETY: the calls get texts that end with a NUL byte and numbers. Each descriptor is new, and nobody else knows it.
    unsafe {
        let made = libc::syscall(libc::SYS_fsopen, c"tmpfs".as_ptr(), CLOEXEC);
        let context = OwnedFd::from_raw_fd(Errno::result(made)? as c_int);
        let nothing = ptr::null::<u8>();
        let created = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CMD_CREATE, nothing, nothing, 0);
        Errno::result(created)?;
        let mounted = libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOEXEC, NOSUID_NODEV);
        Ok(OwnedFd::from_raw_fd(Errno::result(mounted)? as c_int))
    }
}

/// A copy of another process's descriptor.
pub(super) fn descriptor_of(process: Pid, number: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: the calls get numbers. Each descriptor is new, and nobody else knows it.
    unsafe {
        let opened = libc::syscall(libc::SYS_pidfd_open, process.as_raw(), 0);
        let process = OwnedFd::from_raw_fd(Errno::result(opened)? as c_int);
        let got = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        Ok(OwnedFd::from_raw_fd(Errno::result(got)? as c_int))
    }
}

/// A number that a socket has for this option of level SOL_SOCKET.
pub(super) fn socket_option(socket: BorrowedFd<'_>, name: c_int) -> Result<c_int, Errno> {
    let mut value: c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    let to = (&raw mut value).cast();
    // SAFETY: the call writes no more than this length.
    let got = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, to, &raw mut length) };
    Errno::result(got).map(|_| value)
}

/// Sets the program that decides what a socket receives. It cannot be removed.
pub(super) fn set_socket_filter(socket: BorrowedFd<'_>, program: &[sock_filter]) -> Result<(), Errno> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const sock_filter,
    }
    let set = |name: c_int, value: *const c_void, size: usize| {
        // SAFETY: the value has this size, and what it points to outlives the call. The kernel copies it.
        let set =
            unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, size as libc::socklen_t) };
        Errno::result(set).map(drop)
    };
    let length = u16::try_from(program.len()).map_err(|_| Errno::ENOMEM)?;
    let program = Program { length, instructions: program.as_ptr() };
    let locked: c_int = 1;
    set(libc::SO_ATTACH_FILTER, (&raw const program).cast(), size_of_val(&program))?;
    set(libc::SO_LOCK_FILTER, (&raw const locked).cast(), size_of_val(&locked))
}

/// Creates a file in a directory that everybody can execute.
pub(super) fn create_executable(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    // SAFETY: the name ends with a NUL byte. The descriptor is new, and nobody else knows it.
    unsafe {
        let file = libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o500);
        let file = OwnedFd::from_raw_fd(Errno::result(file)?);
        // Independent of the host's umask.
        Errno::result(libc::fchmod(file.as_raw_fd(), 0o555))?;
        Ok(file)
    }
}

/// A path below a directory, as a descriptor that can be neither read nor written.
pub(super) fn open_path(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: the name ends with a NUL byte. The descriptor is new, and nobody else knows it.
    unsafe {
        let opened = libc::openat(directory.as_raw_fd(), name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        Ok(OwnedFd::from_raw_fd(Errno::result(opened)?))
    }
}

/// A received message.
pub(super) struct Received {
    pub(super) length: usize,
    /// Whether the message and its descriptors fit.
    pub(super) whole: bool,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Room for one control message with three descriptors.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    descriptors: [c_int; 3],
}

/// Receives a message with up to three descriptors. Of a message with more, the first three are received: whoever sent it
/// chose the number, and one that nobody owns would stay open for good.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: MsgFlags) -> Result<Received, Errno> {
    const BEFORE_DESCRIPTORS: usize = mem::offset_of!(Control, descriptors);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: both structures are integers and pointers, for which zero is a value.
    let (mut control, mut message): (Control, libc::msghdr) = unsafe { (mem::zeroed(), mem::zeroed()) };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = (BEFORE_DESCRIPTORS + mem::size_of_val(&control.descriptors)) as _;
    let flags = (flags | MsgFlags::MSG_CMSG_CLOEXEC).bits();
    // SAFETY: the message points to the buffer and the control message, with their lengths, and they outlive the call.
    let length = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    let whole = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) == 0;
    let Control { header, descriptors } = control;
    // Of another type with musl.
    let (used, length_of_control): (usize, usize) = (message.msg_controllen as _, header.cmsg_len as _);
    let has_descriptors =
        used >= BEFORE_DESCRIPTORS && (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let bytes = if has_descriptors { length_of_control.saturating_sub(BEFORE_DESCRIPTORS) } else { 0 };
    let received = descriptors.into_iter().take(bytes / size_of::<c_int>());
    // SAFETY: the kernel has just made these descriptors, and nobody else knows them.
    let descriptors = received.map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }).collect();
    Ok(Received { length: usize::try_from(length).unwrap_or_default(), whole, descriptors })
}
