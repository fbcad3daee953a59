//! The daemon's Unix socket.
//!
//! A client sends one command per line: `start NAME PROGRAM [ARG…]`, `stop NAME` or `list`. Spaces separate words;
//! there is no quoting. An answer is one or more lines of text and an empty line. The first line begins with `ok` or
//! `no`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::sys::stat::{Mode, umask};

use crate::guests::Guests;

/// The longest accepted line.
const LINE: u64 = 64 << 10;
/// The maximum number of connected clients.
const CLIENTS: usize = 256;
/// How long a client may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(5);
/// The pause before a retry when no client can be accepted.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    socket: PathBuf,
    clients: Arc<Clients>,
    _lock: File,
}

/// Makes sure that no other daemon uses this socket while the file is open.
pub(crate) fn lock(socket: &Path) -> anyhow::Result<File> {
    let lock_file = socket.with_added_extension("lock");
    let lock = File::create(&lock_file).with_context(|| lock_file.display().to_string())?;
    lock.try_lock().with_context(|| format!("another daemon has {}", socket.display()))?;
    Ok(lock)
}

impl Server {
    /// Starts to accept clients.
    pub(crate) fn listen(socket: &Path, guests: Arc<Guests>, lock: File) -> anyhow::Result<Self> {
        if let Ok(stale) = fs::symlink_metadata(socket) {
            ensure!(stale.file_type().is_socket(), "{} is something else than a socket", socket.display());
            fs::remove_file(socket)?;
        }
        // Whoever can connect can run programs as this user.
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(socket);
        umask(before);
        let listener = listener.with_context(|| socket.display().to_string())?;
        let clients = Arc::<Clients>::default();
        let theirs = Arc::clone(&clients);
        thread::Builder::new().name("server".to_owned()).spawn(move || {
            for client in listener.incoming() {
                if let Err(why) = client.map_err(Into::into).and_then(|client| theirs.take(client, &guests)) {
                    tracing::warn!("a client was not taken: {why:#}");
                    thread::sleep(PAUSE);
                }
            }
        })?;
        Ok(Self { socket: socket.to_owned(), clients, _lock: lock })
    }

    /// Finishes the answers to pending requests, and then stops.
    pub(crate) fn close(self) {
        if let Err(why) = fs::remove_file(&self.socket) {
            tracing::warn!("{} could not be removed: {why}", self.socket.display());
        }
        let mut connected = self.clients.connected();
        connected.closed = true;
        for stream in connected.streams.values() {
            let _ = stream.shutdown(Shutdown::Read);
        }
        let gone = self.clients.gone.wait_while(connected, |connected| !connected.streams.is_empty());
        drop(gone.unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Default)]
struct Clients {
    connected: Mutex<Connected>,
    gone: Condvar,
}

#[derive(Default)]
struct Connected {
    streams: BTreeMap<u64, UnixStream>,
    next: u64,
    closed: bool,
}

impl Clients {
    /// Serves a client on its own thread.
    fn take(self: &Arc<Self>, stream: UnixStream, guests: &Arc<Guests>) -> anyhow::Result<()> {
        stream.set_write_timeout(Some(UNREAD))?;
        let mut connected = self.connected();
        ensure!(!connected.closed, "the daemon is ending");
        ensure!(connected.streams.len() < CLIENTS, "there are {CLIENTS} already");
        let id = connected.next;
        connected.next += 1;
        connected.streams.insert(id, stream.try_clone()?);
        let (client, guests) = (Client { clients: Arc::clone(self), id }, Arc::clone(guests));
        drop(connected);
        let thread = thread::Builder::new().name(format!("client {id}"));
        thread.spawn(move || client.serve(&stream, &guests))?;
        Ok(())
    }

    fn connected(&self) -> MutexGuard<'_, Connected> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slot of a client, released on drop.
struct Client {
    clients: Arc<Clients>,
    id: u64,
}

impl Client {
    fn serve(&self, stream: &UnixStream, guests: &Arc<Guests>) {
        if let Err(why) = converse(stream, guests) {
            tracing::info!(client = self.id, "gone: {why}");
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.clients.connected().streams.remove(&self.id);
        self.clients.gone.notify_all();
    }
}

fn converse(stream: &UnixStream, guests: &Arc<Guests>) -> io::Result<()> {
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut lines).take(LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 == LINE && !line.ends_with(b"\n") {
            return answer(stream, &format!("no the line is longer than {LINE} bytes"));
        }
        match obey(&line, guests) {
            Ok(done) => answer(stream, &format!("ok {done}"))?,
            Err(why) => answer(stream, &format!("no {why:#}"))?,
        }
    }
}

fn obey(line: &[u8], guests: &Arc<Guests>) -> anyhow::Result<String> {
    let line = std::str::from_utf8(line).context("a command is text")?;
    match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["start", name, program @ ..] => guests.start(name, program),
        ["stop", name] => guests.stop(name),
        ["list"] => Ok(guests.list()),
        _ => bail!("a command is: start NAME PROGRAM [ARG…], stop NAME, or list"),
    }
}

fn answer(mut stream: &UnixStream, text: &str) -> io::Result<()> {
    // An empty line ends the answer, so the text contains none.
    let lines: String = text.lines().filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect();
    stream.write_all(format!("{lines}\n").as_bytes())
}
