//! The system calls of a confined hook that Landlock does not control.
//!
//! There are two programs. [`base`] is the same for all calls of a hook, and refuses with EPERM. [`gate`] asks the
//! runtime about some calls ([`super::notify`]), and hides calls that are newer than this list with ENOSYS, like an
//! older kernel. The kernel runs both and uses the stricter result.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::support::Support;

/// The protocol number of the socket that represents a connection to the runtime.
pub(super) const BROKER_PROTOCOL: i32 = 0x484b;
/// The last system call that this list knows (`file_setattr`, Linux 6.17).
const LAST_KNOWN: u32 = 469;

/// Refused with any arguments. The numbers are the same on both architectures.
const REFUSED: &[i64] = &[
    // Modes, owners, times, attributes.
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SETXATTRAT,
    REMOVEXATTRAT,
    FILE_SETATTR,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The kernel.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    // It tells the names in directories that cannot be listed.
    libc::SYS_inotify_add_watch,
    // Keys.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Calls that bypass the rules for files.
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_execveat,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mknodat,
    // Shared memory, queues and sockets that other processes could share.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Calls that only the older architecture has.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_mknod,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[libc::SYS_kexec_file_load];

const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const OPEN_TREE_ATTR: i64 = 467;
const FILE_SETATTR: i64 = 469;

/// The ioctl(2) requests that a program needs for its streams. All others are refused.
const IOCTLS: [u64; 9] = [
    request(libc::TCGETS),
    request(libc::TIOCGPGRP),
    request(libc::TIOCGWINSZ),
    request(libc::FIONREAD),
    request(libc::FIONBIO),
    request(libc::FIOCLEX),
    request(libc::FIONCLEX),
    request(libc::TIOCGSID),
    TCGETS2,
];
const TCGETS2: u64 = 0x802c_542a;

/// musl declares them as signed.
const fn request(number: libc::Ioctl) -> u64 {
    (number as i64).cast_unsigned()
}

/// The clone(2) flags that create namespaces.
const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// A hook's network, beyond its own socket pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sockets {
    pub(super) tcp: bool,
    pub(super) unix: bool,
}

/// The calls that the runtime is asked about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Questions {
    /// Connections to the broker.
    pub(super) broker: bool,
    /// connect(2).
    pub(super) connect: bool,
    /// Signals, if Landlock does not restrict them to the hook's own processes.
    pub(super) signals: bool,
    /// The address of the path by which the hook itself is executed. The runtime is not asked about it.
    pub(super) first_program: u64,
}

type Conditions = Vec<SeccompCondition>;

/// Refuses with EPERM.
pub(super) fn base(support: Support, sockets: Sockets) -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<Conditions>> = BTreeMap::new();
    for &number in REFUSED.iter().chain(REFUSED_HERE) {
        rules.insert(number, Vec::new());
    }
    if !sockets.tcp && !sockets.unix {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    rules.insert(libc::SYS_socket, refused_sockets(sockets)?);
    // A pair of another type than stream can send to other sockets.
    rules.insert(
        libc::SYS_socketpair,
        vec![
            vec![equal(0, libc::AF_UNIX).not()?],
            vec![masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)?],
            vec![masked(1, SOCKET_TYPE, libc::SOCK_RAW as u64)?],
            vec![masked(1, SOCKET_TYPE, libc::SOCK_SEQPACKET as u64)?],
        ],
    );
    // A connection made by sending.
    let fast_open = libc::MSG_FASTOPEN as u64;
    rules.insert(libc::SYS_sendto, vec![vec![masked(3, fast_open, fast_open)?]]);
    rules.insert(libc::SYS_sendmsg, vec![vec![masked(2, fast_open, fast_open)?]]);
    rules.insert(libc::SYS_sendmmsg, vec![vec![masked(3, fast_open, fast_open)?]]);
    rules.insert(
        libc::SYS_ioctl,
        vec![IOCTLS.iter().map(|&request| compare(1, SeccompCmpOp::Ne, request)).collect::<Result<_, _>>()?],
    );
    let namespaces = NAMESPACES.iter().map(|&flag| Ok(vec![masked(0, flag as u32 as u64, flag as u32 as u64)?]));
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, seccompiler::Error>>()?);
    // The owner of a descriptor's signals can be any process.
    let owner = |command: i32| Ok::<_, seccompiler::Error>(vec![equal(1, command).is()?]);
    rules.insert(libc::SYS_fcntl, vec![owner(libc::F_SETOWN)?, owner(F_SETOWN_EX)?, owner(F_SETSIG)?]);
    rules.extend(for_other_processes()?);
    rules.insert(libc::SYS_personality, vec![vec![compare(0, SeccompCmpOp::Ne, 0xffff_ffff)?]]);
    rules.insert(libc::SYS_openat, refused_opens(2, support)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, refused_opens(1, support)?);
    if !support.truncate() {
        rules.insert(libc::SYS_truncate, Vec::new());
    }
    if !support.signals() {
        for number in
            [libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_tkill, libc::SYS_pidfd_send_signal]
        {
            rules.insert(number, Vec::new());
        }
    }
    compile(rules)
}

/// Calls by process, group or user: they would reach every process of root. Only 0, the caller itself, is allowed.
fn for_other_processes() -> Result<BTreeMap<i64, Vec<Conditions>>, seccompiler::Error> {
    let calls = [
        (libc::SYS_prlimit64, 0),
        (libc::SYS_setpriority, 1),
        (libc::SYS_ioprio_set, 1),
        (libc::SYS_sched_setaffinity, 0),
        (libc::SYS_sched_setscheduler, 0),
        (libc::SYS_sched_setparam, 0),
        (libc::SYS_sched_setattr, 0),
    ];
    calls.into_iter().map(|(number, argument)| Ok((number, vec![vec![equal(argument, 0).not()?]]))).collect()
}

const SOCKET_TYPE: u64 = 0xf;
const SOCK_PACKET: i32 = 10;
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// All sockets except connections to the runtime and granted kinds.
fn refused_sockets(sockets: Sockets) -> Result<Vec<Conditions>, seccompiler::Error> {
    let broker = BROKER_PROTOCOL as u64;
    let mut refused = Vec::new();
    // Families. Each group of conditions is refused. A socket that matches none is allowed.
    let mut families = vec![equal(0, libc::AF_UNIX).not()?];
    if sockets.tcp {
        families.push(equal(0, libc::AF_INET).not()?);
        families.push(equal(0, libc::AF_INET6).not()?);
        for family in [libc::AF_INET, libc::AF_INET6] {
            refused.push(vec![
                equal(0, family).is()?,
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(SOCKET_TYPE), 2)?,
            ]);
            for kind in [libc::SOCK_RAW, libc::SOCK_RDM, libc::SOCK_SEQPACKET, libc::SOCK_DCCP, SOCK_PACKET] {
                refused.push(vec![equal(0, family).is()?, masked(1, SOCKET_TYPE, kind as u64)?]);
            }
            refused.push(vec![equal(0, family).is()?, equal(2, 0).not()?, equal(2, libc::IPPROTO_TCP).not()?]);
        }
    }
    refused.push(families);
    let unix = equal(0, libc::AF_UNIX);
    if sockets.unix {
        refused.push(vec![unix.is()?, masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)?]);
        refused.push(vec![unix.is()?, masked(1, SOCKET_TYPE, libc::SOCK_RAW as u64)?]);
        refused.push(vec![unix.is()?, compare(2, SeccompCmpOp::Ne, 0)?, compare(2, SeccompCmpOp::Ne, broker)?]);
    } else {
        refused.push(vec![unix.is()?, compare(2, SeccompCmpOp::Ne, broker)?]);
    }
    Ok(refused)
}

/// Opens that Landlock does not treat as writing if it cannot restrict truncation, and the access mode that is neither
/// reading nor writing.
fn refused_opens(flags: u8, support: Support) -> Result<Vec<Conditions>, seccompiler::Error> {
    let mode = libc::O_ACCMODE as u64;
    let mut refused = vec![vec![masked(flags, mode, mode)?]];
    if !support.truncate() {
        let truncate = libc::O_TRUNC as u64;
        refused.push(vec![masked(flags, mode | truncate, truncate)?]);
    }
    Ok(refused)
}

fn compile(rules: BTreeMap<i64, Vec<Conditions>>) -> Result<BpfProgram, seccompiler::Error> {
    let rules = rules.into_iter().map(|(number, refused)| {
        let refused = refused.into_iter().map(SeccompRule::new).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, seccompiler::Error>((number, refused))
    });
    let filter = SeccompFilter::new(
        rules.collect::<Result<_, _>>()?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCHITECTURE,
    )?;
    Ok(filter.try_into()?)
}

#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(not(target_arch = "x86_64"))]
pub(super) const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// A 32-bit argument and a value.
#[derive(Clone, Copy)]
pub(super) struct Compared(u8, i32);

pub(super) fn equal(argument: u8, value: i32) -> Compared {
    Compared(argument, value)
}

impl Compared {
    pub(super) fn is(self) -> Result<SeccompCondition, seccompiler::Error> {
        compare(self.0, SeccompCmpOp::Eq, self.1 as u32 as u64)
    }

    fn not(self) -> Result<SeccompCondition, seccompiler::Error> {
        compare(self.0, SeccompCmpOp::Ne, self.1 as u32 as u64)
    }
}

fn compare(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

pub(super) fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    compare(argument, SeccompCmpOp::MaskedEq(mask), value)
}

const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const RETURN: u16 = 0x06;
/// Offsets in seccomp_data: the number, and the halves of the arguments.
const NUMBER: u32 = 0;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
const MISSING: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

/// Asks the runtime, and hides unknown calls. `base` has checked the architecture.
pub(super) fn gate(support: Support, questions: Questions) -> BpfProgram {
    let mut program = vec![load(NUMBER), jump(GREATER, LAST_KNOWN, 0, 1), answer(MISSING)];
    let mut on = |number: i64, then: &[sock_filter]| {
        let past = u8::try_from(then.len()).unwrap_or(u8::MAX);
        program.push(jump(EQUAL, number as u32, 0, past));
        program.extend_from_slice(then);
    };
    // Its flags are in memory, where the filter cannot see them. Programs fall back to clone.
    on(libc::SYS_clone3, &[answer(MISSING)]);
    if !support.truncate() {
        on(libc::SYS_openat2, &[answer(MISSING)]);
    }
    if questions.broker {
        let is_broker = [load(argument(2)), jump(EQUAL, BROKER_PROTOCOL as u32, 0, 1), answer(ASK), answer(ALLOW)];
        on(libc::SYS_socket, &is_broker);
    }
    if questions.connect {
        on(libc::SYS_connect, &[answer(ASK)]);
    }
    if questions.signals {
        for number in [libc::SYS_kill, libc::SYS_tgkill] {
            on(number, &[answer(ASK)]);
        }
    }
    let [low, high] = [questions.first_program as u32, (questions.first_program >> 32) as u32];
    let execute = [
        load(argument(0)),
        jump(EQUAL, low, 0, 3),
        load(argument(0) + 4),
        jump(EQUAL, high, 0, 1),
        answer(ALLOW),
        answer(ASK),
    ];
    on(libc::SYS_execve, &execute);
    program.push(answer(ALLOW));
    program
}

/// The lower half of an argument, on a little-endian machine.
const fn argument(number: u32) -> u32 {
    16 + 8 * number
}

const fn load(offset: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: offset }
}

const fn jump(code: u16, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: then, jf: otherwise, k: value }
}

const fn answer(action: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action }
}
