//! Sends of a confined hook that has UDP. The address is in memory, and can be another for each datagram. So the runtime
//! sends a copy of the message on a copy of the socket.

use std::ffi::c_int;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use super::address::{self, HookSocket, SocketKind, descriptors_of};
use super::kernel::{Answer, Question};
use super::memory::Memory;
use super::performed::{Pending, PendingCall, Performed};
use crate::hook::settings::grants::Address;

/// The longest message. Of more, a stream takes this much.
const LONGEST: usize = 256 << 10;
const MOST_PARTS: u64 = 1024;
const LONGEST_CONTROL: u64 = 512;
/// The size of `struct cmsghdr`, and of `struct msghdr`.
const CONTROL_HEADER: usize = 16;
const MESSAGE_HEADER: u64 = 56;
const FLAGS: MsgFlags = MsgFlags::from_bits_retain(
    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_MORE | libc::MSG_EOR | libc::MSG_CONFIRM | libc::MSG_OOB,
);

/// A message in a hook's memory: addresses and lengths.
struct Described {
    name: Option<(u64, u64)>,
    parts: Vec<(u64, u64)>,
    control: Option<(u64, u64)>,
    flags: MsgFlags,
    /// Where sendmmsg(2) wants the number of sent bytes.
    sent_at: Option<u64>,
}

/// A copy of a message.
struct Sending {
    socket: OwnedFd,
    bytes: Vec<u8>,
    rights: Vec<OwnedFd>,
    to: Option<SocketAddr>,
    flags: MsgFlags,
    waits: bool,
    sent_at: Option<(Memory, u64)>,
}

/// Sends the message if it names no address, or one that `is_granted` allows. Of several, it sends the first: the caller
/// must handle that.
pub(super) fn begin(
    listener: BorrowedFd<'_>,
    question: &Question,
    is_granted: impl Fn(&Address) -> bool,
) -> Result<Performed, Errno> {
    if question.number == libc::SYS_sendmmsg && question.arguments[2] == 0 {
        return Ok(Performed::Done(Answer::Value(0)));
    }
    let memory = Memory::of(question.thread).ok_or(Errno::EFAULT)?;
    let message = described(&memory, question)?;
    if !FLAGS.contains(message.flags) {
        return Err(Errno::EOPNOTSUPP);
    }
    let name = message.name.map(|(at, length)| address::read(&memory, at, length)).transpose()?;
    let numbers = message.control.map(|(at, length)| rights(&memory, at, length)).transpose()?.unwrap_or_default();
    let mut bytes = Vec::new();
    let whole = gather(&memory, &message.parts, &mut bytes)?;
    let socket = HookSocket::of(listener, question)?;
    let to = match (name.map(|name| socket.uses(name)), socket.kind) {
        (None, _) => None,
        (Some(address), SocketKind::Udp) if !is_granted(&address) => return Ok(Performed::Refused(address)),
        (Some(Address::Udp(address)), SocketKind::Udp) => Some(address),
        (Some(_), SocketKind::Udp) => return Err(Errno::EAFNOSUPPORT),
        (Some(_), SocketKind::Stream | SocketKind::Other) => return Err(Errno::EISCONN),
    };
    if !whole && socket.kind != SocketKind::Stream {
        return Err(Errno::EMSGSIZE);
    }
    // Control messages can set the options of a single datagram.
    if socket.kind == SocketKind::Udp && message.control.is_some() {
        return Err(Errno::EPERM);
    }
    // This also checks that the process still waits: what was read is its own.
    let rights = descriptors_of(listener, question, &numbers)?;
    let flags = OFlag::from_bits_retain(fcntl(&socket.descriptor, FcntlArg::F_GETFL)?);
    let waits = !flags.contains(OFlag::O_NONBLOCK) && !message.flags.contains(MsgFlags::MSG_DONTWAIT);
    let sent_at = message.sent_at.map(|at| (memory, at));
    let flags = message.flags;
    let sending = Sending { socket: socket.descriptor, bytes, rights, to, flags, waits, sent_at };
    Ok(Box::new(sending).attempt(question.id))
}

impl Sending {
    /// Sends without waiting.
    fn attempt(self: Box<Self>, id: u64) -> Performed {
        let numbers: Vec<RawFd> = self.rights.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[] } else { rights.as_slice() };
        let flags = self.flags | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let to = self.to.map(SockaddrStorage::from);
        let answer = match sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(&self.bytes)], rights, flags, to.as_ref()) {
            Err(Errno::EAGAIN) if self.waits => return Performed::Later(Pending { id, call: self }),
            Err(errno) => Answer::Error(errno),
            Ok(sent) => match &self.sent_at {
                None => Answer::Value(i64::try_from(sent).unwrap_or(i64::MAX)),
                Some((memory, at)) => match memory.write(*at, &u32::try_from(sent).unwrap_or(u32::MAX).to_ne_bytes()) {
                    Some(()) => Answer::Value(1),
                    None => Answer::Error(Errno::EFAULT),
                },
            },
        };
        Performed::Done(answer)
    }
}

impl PendingCall for Sending {
    fn waits_for(&self) -> PollFd<'_> {
        PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)
    }

    fn holds_message(&self) -> bool {
        true
    }

    fn finish(self: Box<Self>, id: u64) -> Performed {
        self.attempt(id)
    }
}

fn described(memory: &Memory, question: &Question) -> Result<Described, Errno> {
    let [_, first, second, third, name, name_length] = question.arguments;
    match question.number {
        libc::SYS_sendmsg => header(memory, first, second),
        libc::SYS_sendmmsg => {
            let sent_at = first.checked_add(MESSAGE_HEADER);
            Ok(Described { sent_at, ..header(memory, first, third)? })
        }
        _ => Ok(Described {
            name: place(name, name_length & 0xffff_ffff),
            parts: vec![(first, second)],
            control: None,
            flags: flags_of(third),
            sent_at: None,
        }),
    }
}

/// `struct msghdr` of a 64-bit process.
fn header(memory: &Memory, at: u64, flags: u64) -> Result<Described, Errno> {
    let [name, name_length, parts, count, control, control_length] = memory.words(at).ok_or(Errno::EFAULT)?;
    if count > MOST_PARTS {
        return Err(Errno::EMSGSIZE);
    }
    let part = |number: u64| -> Option<(u64, u64)> {
        let [base, length] = memory.words(parts.checked_add(16 * number)?)?;
        Some((base, length))
    };
    Ok(Described {
        name: place(name, name_length & 0xffff_ffff),
        parts: (0..count).map(part).collect::<Option<_>>().ok_or(Errno::EFAULT)?,
        control: place(control, control_length),
        flags: flags_of(flags),
        sent_at: None,
    })
}

/// The kernel ignores an address without a length, and a length without an address.
fn place(at: u64, length: u64) -> Option<(u64, u64)> {
    (at != 0 && length != 0).then_some((at, length))
}

fn flags_of(argument: u64) -> MsgFlags {
    MsgFlags::from_bits_retain(((argument & 0xffff_ffff) as u32).cast_signed())
}

/// Copies the parts, up to a limit. Returns whether this is all of them.
fn gather(memory: &Memory, parts: &[(u64, u64)], bytes: &mut Vec<u8>) -> Result<bool, Errno> {
    for &(at, length) in parts {
        let start = bytes.len();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let taken = length.min(LONGEST - start);
        bytes.resize(start + taken, 0);
        bytes.get_mut(start..).and_then(|piece| memory.bytes(at, piece)).ok_or(Errno::EFAULT)?;
        if taken < length {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The numbers of the descriptors in control messages. Others than SCM_RIGHTS are refused.
fn rights(memory: &Memory, at: u64, length: u64) -> Result<Vec<c_int>, Errno> {
    if length > LONGEST_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut control = vec![0; usize::try_from(length).unwrap_or_default()];
    memory.bytes(at, &mut control).ok_or(Errno::EFAULT)?;
    let mut numbers = Vec::new();
    let mut rest = control.as_slice();
    while let Some((header, _)) = rest.split_first_chunk::<CONTROL_HEADER>() {
        let (size, of) = header.split_at(8);
        let size = usize::try_from(u64::from_ne_bytes(size.try_into().unwrap_or_default())).unwrap_or_default();
        let is_rights = [libc::SOL_SOCKET, libc::SCM_RIGHTS].map(c_int::to_ne_bytes).as_flattened() == of;
        if !is_rights {
            return Err(Errno::EPERM);
        }
        let content = rest.get(CONTROL_HEADER..size).ok_or(Errno::EINVAL)?;
        numbers.extend(content.as_chunks().0.iter().map(|&number| c_int::from_ne_bytes(number)));
        rest = rest.get(size.next_multiple_of(8)..).unwrap_or_default();
    }
    Ok(numbers)
}
