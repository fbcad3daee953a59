//! A guest's connections to Unix sockets.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::str;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, connect, recv, send, shutdown, socket};
use nix::sys::time::TimeSpec;

use crate::backend::{check_deadline, grants};
use crate::hook::settings::grants::LONGEST_SOCKET_PATH;
use crate::hook::trust::Trust;
use crate::limits::{Deadline, Expired};

/// The maximum number of bytes in one read or write.
pub(super) const AT_ONCE: usize = 64 << 10;
/// The longest single wait. Then the deadline is checked.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the hook's settings do not list this connection")]
    NotGranted,
    #[error(transparent)]
    System(#[from] Errno),
    /// The call ends.
    #[error(transparent)]
    Expired(#[from] Expired),
}

/// The path of a socket, as the guest wrote it.
pub(super) fn path(bytes: &[u8]) -> Result<PathBuf, Errno> {
    if bytes.len() > LONGEST_SOCKET_PATH {
        return Err(Errno::ENAMETOOLONG);
    }
    // An abstract address begins with a NUL.
    if !bytes.starts_with(b"/") {
        return Err(Errno::EAFNOSUPPORT);
    }
    match str::from_utf8(bytes) {
        Ok(path) if !path.contains('\0') => Ok(path.into()),
        _ => Err(Errno::EINVAL),
    }
}

/// A stream connection. Its operations wait until the call's deadline at most.
pub(super) struct Connection {
    socket: OwnedFd,
    deadline: Deadline,
    hook: Arc<Path>,
}

impl Connection {
    pub(super) fn open(path: &Path, trust: Trust, deadline: &Deadline, hook: &Arc<Path>) -> Result<Self, Failure> {
        // The socket that was checked, even if its path changes meanwhile.
        let held = grants::open_socket(path, trust)?;
        let address = held.address()?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let connection = Self { socket, deadline: deadline.clone(), hook: Arc::clone(hook) };
        loop {
            match connect(connection.socket.as_raw_fd(), &address) {
                Err(Errno::EAGAIN) => connection.wait(None, grants::TRY_AGAIN)?,
                done => return Ok(done.map(|()| connection)?),
            }
        }
    }

    /// Reads some bytes, none at the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Failure> {
        let length = buffer.len().min(AT_ONCE);
        self.when(PollFlags::POLLIN, |socket| recv(socket, &mut buffer[..length], MsgFlags::empty()))
    }

    /// Writes some of the bytes.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Failure> {
        let bytes = &bytes[..bytes.len().min(AT_ONCE)];
        self.when(PollFlags::POLLOUT, |socket| send(socket, bytes, MsgFlags::MSG_NOSIGNAL))
    }

    /// Tells the peer that nothing more is written.
    pub(super) fn shutdown_write(&self) -> Result<(), Failure> {
        Ok(shutdown(self.socket.as_raw_fd(), Shutdown::Write)?)
    }

    fn when<T>(&self, ready: PollFlags, mut act: impl FnMut(RawFd) -> Result<T, Errno>) -> Result<T, Failure> {
        loop {
            match act(self.socket.as_raw_fd()) {
                Err(Errno::EAGAIN) => self.wait(Some(PollFd::new(self.socket.as_fd(), ready)), LONGEST_WAIT)?,
                done => return Ok(done?),
            }
        }
    }

    /// Waits for the socket, a cancellation or the deadline.
    fn wait(&self, socket: Option<PollFd<'_>>, at_most: Duration) -> Result<(), Failure> {
        let wake_in = check_deadline(&self.deadline, &self.hook)?;
        let sources = self.deadline.sources().map(|(_, source)| source.as_fd());
        let events = self.deadline.cancel_events()?.into_iter().chain(sources);
        let events = events.map(|event| PollFd::new(event, PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> = socket.into_iter().chain(events).collect();
        match ppoll(&mut fds, Some(TimeSpec::from(wake_in.min(at_most))), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absolute_path_that_fits_an_address_is_one() {
        assert_eq!(path(b"/run/x.sock"), Ok("/run/x.sock".into()));
        for (bytes, errno) in [
            (b"x.sock".as_slice(), Errno::EAFNOSUPPORT),
            (b"", Errno::EAFNOSUPPORT),
            (b"\0abstract", Errno::EAFNOSUPPORT),
            (b"/run/\0", Errno::EINVAL),
            (b"/run/\xff", Errno::EINVAL),
            (&[b'/'; 108], Errno::ENAMETOOLONG),
        ] {
            assert_eq!(path(bytes), Err(errno), "{bytes:?}");
        }
    }
}
