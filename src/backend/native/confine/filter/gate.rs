//! The calls that the runtime is asked about.

use super::conditions::{Condition, Verdict, equal, is_address, masked};
use super::sockets::{BROKER_PROTOCOL, SOCKET_TYPE};
use super::tree::Rules;
use crate::backend::native::spawn::LISTENER_FLAG;

/// The calls that the runtime is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Questions {
    /// Connections to the broker.
    pub(crate) broker: bool,
    /// connect(2).
    pub(crate) connect: bool,
    /// UDP: creating a socket, binding it, and sending to an address.
    pub(crate) datagrams: bool,
    /// Signals, if Landlock does not restrict them to the hook's own processes.
    pub(crate) signals: bool,
    /// The address of the path by which the hook itself is executed. The runtime is not asked about it.
    pub(crate) first_program: u64,
}

/// Adds the questions after the rules that refuse.
pub(super) fn ask(questions: Questions, rules: &mut Rules) {
    let mut ask = |number: i64, conditions: &[Condition]| rules.add(number, conditions, Verdict::Ask);
    if questions.broker {
        ask(libc::SYS_socket, &[equal(2, BROKER_PROTOCOL)]);
    }
    // Datagrams of another family are refused.
    if questions.datagrams {
        ask(libc::SYS_socket, &[masked(1, SOCKET_TYPE, libc::SOCK_DGRAM as u64)]);
    }
    if questions.connect {
        ask(libc::SYS_connect, &[]);
    }
    if questions.datagrams {
        // Whether they name an address is in memory.
        for number in [libc::SYS_bind, libc::SYS_sendmmsg] {
            ask(number, &[]);
        }
        for half in is_address(4, 0) {
            ask(libc::SYS_sendto, &[half.not()]);
        }
    }
    if questions.signals {
        for number in [libc::SYS_kill, libc::SYS_tgkill] {
            ask(number, &[]);
        }
    }
    if questions.datagrams {
        // The child sends the descriptor that answers the questions, so nobody can answer this one.
        rules.add(libc::SYS_sendmsg, &[equal(2, libc::MSG_NOSIGNAL | LISTENER_FLAG)], Verdict::Allow);
        rules.add(libc::SYS_sendmsg, &[], Verdict::Ask);
    }
    rules.add(libc::SYS_execve, &is_address(0, questions.first_program), Verdict::Allow);
    rules.add(libc::SYS_execve, &[], Verdict::Ask);
}

/// What is refused once the child has sent that descriptor.
pub(super) fn close(rules: &mut Rules) {
    let flag = LISTENER_FLAG as u64;
    rules.refuse_if(libc::SYS_sendmsg, &[masked(2, flag, flag)]);
}
