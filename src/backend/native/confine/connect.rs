//! Connections of a confined hook. The runtime performs connect(2) on a copy of the hook's socket with a copy of the
//! address, so the address that was checked is the one that is used.

use std::ffi::{OsStr, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{SockaddrLike, SockaddrStorage, UnixAddr, connect, getsockopt, sockopt};
use nix::unistd::Pid;

use super::kernel::{self, Answer, Question};
use super::memory::Memory;
use crate::backend::grants;
use crate::hook::settings::grants::Address;
use crate::hook::trust::Trust;

/// The size of a Unix address, the longest of the three.
const LONGEST_ADDRESS: usize = 110;
const IPV6_ADDRESS: usize = 28;

/// A connection in progress.
pub(super) struct Pending {
    id: u64,
    pub(super) socket: OwnedFd,
    flags: OFlag,
}

/// The result of a requested connection.
pub(super) enum Connected {
    Done(Answer),
    Later(Pending),
    /// It is not granted.
    Refused(Address),
}

/// Connects if `is_granted` allows the address.
pub(super) fn begin(
    listener: BorrowedFd<'_>,
    question: &Question,
    trust: Trust,
    is_granted: impl FnOnce(&Address) -> bool,
) -> Connected {
    let fault = Connected::Done(Answer::Error(Errno::EFAULT));
    let [descriptor, address, length, ..] = question.arguments;
    let Some(memory) = Memory::of(question.thread) else { return fault };
    let length = usize::try_from(length).unwrap_or(0).min(LONGEST_ADDRESS);
    let mut bytes = [0; LONGEST_ADDRESS];
    let Some(()) = bytes.get_mut(..length).and_then(|bytes| memory.bytes(address, bytes)) else { return fault };
    let Some(address) = parse(&bytes, length) else {
        return Connected::Done(Answer::Error(Errno::EAFNOSUPPORT));
    };
    if !is_granted(&address) {
        return Connected::Refused(address);
    }
    let Some(process) = process_of(question.thread) else { return fault };
    // The number may have belonged to another process before, but not while this one waits.
    let number = c_int::try_from(descriptor & 0xffff_ffff).unwrap_or(-1);
    let socket = match kernel::descriptor_of(process, number) {
        Ok(socket) if kernel::is_waiting(listener, question.id) => socket,
        Ok(_) => return fault,
        Err(errno) => return Connected::Done(Answer::Error(errno)),
    };
    begun(question.id, socket, &address, trust).unwrap_or_else(|errno| Connected::Done(Answer::Error(errno)))
}

fn begun(id: u64, socket: OwnedFd, address: &Address, trust: Trust) -> Result<Connected, Errno> {
    match address {
        Address::Tcp(address) | Address::Udp(address) => start(id, socket, &SockaddrStorage::from(*address)),
        Address::Unix(path) => {
            // The granted socket, even if the hook changes the path meanwhile.
            let held = grants::open_socket(path, trust)?;
            start(id, socket, &UnixAddr::new(format!("/proc/self/fd/{}", held.as_raw_fd()).as_str())?)
        }
    }
}

/// Starts to connect without waiting. The hook shares the socket's flags, so they are restored at the end.
fn start(id: u64, socket: OwnedFd, address: &dyn SockaddrLike) -> Result<Connected, Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
    fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let begun = connect(socket.as_raw_fd(), address);
    let waits = begun == Err(Errno::EINPROGRESS) && !flags.contains(OFlag::O_NONBLOCK);
    let pending = Pending { id, socket, flags };
    if waits {
        return Ok(Connected::Later(pending));
    }
    pending.restore();
    Ok(Connected::Done(begun.map_or_else(Answer::Error, |()| Answer::Success)))
}

impl Pending {
    /// Call this when the socket is writable or has failed.
    pub(super) fn finish(self, listener: BorrowedFd<'_>) {
        let error = getsockopt(&self.socket.as_fd(), sockopt::SocketError).map(Errno::from_raw);
        self.restore();
        let answer = match error {
            Ok(Errno::UnknownErrno) => Answer::Success,
            Ok(errno) | Err(errno) => Answer::Error(errno),
        };
        kernel::answer(listener, self.id, answer);
    }

    fn restore(&self) {
        let _ = fcntl(&self.socket, FcntlArg::F_SETFL(self.flags));
    }
}

/// `struct sockaddr_in`, `sockaddr_in6`, or `sockaddr_un` with a path.
fn parse(bytes: &[u8; LONGEST_ADDRESS], length: usize) -> Option<Address> {
    let family = c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
    let port = u16::from_be_bytes([bytes[2], bytes[3]]);
    let ip: IpAddr = match family {
        libc::AF_INET if length >= 16 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?).into(),
        libc::AF_INET6 if length >= IPV6_ADDRESS => {
            Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?).into()
        }
        libc::AF_UNIX => {
            let path = bytes.get(2..length)?.split(|&byte| byte == 0).next()?;
            return path.starts_with(b"/").then(|| Address::Unix(OsStr::from_bytes(path).into()));
        }
        _ => return None,
    };
    Some(Address::Tcp(SocketAddr::new(ip, port)))
}

/// The process that a thread belongs to.
fn process_of(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    number.trim().parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_reads_it() {
        let mut bytes = [0; LONGEST_ADDRESS];
        bytes[..8].copy_from_slice(&[2, 0, 0x23, 0x82, 127, 0, 0, 1]);
        assert_eq!(parse(&bytes, 16), "127.0.0.1:9090".parse().map(Address::Tcp).ok());
        assert_eq!(parse(&bytes, 15), None);
        bytes[0] = 10;
        bytes[4..].fill(0);
        bytes[23] = 1;
        assert_eq!(parse(&bytes, 28), "[::1]:9090".parse().map(Address::Tcp).ok());
        assert_eq!(parse(&bytes, 24), None);
        bytes[0] = 1;
        assert_eq!(parse(&bytes, 28), None, "an abstract address");
        bytes[2..10].copy_from_slice(b"/run/x\0y");
        assert_eq!(parse(&bytes, 10), Some(Address::Unix("/run/x".into())));
        assert_eq!(parse(&bytes, 6), Some(Address::Unix("/run".into())));
        assert_eq!(parse(&bytes, 2), None);
    }
}
