//! A socket of a hook that waits for an answer, and the address that the hook passes with it.

use std::ffi::{OsStr, c_int};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::kernel::{self, Question};
use super::memory::Memory;
use crate::hook::settings::grants::Address;

/// The size of a Unix address, the longest of the three.
const LONGEST_ADDRESS: usize = 110;
const IPV6_ADDRESS: usize = 28;

/// A copy of a hook's socket. Its kind never changes, whatever the hook does with its own descriptor.
pub(super) struct HookSocket {
    pub(super) descriptor: OwnedFd,
    pub(super) kind: SocketKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SocketKind {
    /// A datagram socket of IPv4 or IPv6.
    Udp,
    /// A stream socket of any family.
    Stream,
    Other,
}

impl HookSocket {
    /// The socket with this number in the asking process.
    pub(super) fn of(listener: BorrowedFd<'_>, question: &Question) -> Result<Self, Errno> {
        let number = c_int::try_from(question.arguments[0] & 0xffff_ffff).map_err(|_| Errno::EBADF)?;
        let [descriptor] =
            <[OwnedFd; 1]>::try_from(descriptors_of(listener, question, &[number])?).map_err(|_| Errno::EFAULT)?;
        let option = |name| kernel::socket_option(descriptor.as_fd(), name);
        let kind = match (option(libc::SO_DOMAIN)?, option(libc::SO_TYPE)?) {
            (libc::AF_INET | libc::AF_INET6, libc::SOCK_DGRAM) => SocketKind::Udp,
            (_, libc::SOCK_STREAM) => SocketKind::Stream,
            _ => SocketKind::Other,
        };
        Ok(Self { descriptor, kind })
    }

    /// An address as this socket uses it.
    pub(super) fn uses(&self, address: Address) -> Address {
        match (address, self.kind) {
            (Address::Tcp(address), SocketKind::Udp) => Address::Udp(address),
            (address, _) => address,
        }
    }
}

/// Copies of the asking process's descriptors with these numbers.
pub(super) fn descriptors_of(
    listener: BorrowedFd<'_>,
    question: &Question,
    numbers: &[c_int],
) -> Result<Vec<OwnedFd>, Errno> {
    let process = process_of(question.thread).ok_or(Errno::EFAULT)?;
    let copies = numbers.iter().map(|&number| kernel::descriptor_of(process, number)).collect();
    // The number may have belonged to another process before, but not while this one waits.
    if kernel::is_waiting(listener, question.id) { copies } else { Err(Errno::EFAULT) }
}

/// The process that a thread belongs to.
fn process_of(thread: Pid) -> Option<Pid> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    number.trim().parse().ok().map(Pid::from_raw)
}

/// The address in a process's memory. An Internet address is given as one of TCP: see [`HookSocket::uses`].
pub(super) fn read(memory: &Memory, at: u64, length: u64) -> Result<Address, Errno> {
    let length = usize::try_from(length & 0xffff_ffff).unwrap_or(0).min(LONGEST_ADDRESS);
    let mut bytes = [0; LONGEST_ADDRESS];
    bytes.get_mut(..length).and_then(|bytes| memory.bytes(at, bytes)).ok_or(Errno::EFAULT)?;
    parse(&bytes, length).ok_or(Errno::EAFNOSUPPORT)
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
