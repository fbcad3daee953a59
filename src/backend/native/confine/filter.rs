//! The system calls of a confined hook that Landlock does not control.
//!
//! There are two programs. [`base`] is the same for all calls of a hook, and refuses with EPERM. [`gate`] asks the
//! runtime about some calls ([`super::attendant`]), and hides calls that are newer than this list with ENOSYS, like an
//! older kernel. The kernel runs both and uses the stricter result.

mod conditions;
mod gate;
mod refused;
mod sockets;

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, Error, SeccompAction, SeccompCmpOp, SeccompFilter, SeccompRule, TargetArch};

use self::conditions::{Conditions, compare, none_of};
pub(super) use self::conditions::{equal, masked};
pub(super) use self::gate::{Questions, gate};
use self::refused::{IOCTLS, NAMESPACES, REFUSED, REFUSED_HERE};
pub(super) use self::sockets::{BROKER_PROTOCOL, Sockets};
use self::sockets::{SOCKET_TYPE, refused_options, refused_sockets};
use super::support::Support;
use crate::backend::native::spawn::LISTENER_FLAG;

const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// Refuses with EPERM.
pub(super) fn base(support: Support, sockets: Sockets) -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<i64, Vec<Conditions>> = BTreeMap::new();
    for &number in REFUSED.iter().chain(REFUSED_HERE) {
        rules.insert(number, Vec::new());
    }
    network(sockets, &mut rules)?;
    rules.insert(libc::SYS_ioctl, vec![none_of(1, &IOCTLS)?]);
    let namespaces = NAMESPACES.iter().map(|&flag| Ok(vec![masked(0, flag as u32 as u64, flag as u32 as u64)?]));
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, Error>>()?);
    // The owner of a descriptor's signals can be any process.
    let owner = |command: i32| Ok::<_, Error>(vec![equal(1, command).is()?]);
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
fn for_other_processes() -> Result<BTreeMap<i64, Vec<Conditions>>, Error> {
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

/// The rules for sockets.
fn network(sockets: Sockets, rules: &mut BTreeMap<i64, Vec<Conditions>>) -> Result<(), Error> {
    if sockets == Sockets::default() {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    // The runtime performs it for UDP.
    if !sockets.udp {
        rules.insert(libc::SYS_bind, Vec::new());
    }
    rules.insert(libc::SYS_socket, refused_sockets(sockets)?);
    rules.insert(libc::SYS_setsockopt, refused_options()?);
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
    let listener = LISTENER_FLAG as u64;
    let of_child = masked(2, listener, listener)?;
    rules.insert(libc::SYS_sendmsg, vec![vec![masked(2, fast_open, fast_open)?], vec![of_child]]);
    rules.insert(libc::SYS_sendmmsg, vec![vec![masked(3, fast_open, fast_open)?]]);
    Ok(())
}

/// Opens that Landlock does not treat as writing if it cannot restrict truncation, and the access mode that is neither
/// reading nor writing.
fn refused_opens(flags: u8, support: Support) -> Result<Vec<Conditions>, Error> {
    let mode = libc::O_ACCMODE as u64;
    let mut refused = vec![vec![masked(flags, mode, mode)?]];
    if !support.truncate() {
        let truncate = libc::O_TRUNC as u64;
        refused.push(vec![masked(flags, mode | truncate, truncate)?]);
    }
    Ok(refused)
}

fn compile(rules: BTreeMap<i64, Vec<Conditions>>) -> Result<BpfProgram, Error> {
    let rules = rules.into_iter().map(|(number, refused)| {
        let refused = refused.into_iter().map(SeccompRule::new).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Error>((number, refused))
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
