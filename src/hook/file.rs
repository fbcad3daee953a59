//! A hook's file, opened once: the file that is checked is the file that is run.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::error::LaunchError;
use super::identity::Identity;
use super::kind::Kind;
use super::trust::Trust;
use super::walk::{self, WalkError, Way};

/// The part of a script's first line that the kernel reads (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;
/// How much of a module is read at once.
#[cfg(feature = "wasm")]
const PIECE: usize = 16 << 10;

/// An open, trusted, regular file of a hook.
#[derive(Debug)]
pub(crate) struct HookFile {
    pub(crate) path: PathBuf,
    pub(crate) head: Vec<u8>,
    pub(crate) size: u64,
    file: File,
    pub(crate) identity: Identity,
    executable: bool,
}

impl HookFile {
    pub(crate) fn open(path: &Path, trust: Trust) -> Result<Self, LaunchError> {
        let (file, found) = open_trusted(path, trust).map_err(|error| match error {
            OpenError::NotFound(why) => LaunchError::NotFound(why),
            refused => LaunchError::Refused(refused.to_string()),
        })?;
        let mut head = Vec::with_capacity(HEAD as usize);
        io::Read::by_ref(&mut &file).take(HEAD).read_to_end(&mut head).map_err(|e| unreadable(&e))?;
        let executable = found.permissions().mode() & 0o111 != 0;
        Ok(Self { path: path.to_owned(), head, size: found.len(), file, identity: Identity::of(&found), executable })
    }

    pub(crate) fn kind(&self) -> Kind {
        Kind::of_content(&self.head)
    }

    /// Whether any execute bit is set.
    pub(crate) fn is_executable(&self) -> bool {
        self.executable
    }

    /// The whole content, in pieces, from the file that was checked.
    #[cfg(feature = "wasm")]
    pub(crate) fn each_piece(&self, mut take: impl FnMut(&[u8])) -> Result<(), LaunchError> {
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            let at_once = PIECE.min(usize::try_from(self.size - at).unwrap_or(PIECE));
            match self.read_at(&mut piece[..at_once], at) {
                Ok(0) => return Ok(()),
                Ok(read) => {
                    take(&piece[..read]);
                    at += read as u64;
                }
                Err(e) => return Err(unreadable(&e)),
            }
        }
    }

    /// Reads from the file that was checked. Returns 0 at its end.
    pub(crate) fn read_at(&self, piece: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(piece, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

fn unreadable(error: &io::Error) -> LaunchError {
    LaunchError::Refused(format!("it could not be read: {error}"))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

/// Whether a name is a link to /dev/null. Administrators mask packaged hooks this way.
pub(crate) fn is_mask(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().filter(|m| m.file_type().is_char_device()).map(|m| m.rdev());
    device(path).is_some_and(|found| Some(found) == device(Path::new("/dev/null")))
}

/// Why a file that a hook needs cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Refused(String),
    #[error("it is not a directory")]
    NotADirectory,
    /// The system refused to open it.
    #[error("it could not be opened: {0}")]
    Io(io::Error),
}

/// Opens a trusted regular file. A FIFO does not block.
pub(crate) fn open_trusted(path: &Path, trust: Trust) -> Result<(File, Metadata), OpenError> {
    let (file, found) = open(path, trust, Way::Whole)?;
    let kind = found.file_type();
    if !kind.is_file() {
        let what = match () {
            () if kind.is_dir() => "directory",
            () if kind.is_fifo() => "FIFO",
            () => "device",
        };
        return Err(OpenError::Refused(not_a_file(what)));
    }
    Ok((file, found))
}

/// Opens a trusted directory, in which no other user can put files.
pub(crate) fn open_trusted_directory(path: &Path, trust: Trust) -> Result<File, OpenError> {
    open_directory(path, trust, Way::Whole)
}

/// Opens a directory that a hook may use. Anybody may own it, but other users must not control a link on its path.
pub(crate) fn open_granted_directory(path: &Path, trust: Trust) -> Result<File, OpenError> {
    open_directory(path, trust, Way::Links)
}

/// Checks the path of a file without opening the file.
pub(crate) fn check_way(path: &Path, trust: Trust) -> Result<(), OpenError> {
    open(path, trust, Way::ToIt).map(drop)
}

fn open_directory(path: &Path, trust: Trust, way: Way) -> Result<File, OpenError> {
    match open(path, trust, way)? {
        (directory, found) if found.is_dir() => Ok(directory),
        _ => Err(OpenError::NotADirectory),
    }
}

fn open(path: &Path, trust: Trust, way: Way) -> Result<(File, Metadata), OpenError> {
    if trust.is_enforced() {
        return walk::open(path, trust, way).map_err(|error| match error {
            WalkError::Io(error) => open_error(path, error),
            WalkError::Untrusted(why) => OpenError::Refused(why),
        });
    }
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
    let file = opened.map_err(|error| open_error(path, error))?;
    let found = file.metadata().map_err(|e| unexamined(&e))?;
    Ok((file, found))
}

fn unexamined(error: &io::Error) -> OpenError {
    OpenError::Refused(format!("it could not be examined: {error}"))
}

fn not_a_file(what: &str) -> String {
    format!("it is a {what}: replace it with a regular file, or remove it")
}

fn open_error(path: &Path, error: io::Error) -> OpenError {
    match (error.kind(), fs::read_link(path)) {
        (io::ErrorKind::NotFound, Ok(target)) => OpenError::NotFound(format!(
            "it is a link to {}, which does not exist: correct the link, or remove it",
            target.display()
        )),
        (io::ErrorKind::NotFound, Err(_)) => OpenError::NotFound("there is no such file: check its name".to_owned()),
        (io::ErrorKind::NotADirectory, _) => {
            OpenError::NotFound("there is no such file: a part of its path is not a directory".to_owned())
        }
        // open(2) returns ENXIO for a socket.
        _ if is(&error, Errno::ENXIO) => OpenError::Refused(not_a_file("socket")),
        _ if is(&error, Errno::ELOOP) => {
            OpenError::Refused("it is a link that leads back to itself: correct the link, or remove it".to_owned())
        }
        _ => OpenError::Io(error),
    }
}
