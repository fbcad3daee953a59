//! Connections of a confined hook. The runtime performs connect(2) on a copy of the hook's socket with a copy of the
//! address, so the address that was checked is the one that is used.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{SockaddrLike, SockaddrStorage, connect, getsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::address::{self, HookSocket};
use super::kernel::{Answer, Question};
use super::memory::Memory;
use super::performed::{Pending, PendingCall, Performed};
use crate::backend::grants::{self, HeldSocket, TRY_AGAIN};
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
            Box::new(ToUnix { socket: socket.descriptor, held, wait: None }).attempt(question.id)
        }
        address if !is_granted(&address) => Ok(Performed::Refused(address)),
        Address::Tcp(address) | Address::Udp(address) => {
            start(question.id, socket.descriptor, &SockaddrStorage::from(address))
        }
    }
}

/// Connects without waiting. Returns the result, and the socket's flags. The hook shares these, so they have to be restored.
fn connect_at_once(socket: &OwnedFd, address: &dyn SockaddrLike) -> Result<(Result<(), Errno>, OFlag), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL)?);
    fcntl(socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok((connect(socket.as_raw_fd(), address), flags))
}

fn restore(socket: &OwnedFd, flags: OFlag) {
    let _ = fcntl(socket, FcntlArg::F_SETFL(flags));
}

/// Starts to connect to an address and port.
fn start(id: u64, socket: OwnedFd, address: &SockaddrStorage) -> Result<Performed, Errno> {
    let (begun, flags) = connect_at_once(&socket, address)?;
    let waits = begun == Err(Errno::EINPROGRESS) && !flags.contains(OFlag::O_NONBLOCK);
    if waits {
        return Ok(Performed::Later(Pending { id, call: Box::new(Connecting { socket, flags }) }));
    }
    restore(&socket, flags);
    begun.map(|()| Performed::Done(Answer::Value(0)))
}

impl PendingCall for Connecting {
    fn waits_for(&self) -> PollFd<'_> {
        PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)
    }

    fn holds_message(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, _: u64) -> Performed {
        let error = getsockopt(&self.socket.as_fd(), sockopt::SocketError).map(Errno::from_raw);
        restore(&self.socket, self.flags);
        Performed::Done(match error {
            Ok(Errno::UnknownErrno) => Answer::Value(0),
            Ok(errno) | Err(errno) => Answer::Error(errno),
        })
    }
}

/// A connection to a Unix socket. It is made at once, unless the listener's queue is full.
struct ToUnix {
    socket: OwnedFd,
    held: HeldSocket,
    wait: Option<TimerFd>,
}

impl ToUnix {
    fn attempt(mut self: Box<Self>, id: u64) -> Result<Performed, Errno> {
        let (connected, flags) = connect_at_once(&self.socket, &self.held.address()?)?;
        restore(&self.socket, flags);
        if connected != Err(Errno::EAGAIN) || flags.contains(OFlag::O_NONBLOCK) {
            return connected.map(|()| Performed::Done(Answer::Value(0)));
        }
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        timer.set(Expiration::OneShot(TimeSpec::from(TRY_AGAIN)), TimerSetTimeFlags::empty())?;
        self.wait = Some(timer);
        Ok(Performed::Later(Pending { id, call: self }))
    }
}

impl PendingCall for ToUnix {
    fn waits_for(&self) -> PollFd<'_> {
        let timer = self.wait.as_ref().map(|timer| PollFd::new(timer.as_fd(), PollFlags::POLLIN));
        timer.unwrap_or_else(|| PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT))
    }

    fn holds_message(&self) -> bool {
        false
    }

    fn finish(self: Box<Self>, id: u64) -> Performed {
        self.attempt(id).unwrap_or_else(|errno| Performed::Done(Answer::Error(errno)))
    }
}
