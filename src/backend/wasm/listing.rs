//! Reads a directory in pieces. So neither a long listing nor one over many calls costs more than its length.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::dir::{Dir, OwningIter, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// The listings that a module can continue without starting again.
const LISTINGS: usize = 8;
/// A `dirent`, before the name.
const DIRENT: usize = 24;
/// The entries `.` and `..`.
const DOTS: u64 = 2;
/// An open directory, read in part.
pub(super) struct Listing {
    entries: OwningIter,
    device: u64,
}

/// One entry.
pub(super) struct ListedEntry {
    pub(super) name: Vec<u8>,
    /// `None` if the file system does not say.
    pub(super) kind: Option<Type>,
    /// The number by which WASI knows the file.
    pub(super) id: u64,
}

impl Listing {
    /// Starts at the beginning.
    pub(super) fn open(directory: &File) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let device = directory.metadata()?.dev();
        let entries = Dir::openat(directory.as_fd(), ".", flags, Mode::empty())?.into_iter();
        Ok(Self { entries, device })
    }

    /// The next entry, without `.` and `..`.
    pub(super) fn next(&mut self) -> io::Result<Option<ListedEntry>> {
        loop {
            let Some(entry) = self.entries.next().transpose()? else { return Ok(None) };
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let id = identity(self.device, entry.ino());
            return Ok(Some(ListedEntry { name: name.to_vec(), kind: entry.file_type(), id }));
        }
    }

    fn skip(&mut self, entries: u64) -> io::Result<()> {
        for _ in 0..entries {
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

/// The number by which wasmtime-wasi's preview 1 knows a file.
pub(super) fn identity(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

/// The listings of a module, by the descriptor of their directory.
#[derive(Default)]
pub(super) struct Listings(BTreeMap<i32, ModuleListing>);

/// A module's position in a directory.
pub(super) struct ModuleListing {
    listing: Listing,
    /// The entry at the cookie, if it was read already.
    pending: Option<ListedEntry>,
    cookie: u64,
}

impl Listings {
    pub(super) fn take(&mut self, fd: i32) -> Option<ModuleListing> {
        self.0.remove(&fd)
    }

    /// Forgets the listing of a descriptor that was closed or reused.
    pub(super) fn forget(&mut self, fd: i32) {
        self.0.remove(&fd);
    }

    pub(super) fn keep(&mut self, fd: i32, listing: ModuleListing) {
        if self.0.len() >= LISTINGS {
            self.0.pop_first();
        }
        self.0.insert(fd, listing);
    }
}

impl ModuleListing {
    /// Continues where the last call ended. Otherwise starts again and skips the entries before.
    pub(super) fn at(cookie: u64, kept: Option<Self>, directory: &File) -> io::Result<Self> {
        if let Some(kept) = kept.filter(|kept| kept.cookie == cookie) {
            return Ok(kept);
        }
        let mut listing = Listing::open(directory)?;
        listing.skip(cookie.saturating_sub(DOTS))?;
        Ok(Self { listing, pending: None, cookie })
    }

    /// The next entries in the form of WASI, as many bytes as asked for. Fewer bytes are the end of the directory.
    pub(super) fn fill(&mut self, size: usize, directory: &File) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while bytes.len() < size {
            let Some(entry) = self.entry(directory)? else { break };
            if std::str::from_utf8(&entry.name).is_err() {
                return Err(Errno::EILSEQ.into());
            }
            let mut dirent = [0; DIRENT];
            dirent[..8].copy_from_slice(&(self.cookie + 1).to_le_bytes());
            dirent[8..16].copy_from_slice(&entry.id.to_le_bytes());
            dirent[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            dirent[20] = file_type(entry.kind);
            let room = size - bytes.len();
            if room < DIRENT + entry.name.len() {
                bytes.extend(dirent.iter().chain(&entry.name).take(room));
                self.pending = Some(entry);
                break;
            }
            bytes.extend_from_slice(&dirent);
            bytes.extend_from_slice(&entry.name);
            self.cookie += 1;
        }
        Ok(bytes)
    }

    /// The entry at the cookie.
    fn entry(&mut self, directory: &File) -> io::Result<Option<ListedEntry>> {
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        let name: &[u8] = match self.cookie {
            0 => b".",
            1 => b"..",
            _ => return self.listing.next(),
        };
        let found = directory.metadata()?;
        let id = identity(found.dev(), found.ino());
        Ok(Some(ListedEntry { name: name.to_vec(), kind: Some(Type::Directory), id }))
    }
}

/// A `filetype` of preview 1.
fn file_type(kind: Option<Type>) -> u8 {
    match kind {
        Some(Type::BlockDevice) => 1,
        Some(Type::CharacterDevice) => 2,
        Some(Type::Directory) => 3,
        Some(Type::File) => 4,
        Some(Type::Symlink) => 7,
        Some(Type::Socket | Type::Fifo) | None => 0,
    }
}
