//! UDP sockets of a confined hook. The runtime creates them. Each has a filter that the hook cannot remove, so it receives
//! from granted addresses alone, connected or not.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
use seccompiler::sock_filter;

use super::address::{self, HookSocket, SocketKind};
use super::bpf::{EQUAL, and, answer, jump, load, load_byte, load_half};
use super::kernel::{self, Answer, Question};
use super::memory::Memory;
use crate::hook::settings::grants::Address;

/// Where the packet's IP header begins (SKF_NET_OFF). The UDP header is at 0.
const IP: u32 = 0xfff0_0000;
const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// Creates the socket that a hook asks for.
pub(super) fn create<'a>(question: &Question, granted: impl Iterator<Item = &'a Address>) -> Result<OwnedFd, Errno> {
    let [family, kind, ..] = question.arguments.map(|argument| (argument as u32).cast_signed());
    let family = match family {
        libc::AF_INET => AddressFamily::Inet,
        libc::AF_INET6 => AddressFamily::Inet6,
        _ => return Err(Errno::EPERM),
    };
    let flags = SockFlag::from_bits_truncate(kind) | SockFlag::SOCK_CLOEXEC;
    let created = socket(family, SockType::Datagram, flags, None)?;
    kernel::set_socket_filter(created.as_fd(), &from(granted))?;
    Ok(created)
}

/// Whether the hook wants this socket to be closed when it executes a program.
pub(super) fn closes(question: &Question) -> bool {
    SockFlag::from_bits_truncate((question.arguments[1] as u32).cast_signed()).contains(SockFlag::SOCK_CLOEXEC)
}

/// Binds a UDP socket to an address and port that the system chooses, as sending does. Others are refused.
pub(super) fn bind_any(listener: BorrowedFd<'_>, question: &Question) -> Result<Answer, Errno> {
    let [_, at, length, ..] = question.arguments;
    let memory = Memory::of(question.thread).ok_or(Errno::EFAULT)?;
    let address = address::read(&memory, at, length)?;
    let socket = HookSocket::of(listener, question)?;
    match (address, socket.kind) {
        (Address::Tcp(address), SocketKind::Udp) if address.ip().is_unspecified() && address.port() == 0 => {
            bind(socket.descriptor.as_raw_fd(), &SockaddrStorage::from(address))?;
            Ok(Answer::Value(0))
        }
        _ => Err(Errno::EPERM),
    }
}

/// A program that keeps the datagrams from these addresses.
fn from<'a>(granted: impl Iterator<Item = &'a Address>) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for address in granted {
        if let Address::Udp(address) = address {
            program.extend(from_one(*address));
        }
    }
    program.push(answer(DROP));
    program
}

fn from_one(address: SocketAddr) -> Vec<sock_filter> {
    // What is loaded, and the value that it must have.
    let mut checks = Vec::new();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            checks.push((vec![load_byte(IP), and(0xf0)], 0x40));
            checks.push((vec![load(IP + 12)], ip.to_bits()));
        }
        IpAddr::V6(ip) => {
            checks.push((vec![load_byte(IP), and(0xf0)], 0x60));
            for (word, at) in ip.octets().as_chunks().0.iter().zip((8..).step_by(4)) {
                checks.push((vec![load(IP + at)], u32::from_be_bytes(*word)));
            }
        }
    }
    checks.push((vec![load_half(0)], address.port().into()));
    let mut program = vec![answer(KEEP)];
    for (mut load, value) in checks.into_iter().rev() {
        let past = u8::try_from(program.len()).unwrap_or(u8::MAX);
        load.push(jump(EQUAL, value, 0, past));
        program.splice(0..0, load);
    }
    program
}
