//! Connections of a confined hook. The runtime performs connect(2) on a copy of the hook's socket with a copy of the
//! address, so the address that was checked is the one that is used.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockopt, sockopt};

use super::address::{self, HookSocket};
use super::kernel::{Answer, Question};
use super::memory::Memory;
use super::performed::{Pending, PendingCall, Performed};
use crate::backend::grants;
use crate::hook::settings::grants::Address;
use crate::hook::trust::Trust;

/// A connection in progress.
struct Connecting {
    socket: OwnedFd,
    flags: OFlag,
}

/// Connects if `is_granted` allows the address.
pub(super) fn begin(
    listener: BorrowedFd<'_>,
    question: &Question,
    trust: Trust,
    is_granted: impl Fn(&Address) -> bool,
) -> Result<Performed, Errno> {
    let [_, at, length, ..] = question.arguments;
    let memory = Memory::of(question.thread).ok_or(Errno::EFAULT)?;
    let address = address::read(&memory, at, length)?;
    if matches!(address, Address::Unix(_)) && !is_granted(&address) {
        return Ok(Performed::Refused(address));
    }
    let socket = HookSocket::of(listener, question)?;
    match socket.uses(address) {
        Address::Unix(path) => {
            // The granted socket, even if the hook changes the path meanwhile.
            let held = grants::open_socket(&path, trust)?;
            let path = format!("/proc/self/fd/{}", held.as_raw_fd());
            start(question.id, socket.descriptor, &UnixAddr::new(path.as_str())?)
        }
        address if !is_granted(&address) => Ok(Performed::Refused(address)),
        Address::Tcp(address) | Address::Udp(address) => {
            start(question.id, socket.descriptor, &SockaddrStorage::from(address))
        }
    }
}

/// Starts to connect without waiting. The hook shares the socket's flags, so they are restored at the end.
fn start(id: u64, socket: OwnedFd, address: &dyn SockaddrLike) -> Result<Performed, Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let begun = connect(socket.as_raw_fd(), address);
    let waits = begun == Err(Errno::EINPROGRESS) && !flags.contains(OFlag::O_NONBLOCK);
    let connecting = Connecting { socket, flags };
    if waits {
        return Ok(Performed::Later(Pending { id, call: Box::new(connecting) }));
    }
    connecting.restore();
    begun.map(|()| Performed::Done(Answer::Value(0)))
}

impl Connecting {
    fn restore(&self) {
        let _ = fcntl(&self.socket, FcntlArg::F_SETFL(self.flags));
    }
}

impl PendingCall for Connecting {
    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn holds_message(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: u64) -> Performed {
        let error = getsockopt(&self.socket.as_fd(), sockopt::SocketError).map(Errno::from_raw);
        self.restore();
        Performed::Done(match error {
            Ok(Errno::UnknownErrno) => Answer::Value(0),
            Ok(errno) | Err(errno) => Answer::Error(errno),
        })
    }
}
