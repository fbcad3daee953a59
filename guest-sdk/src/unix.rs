use std::io::{self, ErrorKind, Read, Write};

use crate::sys;

/// A stream connection to a Unix socket on the host, modelled on std's `UnixStream`.
///
/// For a sandboxed hook, the runtime makes the connection if a `[[connect]]` in the hook's settings lists the path. A
/// native hook makes it directly. Reads and writes wait until the hook's timeout at most. Dropping it closes the
/// connection.
///
/// ```no_run
/// use hookvisor_guest::UnixStream;
/// use std::io::{Read, Write};
///
/// let mut monitor = UnixStream::connect("/run/monitor.sock")?;
/// monitor.write_all(b"status\n")?;
/// monitor.shutdown_write()?;
/// let mut status = String::new();
/// monitor.read_to_string(&mut status)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct UnixStream(Peer);

#[derive(Debug)]
enum Peer {
    Host(sys::Connection),
    #[cfg(feature = "testing")]
    Scripted(crate::testing::Peer),
}

impl UnixStream {
    /// Connects to the socket with this absolute path.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`] if the settings do not grant the connection; otherwise as for std's `UnixStream`.
    pub fn connect(path: impl AsRef<str>) -> io::Result<Self> {
        let path = path.as_ref();
        if !path.starts_with('/') {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the path of a socket has to be absolute"));
        }
        #[cfg(feature = "testing")]
        if let Some(peer) = crate::testing::connect(path) {
            return Ok(Self(Peer::Scripted(peer.map_err(|why| refused(path, &why))?)));
        }
        sys::Connection::connect(path).map(|connection| Self(Peer::Host(connection)))
    }

    /// Tells the peer that nothing more is written. Reading still works.
    ///
    /// # Errors
    /// The peer has closed the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match &self.0 {
            Peer::Host(connection) => connection.shutdown_write(),
            #[cfg(feature = "testing")]
            Peer::Scripted(_) => Ok(()),
        }
    }
}

impl Read for UnixStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Peer::Host(connection) => connection.read(buffer),
            #[cfg(feature = "testing")]
            Peer::Scripted(peer) => peer.read(buffer),
        }
    }
}

impl Write for UnixStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Peer::Host(connection) => connection.write(bytes),
            #[cfg(feature = "testing")]
            Peer::Scripted(peer) => peer.write(bytes),
        }
    }

    /// Nothing is buffered.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The error for a connection that is not granted.
#[cfg(any(feature = "testing", target_os = "wasi"))]
fn refused(path: &str, why: &str) -> io::Error {
    io::Error::new(ErrorKind::PermissionDenied, format!("this hook may not connect to {path}: {why}"))
}

/// The error with this number, as the runtime gives it for a connection to `path`.
#[cfg(target_os = "wasi")]
pub(crate) fn not_connected(path: &str, errno: u16) -> io::Error {
    /// `notcapable`.
    const NOT_GRANTED: u16 = 76;
    match errno {
        NOT_GRANTED => {
            refused(path, "the hook's settings do not list this connection (the report says how to allow it)")
        }
        errno => io::Error::from_raw_os_error(errno.into()),
    }
}
