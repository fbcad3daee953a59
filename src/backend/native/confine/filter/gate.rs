//! The program that asks the runtime.

use seccompiler::{BpfProgram, sock_filter};

use super::super::bpf::{EQUAL, GREATER, and, answer, jump, load};
use super::super::support::Support;
use super::refused::LAST_KNOWN;
use super::sockets::{BROKER_PROTOCOL, SOCKET_TYPE};
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

/// Offsets in seccomp_data: the number, and the halves of the arguments.
const NUMBER: u32 = 0;
const ALLOW: sock_filter = answer(libc::SECCOMP_RET_ALLOW);
const ASK: sock_filter = answer(libc::SECCOMP_RET_USER_NOTIF);
const MISSING: sock_filter = answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);

/// Asks the runtime, and hides unknown calls. `base` has checked the architecture.
pub(crate) fn gate(support: Support, questions: Questions) -> BpfProgram {
    let mut program = vec![load(NUMBER), jump(GREATER, LAST_KNOWN, 0, 1), MISSING];
    let mut on = |number: i64, then: &[sock_filter]| {
        let past = u8::try_from(then.len()).unwrap_or(u8::MAX);
        program.push(jump(EQUAL, number as u32, 0, past));
        program.extend_from_slice(then);
    };
    // Its flags are in memory, where the filter cannot see them. Programs fall back to clone.
    on(libc::SYS_clone3, &[MISSING]);
    if !support.truncate() {
        on(libc::SYS_openat2, &[MISSING]);
    }
    if questions.broker || questions.datagrams {
        let mut of_runtime = Vec::new();
        if questions.broker {
            of_runtime.extend([load(argument(2)), jump(EQUAL, BROKER_PROTOCOL as u32, 0, 1), ASK]);
        }
        // `base` refuses datagrams of another family.
        if questions.datagrams {
            let is_datagram = jump(EQUAL, libc::SOCK_DGRAM as u32, 0, 1);
            of_runtime.extend([load(argument(1)), and(SOCKET_TYPE as u32), is_datagram, ASK]);
        }
        of_runtime.push(ALLOW);
        on(libc::SYS_socket, &of_runtime);
    }
    if questions.connect {
        on(libc::SYS_connect, &[ASK]);
    }
    if questions.datagrams {
        // Whether they name an address is in memory.
        for number in [libc::SYS_bind, libc::SYS_sendmmsg] {
            on(number, &[ASK]);
        }
        // `base` refuses this flag later.
        let of_child = (libc::MSG_NOSIGNAL | LISTENER_FLAG) as u32;
        on(libc::SYS_sendmsg, &[load(argument(2)), jump(EQUAL, of_child, 0, 1), ALLOW, ASK]);
        let has_address =
            [load(argument(4)), jump(EQUAL, 0, 0, 2), load(argument(4) + 4), jump(EQUAL, 0, 1, 0), ASK, ALLOW];
        on(libc::SYS_sendto, &has_address);
    }
    if questions.signals {
        for number in [libc::SYS_kill, libc::SYS_tgkill] {
            on(number, &[ASK]);
        }
    }
    let [low, high] = [questions.first_program as u32, (questions.first_program >> 32) as u32];
    let execute =
        [load(argument(0)), jump(EQUAL, low, 0, 3), load(argument(0) + 4), jump(EQUAL, high, 0, 1), ALLOW, ASK];
    on(libc::SYS_execve, &execute);
    program.push(ALLOW);
    program
}

/// The lower half of an argument, on a little-endian machine.
const fn argument(number: u32) -> u32 {
    16 + 8 * number
}
