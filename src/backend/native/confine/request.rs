//! The shim's requests and their answers. The file of [`super::shim`] describes the messages.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv, send};

use super::kernel::{self, Received};
use crate::report::termination::Termination;

/// The longest request. The kernel's own limit for a message is lower.
const LONGEST: usize = 256 << 10;

/// A message from the shim, or from a program that imitates it.
#[derive(Debug)]
pub(super) enum Message {
    Run(Request),
    Signal(Signal),
    /// A piece of the command's standard input. An empty one is the end.
    Stdin(Vec<u8>),
    /// The other end is closed.
    End,
    /// It is malformed.
    Unclear,
    /// There is no message now.
    Nothing,
}

/// A command to run.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) directory: CString,
    /// The path that was executed.
    pub(super) program: PathBuf,
    /// The arguments after the program's name.
    pub(super) arguments: Vec<String>,
    pub(super) streams: [OwnedFd; 3],
}

/// The next message, without waiting. `reads_stdin`: the shim was asked for the command's standard input.
pub(super) fn receive(socket: BorrowedFd<'_>, reads_stdin: bool) -> Message {
    let nothing_or_end = |errno| match errno {
        Errno::EAGAIN | Errno::EINTR => Message::Nothing,
        _ => Message::End,
    };
    // Room for this message, since most are short.
    let length = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
    let mut buffer = match recv(socket.as_raw_fd(), &mut [], length) {
        Ok(length) => vec![0; length.min(LONGEST)],
        Err(errno) => return nothing_or_end(errno),
    };
    let Received { length, whole, descriptors } = match kernel::receive(socket, &mut buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(received) => received,
        Err(errno) => return nothing_or_end(errno),
    };
    let message = buffer.get(..length).unwrap_or_default();
    match message {
        [] => Message::End,
        [b'K', signal] => Signal::try_from(i32::from(*signal)).map_or(Message::Unclear, Message::Signal),
        _ if !whole => Message::Unclear,
        [b'D', piece @ ..] if reads_stdin => Message::Stdin(piece.to_vec()),
        _ if reads_stdin => Message::Unclear,
        message => request(message, descriptors).map_or(Message::Unclear, Message::Run),
    }
}

fn request(message: &[u8], descriptors: Vec<OwnedFd>) -> Option<Request> {
    let (count, rest) = message.split_first_chunk()?;
    let count = usize::try_from(u32::from_ne_bytes(*count)).ok()?;
    let rest = rest.strip_suffix(b"\0")?;
    let mut texts = rest.split(|&byte| byte == 0);
    let directory = CString::new(texts.next()?).ok()?;
    let program = PathBuf::from(String::from_utf8(texts.next()?.to_vec()).ok()?);
    let arguments: Vec<String> = texts.map(|text| String::from_utf8(text.to_vec()).ok()).collect::<Option<_>>()?;
    if arguments.len() != count {
        return None;
    }
    let base = Path::new(directory.to_str().ok()?);
    let program = base.join(program);
    let arguments = arguments.into_iter().skip(1).collect();
    Some(Request { directory, program, arguments, streams: descriptors.try_into().ok()? })
}

/// The answer to the shim.
#[derive(Debug)]
pub(super) enum Reply<'a> {
    Running,
    /// The shim must send the command's standard input.
    SendStdin,
    Ended(&'a Termination),
    /// The command does not run: an exit status, and a line for stderr.
    Failed(u8, &'a str),
}

/// Sends an answer to the shim, without waiting. Returns whether the shim takes it.
pub(super) fn reply(socket: BorrowedFd<'_>, reply: &Reply<'_>) -> bool {
    let message = match reply {
        Reply::Running => b"G".to_vec(),
        Reply::SendStdin => b"I".to_vec(),
        Reply::Ended(Termination::Signaled { signal, .. }) => vec![b'S', signal.to_le_bytes()[0]],
        Reply::Ended(termination) => vec![b'X', termination.exit_status()],
        Reply::Failed(status, why) => {
            let mut message = vec![b'E', *status];
            message.extend_from_slice(b"hookvisor: ");
            message.extend(why.bytes().take(2000));
            message.push(b'\n');
            message
        }
    };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    send(socket.as_raw_fd(), &message, flags).is_ok()
}
