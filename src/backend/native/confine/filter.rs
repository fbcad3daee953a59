//! The system calls of a confined hook that Landlock does not control.
//!
//! A program in the kernel decides about each call: it is allowed, refused with EPERM, or hidden with ENOSYS if it is newer
//! than this list; or the runtime is asked ([`super::attendant`]).

mod conditions;
mod gate;
mod refused;
mod sockets;
mod tree;

use std::num::TryFromIntError;

use seccompiler::sock_filter;

use self::conditions::{Verdict, equal, masked, none_of};
pub(super) use self::gate::Questions;
use self::refused::{IOCTLS, NAMESPACES, REFUSED, REFUSED_HERE};
pub(super) use self::sockets::{BROKER_PROTOCOL, Sockets};
use self::sockets::{SOCKET_TYPE, refuse_options, refuse_sockets};
use self::tree::Rules;
use super::support::Support;

const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// The programs of a hook, in the order in which they are installed. The kernel runs all and uses the strictest result.
#[derive(Debug)]
pub(super) struct Filter {
    /// Its questions are answered through a descriptor, which the child sends.
    pub(super) asking: Vec<sock_filter>,
    /// Refuses what the child needed in order to send it.
    pub(super) last: Option<Vec<sock_filter>>,
}

impl Filter {
    pub(super) fn new(support: Support, sockets: Sockets, questions: Questions) -> Result<Self, TryFromIntError> {
        let mut rules = refused(support, sockets);
        gate::ask(questions, &mut rules);
        let mut last = Rules::default();
        gate::close(&mut last);
        // Without UDP, no sending is refused or asked about for its address.
        let last = questions.datagrams.then(|| last.compile()).transpose()?;
        Ok(Self { asking: rules.compile()?, last })
    }
}

/// Everything but the questions.
fn refused(support: Support, sockets: Sockets) -> Rules {
    let mut rules = Rules::default();
    for &number in REFUSED.iter().chain(REFUSED_HERE) {
        rules.refuse(number);
    }
    network(sockets, &mut rules);
    rules.refuse_if(libc::SYS_ioctl, &none_of(1, &IOCTLS));
    rules.refuse_if(libc::SYS_clone, &[masked(0, NAMESPACES, 0).not()]);
    // Its flags are in memory, where the filter cannot see them. Programs fall back to clone.
    rules.add(libc::SYS_clone3, &[], Verdict::Hide);
    // The owner of a descriptor's signals can be any process.
    for command in [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG] {
        rules.refuse_if(libc::SYS_fcntl, &[equal(1, command)]);
    }
    for_other_processes(&mut rules);
    rules.refuse_if(libc::SYS_personality, &[equal(0, -1).not()]);
    refuse_opens(libc::SYS_openat, 2, support, &mut rules);
    #[cfg(target_arch = "x86_64")]
    refuse_opens(libc::SYS_open, 1, support, &mut rules);
    if !support.truncate() {
        rules.refuse(libc::SYS_truncate);
        rules.add(libc::SYS_openat2, &[], Verdict::Hide);
    }
    if !support.signals() {
        for number in
            [libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo, libc::SYS_tkill, libc::SYS_pidfd_send_signal]
        {
            rules.refuse(number);
        }
    }
    rules
}

/// Calls by process, group or user: they would reach every process of root. Only 0, the caller itself, is allowed.
fn for_other_processes(rules: &mut Rules) {
    for (number, argument) in [
        (libc::SYS_prlimit64, 0),
        (libc::SYS_setpriority, 1),
        (libc::SYS_ioprio_set, 1),
        (libc::SYS_sched_setaffinity, 0),
        (libc::SYS_sched_setscheduler, 0),
        (libc::SYS_sched_setparam, 0),
        (libc::SYS_sched_setattr, 0),
    ] {
        rules.refuse_if(number, &[equal(argument, 0).not()]);
    }
}

/// The rules for sockets.
fn network(sockets: Sockets, rules: &mut Rules) {
    if sockets == Sockets::default() {
        rules.refuse(libc::SYS_connect);
    }
    // The runtime performs it for UDP.
    if !sockets.udp {
        rules.refuse(libc::SYS_bind);
    }
    refuse_sockets(sockets, rules);
    refuse_options(sockets, rules);
    // A pair of another type than stream can send to other sockets.
    rules.refuse_if(libc::SYS_socketpair, &[equal(0, libc::AF_UNIX).not()]);
    rules.refuse_if(libc::SYS_socketpair, &[masked(1, SOCKET_TYPE, libc::SOCK_STREAM as u64).not()]);
    // A connection made by sending.
    if sockets.tcp {
        let fast_open = libc::MSG_FASTOPEN as u64;
        for (number, flags) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            rules.refuse_if(number, &[masked(flags, fast_open, fast_open)]);
        }
    }
}

/// Opens that Landlock does not treat as writing if it cannot restrict truncation, and the access mode that is neither
/// reading nor writing.
fn refuse_opens(number: i64, flags: u8, support: Support, rules: &mut Rules) {
    let mode = libc::O_ACCMODE as u64;
    rules.refuse_if(number, &[masked(flags, mode, mode)]);
    if !support.truncate() {
        let truncate = libc::O_TRUNC as u64;
        rules.refuse_if(number, &[masked(flags, mode | truncate, truncate)]);
    }
}
