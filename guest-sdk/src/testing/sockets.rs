//! Unix sockets of a test.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use super::rights::Rights;

/// The sockets of a test.
#[derive(Debug, Default)]
pub(super) struct Sockets(Vec<Socket>);

#[derive(Debug)]
struct Socket {
    path: PathBuf,
    answer: Vec<u8>,
    /// What the hook wrote, once it has connected.
    sent: Option<Arc<Mutex<Vec<u8>>>>,
}

impl Sockets {
    pub(super) fn add(&mut self, path: &str, answer: Vec<u8>) {
        self.0.push(Socket { path: path.into(), answer, sent: None });
    }

    pub(super) fn connect(&mut self, path: &str, rights: Option<&Rights>) -> Result<Peer, String> {
        rights.map_or(Ok(()), |rights| rights.check_connection(path))?;
        let socket = self.0.iter_mut().find(|socket| socket.path.as_os_str() == path);
        let socket = socket.ok_or("the test has no answer for this socket")?;
        let sent = Arc::clone(socket.sent.get_or_insert_default());
        Ok(Peer { answer: io::Cursor::new(socket.answer.clone()), sent })
    }

    pub(super) fn sent(&self, path: &str) -> Option<Vec<u8>> {
        let socket = self.0.iter().find(|socket| socket.path.as_os_str() == path)?;
        socket.sent.as_ref().map(|sent| sent.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The other end of a hook's connection.
#[derive(Debug)]
pub(crate) struct Peer {
    answer: io::Cursor<Vec<u8>>,
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Peer {
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.answer.read(buffer)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }
}
