//! The steps in which the child of a confined hook gives up its rights before it executes the hook.
//!
//! The rules of [`super::child`] apply: only raw system calls, on what the parent has prepared.
#![expect(unsafe_code, reason = "raw system calls of a process on borrowed memory")]

use std::ffi::{CStr, c_int, c_long};

use seccompiler::sock_filter;

use super::syscall::{address, call};

/// One right that the child gives up. The caller chooses the order: each step gives up what an earlier one needs.
#[derive(Debug)]
pub(crate) enum Restriction<'a> {
    /// Enters a separate mount namespace. Its mounts are not visible elsewhere.
    MountNamespace,
    /// Attaches a detached mount to a directory.
    Attach { mount: c_int, directory: &'a CStr },
    /// Covers a file with another.
    Cover { file: &'a CStr, by: &'a CStr },
    /// Removes the mount on a directory. Files that it covers stay covered.
    Detach { directory: &'a CStr },
    /// Sets a resource limit permanently.
    Limit { resource: c_long, most: u64 },
    /// Changes to this user and only this group.
    User { user: u32, group: u32 },
    /// Gives up all capabilities. From now on, being root gives none.
    Capabilities,
    /// Gives up privileges from set-user-ID bits and file capabilities.
    NoNewPrivileges,
    /// Waits for a byte on this socket: the runtime has prepared the next step meanwhile.
    Wait { socket: c_int },
    /// Enters the domain of a Landlock ruleset.
    Landlock(c_int),
    /// Installs a system call filter.
    Filter(&'a [sock_filter]),
    /// Installs a filter whose questions are answered by the receiver of its descriptor from this socket.
    AskingFilter { program: &'a [sock_filter], send_on: c_int },
}

impl Restriction<'_> {
    /// What failed, as a fragment after "confining it failed: ".
    pub(crate) fn failed(&self) -> &'static str {
        match self {
            Self::MountNamespace => "could not create a mount namespace (this needs CAP_SYS_ADMIN)",
            Self::Attach { .. } | Self::Cover { .. } | Self::Detach { .. } => {
                "could not cover the programs that its settings grant"
            }
            Self::Limit { .. } => "could not set its resource limits",
            Self::User { .. } => "could not become the user of its settings",
            Self::Capabilities => "could not drop its capabilities",
            Self::NoNewPrivileges => "could not set no_new_privs",
            Self::Wait { .. } => "hookvisor could not prepare it",
            Self::Landlock(_) => "could not enter its Landlock domain",
            Self::Filter(_) => "could not install its seccomp filter",
            Self::AskingFilter { .. } => {
                "could not install a seccomp filter with user notification (a container's own \
                 filter may refuse it)"
            }
        }
    }
}

/// The flag with which a filter's descriptor is sent. The kernel ignores it. The filter itself lets it pass, as nobody
/// could answer a question yet.
pub(crate) const LISTENER_FLAG: c_int = libc::MSG_RST;

/// Linux's `struct sock_fprog`.
#[repr(C)]
struct FilterProgram {
    length: u16,
    filter: *const sock_filter,
}

/// Linux's `struct rlimit64`.
#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

/// A directory that every system has.
const BELOW_ROOT: &CStr = c"/proc";
/// How deep the root of a chroot may be below its mount.
const DEEPEST_ROOT: usize = 256;
const MOVE_MOUNT_F_EMPTY_PATH: c_long = 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each locked, and KEEP_CAPS locked in its current state.
const SECURE_BITS: c_long = 0xef;

/// Performs one step.
///
/// # Safety
/// The process is the child of [`super::child`], and what the restriction points to outlives its use.
pub(super) unsafe fn apply(restriction: &Restriction<'_>) -> Result<(), c_int> {
    // SAFETY: each call gets numbers, or pointers to structures of the kernel's size that outlive it. They narrow the rights
    // of this process alone: its namespaces, credentials and filters are its own from here on.
    unsafe {
        match *restriction {
            Restriction::MountNamespace => {
                call(libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0, 0, 0])?;
                match receive_mounts_only(c"/") {
                    // The root of a chroot is a directory on another mount.
                    Err(libc::EINVAL) => receive_mounts_only_outside_chroot(),
                    done => done,
                }
            }
            Restriction::Attach { mount, directory } => {
                let (from, to) = (address(c"".as_ptr()), address(directory.as_ptr()));
                let here = libc::AT_FDCWD.into();
                call(libc::SYS_move_mount, [mount.into(), from, here, to, MOVE_MOUNT_F_EMPTY_PATH, 0]).map(drop)
            }
            Restriction::Cover { file, by } => {
                let [by, file] = [address(by.as_ptr()), address(file.as_ptr())];
                call(libc::SYS_mount, [by, file, 0, libc::MS_BIND.cast_signed() as c_long, 0, 0]).map(drop)
            }
            Restriction::Detach { directory } => {
                let directory = address(directory.as_ptr());
                call(libc::SYS_umount2, [directory, libc::MNT_DETACH.into(), 0, 0, 0, 0]).map(drop)
            }
            Restriction::Limit { resource, most } => {
                let limit = Limit { soft: most, hard: most };
                call(libc::SYS_prlimit64, [0, resource, address(&raw const limit), 0, 0, 0]).map(drop)
            }
            Restriction::User { user, group } => {
                let [user, group] = [c_long::from(user), c_long::from(group)];
                call(libc::SYS_setgroups, [0, 0, 0, 0, 0, 0])?;
                call(libc::SYS_setresgid, [group, group, group, 0, 0, 0])?;
                call(libc::SYS_setresuid, [user, user, user, 0, 0, 0]).map(drop)
            }
            Restriction::Capabilities => {
                // It fails without CAP_SETPCAP. Then no_new_privs alone prevents root from regaining capabilities.
                let _ = call(libc::SYS_prctl, [libc::PR_SET_SECUREBITS.into(), SECURE_BITS, 0, 0, 0, 0]);
                let header = [CAPABILITY_VERSION_3, 0];
                let none = [0_u32; 6];
                call(libc::SYS_capset, [address(header.as_ptr()), address(none.as_ptr()), 0, 0, 0, 0]).map(drop)
            }
            Restriction::NoNewPrivileges => {
                call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0, 0, 0, 0]).map(drop)
            }
            Restriction::Wait { socket } => wait(socket),
            Restriction::Landlock(ruleset) => {
                call(libc::SYS_landlock_restrict_self, [ruleset.into(), 0, 0, 0, 0, 0]).map(drop)
            }
            Restriction::Filter(program) => install(program, 0).map(drop),
            Restriction::AskingFilter { program, send_on } => {
                let listener = install(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as c_long)?;
                send(send_on, listener as c_int)?;
                call(libc::SYS_close, [listener, 0, 0, 0, 0, 0]).map(drop)
            }
        }
    }
}

/// Mounts of this namespace are not passed on to others. `at` must be a mount point.
///
/// # Safety
/// As for [`apply`].
unsafe fn receive_mounts_only(at: &CStr) -> Result<(), c_int> {
    let flags = (libc::MS_REC | libc::MS_SLAVE).cast_signed() as c_long;
    // SAFETY: the call gets a text that ends with a NUL byte, and numbers.
    unsafe { call(libc::SYS_mount, [0, address(at.as_ptr()), 0, flags, 0, 0]).map(drop) }
}

/// The same for the mount that contains the root directory. Enters the root directory.
///
/// # Safety
/// As for [`apply`].
unsafe fn receive_mounts_only_outside_chroot() -> Result<(), c_int> {
    let path = (libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC).into();
    // SAFETY: each call gets texts that end with a NUL byte, and numbers. The root and working directories are this process's
    // own.
    unsafe {
        let root = call(libc::SYS_openat, [libc::AT_FDCWD.into(), address(c"/".as_ptr()), path, 0, 0, 0])?;
        // With another root, `..` leads out of the present one.
        call(libc::SYS_fchdir, [root, 0, 0, 0, 0, 0])?;
        call(libc::SYS_chroot, [address(BELOW_ROOT.as_ptr()), 0, 0, 0, 0, 0])?;
        let mut done = Err(libc::EINVAL);
        for _ in 0..DEEPEST_ROOT {
            call(libc::SYS_chdir, [address(c"..".as_ptr()), 0, 0, 0, 0, 0])?;
            done = receive_mounts_only(c".");
            if done != Err(libc::EINVAL) {
                break;
            }
        }
        call(libc::SYS_fchdir, [root, 0, 0, 0, 0, 0])?;
        call(libc::SYS_chroot, [address(c".".as_ptr()), 0, 0, 0, 0, 0])?;
        call(libc::SYS_close, [root, 0, 0, 0, 0, 0])?;
        done
    }
}

/// # Safety
/// As for [`apply`].
unsafe fn install(program: &[sock_filter], flags: c_long) -> Result<c_long, c_int> {
    let Ok(length) = u16::try_from(program.len()) else { return Err(libc::EINVAL) };
    let program = FilterProgram { length, filter: program.as_ptr() };
    let mode = c_long::from(libc::SECCOMP_SET_MODE_FILTER);
    // SAFETY: the structure and the program live until the call returns, which copies them.
    unsafe { call(libc::SYS_seccomp, [mode, flags, address(&raw const program), 0, 0, 0]) }
}

/// Waits for a byte.
///
/// # Safety
/// As for [`apply`].
unsafe fn wait(socket: c_int) -> Result<(), c_int> {
    let mut byte = [0_u8];
    // SAFETY: the kernel writes no more than the byte.
    match unsafe { call(libc::SYS_read, [socket.into(), address(byte.as_mut_ptr()), 1, 0, 0, 0]) }? {
        1 => Ok(()),
        // The runtime could not prepare the next step.
        _ => Err(libc::EPROTO),
    }
}

/// Sends a descriptor with one byte.
///
/// # Safety
/// As for [`apply`].
unsafe fn send(socket: c_int, descriptor: c_int) -> Result<(), c_int> {
    /// A control message with one descriptor, padded for its alignment.
    #[repr(C)]
    struct Rights {
        header: libc::cmsghdr,
        descriptor: c_int,
    }
    let mut byte = [0_u8];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: both structures are integers and pointers, for which zero is a value. They live until the call returns.
    unsafe {
        let mut rights: Rights = std::mem::zeroed();
        rights.header.cmsg_len = (std::mem::offset_of!(Rights, descriptor) + size_of::<c_int>()) as _;
        rights.header.cmsg_level = libc::SOL_SOCKET;
        rights.header.cmsg_type = libc::SCM_RIGHTS;
        rights.descriptor = descriptor;
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut rights).cast();
        message.msg_controllen = size_of::<Rights>() as _;
        let flags = (libc::MSG_NOSIGNAL | LISTENER_FLAG).into();
        call(libc::SYS_sendmsg, [socket.into(), address(&raw const message), flags, 0, 0, 0]).map(drop)
    }
}
