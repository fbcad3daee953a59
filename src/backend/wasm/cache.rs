//! The cache of compiled code.
//!
//! Compiled code runs outside of the sandbox, so an entry is as dangerous as a native program. An entry is used only if it
//! is complete, and if it and its directory belong to the runtime's own user and nobody else may write them. Otherwise the
//! module is compiled again.

use std::borrow::Cow;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Builder};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{SigSet, Signal};
use xxhash_rust::xxh3::Xxh3;
use xxhash_rust::xxh3::xxh3_128;

use super::engine::Resources;
use super::private_file::{UnnamedFile, is_private};
use super::stamp::Stamp;
use crate::backend::Calls;
use crate::hook::digest::hexadecimal;
use crate::hook::file;
use crate::hook::identity::Identity;
use crate::hook::trust::Trust;

/// The end of an entry, after the checksum of everything before. The checksum detects damage, not forgery: whoever can
/// forge an entry can run anything as this user anyway.
const MAGIC: &[u8; 26] = b"hookvisor compiled code 3\n";
const CHECKSUM: usize = 16;
const TRAILER: usize = CHECKSUM + MAGIC.len();
/// More than any module within the limits compiles to.
pub(super) const LARGEST: u64 = 1 << 30;
/// How much is read at once.
const PIECE: usize = 16 << 10;

/// A directory of compiled modules.
///
/// ```no_run
/// let cache = hookvisor::Cache::open("/var/cache/mydaemon")?;
/// let runtime = hookvisor::Runtime::builder("/etc/mydaemon/hooks").cache(cache).build()?;
/// # drop(runtime);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
    user: u32,
    /// Whether the directory can be used. Set by the first use.
    usable: Arc<OnceLock<bool>>,
}

/// Why a directory cannot be used as the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It could not be created or examined.
    #[error("the cache directory {} cannot be used: {error}: name another one", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The system's error. The message above includes it.
        error: io::Error,
    },
    /// Other users could put code into it.
    #[error(
        "the cache directory {} cannot be trusted: it must belong to user {user}, and nobody else may write to it",
        path.display()
    )]
    Untrusted {
        /// The directory.
        path: PathBuf,
        /// The user that the runtime runs as.
        user: u32,
    },
}

impl Cache {
    /// Uses this directory. Creates it if it does not exist.
    ///
    /// # Errors
    /// [`CacheError`] if it cannot be created, does not belong to this process's effective user, or is writable by
    /// others.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let cache = Self::when_needed(directory);
        cache.prepare()?;
        let _ = cache.usable.set(true);
        Ok(cache)
    }

    /// Uses this directory from the first module on. If it turns out to be unusable, there is no cache. So a process
    /// with only native hooks creates no directory.
    pub fn when_needed(directory: impl Into<PathBuf>) -> Self {
        let user = nix::unistd::geteuid().as_raw();
        let directory = directory.into();
        // The check of trust starts at `/`.
        let directory = std::path::absolute(&directory).unwrap_or(directory);
        Self { directory, user, usable: Arc::default() }
    }

    fn prepare(&self) -> Result<(), CacheError> {
        let unusable = |error| CacheError::Unusable { path: self.directory.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(unusable)?;
        let found = File::open(&self.directory).and_then(|opened| opened.metadata()).map_err(unusable)?;
        let is_trusted = file::open_trusted_directory(&self.directory, Trust::of_this_process()).is_ok();
        if !found.is_dir() || !is_private(&found, self.user) || !is_trusted {
            return Err(CacheError::Untrusted { path: self.directory.clone(), user: self.user });
        }
        Ok(())
    }

    fn is_usable(&self) -> bool {
        *self.usable.get_or_init(|| match self.prepare() {
            Ok(()) => true,
            Err(error) => {
                tracing::info!("{error}");
                false
            }
        })
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What an earlier run found out about a module's file, if the file has not changed.
    pub(super) fn stamp(&self, module: Identity) -> Option<Stamp> {
        if self.is_usable() { Stamp::read(&self.directory, self.user, module) } else { None }
    }

    /// The compiled form of a module, if there is a trusted one.
    pub(super) fn get(&self, key: &Key, calls: Calls, stamp: &Stamp) -> Option<CompiledCode> {
        if !self.is_usable() {
            return None;
        }
        let path = self.directory.join(&key.0);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .ok()?;
        let found = file.metadata().ok()?;
        if !found.is_file() || !is_private(&found, self.user) || found.len() > LARGEST {
            tracing::warn!("cache entry {} cannot be trusted and is not used", path.display());
            return None;
        }
        let entry = Identity::of(&found);
        let is_known = stamp.vouches_for(entry);
        let verified = match is_known {
            true => CompiledCode::known(file, found.len(), calls),
            false => CompiledCode::check(file, found.len(), calls),
        };
        match &verified {
            Ok(_) if !is_known => stamp.write(&self.directory, entry),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("cache entry {} is damaged and is not used: {error}", path.display());
            }
        }
        verified.ok()
    }

    /// Stores the compiled form of a module and replaces an older entry. A failure only makes the next load slower.
    pub(super) fn put(&self, key: &Key, code: &[u8]) {
        if !self.is_usable() {
            return;
        }
        let path = self.directory.join(&key.0);
        if let Err(error) = self.write(&path, code) {
            tracing::info!("compiled code could not be saved in {}: {error}", path.display());
        }
    }

    /// Writes an entry in a separate thread. There, exceeding a limit on file size (`ulimit -f`) is an error of the
    /// write, and its signal, SIGXFSZ, ends with the thread.
    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let write = || {
            SigSet::from(Signal::SIGXFSZ).thread_block()?;
            let mut file = UnnamedFile::create(&self.directory)?;
            for part in [code, &xxh3_128(code).to_le_bytes(), MAGIC] {
                file.write_all(part)?;
            }
            // The name appears only after the content is complete.
            file.link(path)
        };
        thread::scope(|scope| {
            let writer = Builder::new().name("hookvisor-cache".to_owned()).spawn_scoped(scope, write)?;
            writer.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
        })
    }
}

/// The name of an entry: the module's digest and the compiler's version. When it loads the entry, wasmtime checks that
/// it fits the processor and the engine's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    /// The key for the module with this SHA-256.
    pub(super) fn new(digest: &[u8], resources: Resources) -> Self {
        let resources = match resources {
            Resources::Ample => "",
            Resources::Scarce => "-scarce",
        };
        Self(format!("{}-{}-{}{resources}", hexadecimal(digest), std::env::consts::ARCH, env!("CARGO_PKG_VERSION")))
    }
}

/// Compiled code that may be run.
pub(super) enum CompiledCode {
    /// In a file that can be mapped.
    File(File),
    /// In memory, from the compiler.
    Bytes(Vec<u8>),
}

impl CompiledCode {
    pub(super) fn compiled(code: Vec<u8>) -> Self {
        Self::Bytes(code)
    }

    /// The code of an entry that is known to be complete. The kernel copies it, where a copy is needed.
    fn known(mut entry: File, size: u64, calls: Calls) -> io::Result<Self> {
        if calls == Calls::One {
            return Ok(Self::File(entry));
        }
        if Resources::of_this_process() == Resources::Scarce {
            return Ok(Self::Bytes(Self::File(entry).bytes()?.into_owned()));
        }
        let mut copy = file_in_memory()?;
        if io::copy(&mut entry, &mut copy)? != size {
            return Err(damaged("its size has changed"));
        }
        seal(&copy)?;
        Ok(Self::File(copy))
    }

    /// The code of an entry, if the entry is complete.
    ///
    /// For many calls, this copies it into memory that nobody can change, so that later changes to the entry do not
    /// affect the running code. For a single call, it maps the entry itself: entries are replaced and never rewritten.
    fn check(entry: File, size: u64, calls: Calls) -> io::Result<Self> {
        // A copy in a file counts against a limit on file size.
        if calls == Calls::Many && Resources::of_this_process() == Resources::Scarce {
            let bytes = Self::check(entry, size, Calls::One)?.bytes()?.into_owned();
            return Ok(Self::Bytes(bytes));
        }
        let copy = match calls {
            Calls::One => None,
            Calls::Many => Some(file_in_memory()?),
        };
        let mut checksum = Xxh3::new();
        let (mut piece, mut at) = (vec![0; PIECE], 0);
        let end = size.checked_sub(TRAILER as u64).ok_or_else(|| damaged("it is too short"))?;
        while at < end {
            let at_once = PIECE.min(usize::try_from(end - at).unwrap_or(PIECE));
            let piece = &mut piece[..at_once];
            entry.read_exact_at(piece, at)?;
            checksum.update(piece);
            if let Some(mut copy) = copy.as_ref() {
                copy.write_all(piece)?;
            }
            at += at_once as u64;
        }
        let mut trailer = [0; TRAILER];
        entry.read_exact_at(&mut trailer, end)?;
        let (expected, magic) = trailer.split_at(CHECKSUM);
        if magic != MAGIC {
            return Err(damaged("it does not end as an entry does"));
        }
        if expected != checksum.digest128().to_le_bytes() {
            return Err(damaged("its checksum is wrong"));
        }
        let Some(copy) = copy else { return Ok(Self::File(entry)) };
        seal(&copy)?;
        Ok(Self::File(copy))
    }

    /// The file that contains it, if any.
    pub(super) fn file(&self) -> io::Result<Option<File>> {
        match self {
            Self::File(file) => file.try_clone().map(Some),
            Self::Bytes(_) => Ok(None),
        }
    }

    /// The content. Data after the code is ignored.
    pub(super) fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::File(file) => {
                let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX)];
                file.read_exact_at(&mut bytes, 0)?;
                Ok(bytes.into())
            }
            Self::Bytes(bytes) => Ok(bytes.into()),
        }
    }
}

fn file_in_memory() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(File::from(memfd_create(c"hookvisor-code", flags)?))
}

/// From now on nobody can change it.
fn seal(copy: &File) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(copy, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at its first error")]
mod tests {
    use super::*;

    #[test]
    fn the_copy_of_a_known_entry_is_complete_and_cannot_be_changed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("entry");
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&path, &content).unwrap();
        let size = content.len() as u64;
        let known = |size| CompiledCode::known(File::open(&path).unwrap(), size, Calls::Many);
        let copy = known(size).unwrap();
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(copy.bytes().unwrap(), content);
        assert!(copy.file().unwrap().unwrap().write_all_at(b"changed", 0).is_err());
        assert!(known(size).is_err(), "another size than it had when it was looked at");
    }
}
