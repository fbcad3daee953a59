//! The cache of compiled code: what was compiled once is not compiled again.
//!
//! Compiled code runs outside of the sandbox, so an entry is as dangerous as a native program. It is used only if its
//! directory and its file belong to the runtime's own user and nobody else may write them, and if it is whole. Anything
//! odd about an entry means that the module is compiled again.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};
use wasmtime::Engine;

/// An entry begins with this, then comes the SHA-256 of the rest.
const MAGIC: &[u8] = b"hookvisor compiled code 1\n";
const DIGEST: usize = 32;
/// More than any module within the limits compiles to.
const LARGEST: u64 = 1 << 30;

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
    /// Whether the directory can be used, once somebody has looked.
    usable: Arc<OnceLock<bool>>,
}

/// Why a directory cannot be the cache.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// It could not be made or examined.
    #[error("the cache directory {} cannot be used: {error}: name another one", path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system said; the message above has it.
        error: io::Error,
    },
    /// Somebody else could put code into it.
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
    /// Uses this directory, and makes it if it is not there.
    ///
    /// # Errors
    /// [`CacheError`] if it cannot be made, does not belong to this process's effective user, or others may write to it.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let cache = Self::when_needed(directory);
        cache.prepare()?;
        let _ = cache.usable.set(true);
        Ok(cache)
    }

    /// Will use this directory once there is something to keep, and go without a cache if it turns out that it cannot be
    /// used. A process that runs native hooks only so leaves no directory behind.
    pub fn when_needed(directory: impl Into<PathBuf>) -> Self {
        let user = nix::unistd::geteuid().as_raw();
        Self { directory: directory.into(), user, usable: Arc::default() }
    }

    fn prepare(&self) -> Result<(), CacheError> {
        let unusable = |error| CacheError::Unusable { path: self.directory.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory).map_err(unusable)?;
        let found = File::open(&self.directory).and_then(|opened| opened.metadata()).map_err(unusable)?;
        if !found.is_dir() || !is_private(&found, self.user) {
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

    /// The compiled form of a module, if there is one to be trusted.
    pub(super) fn get(&self, key: &Key) -> Option<Verified> {
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
            tracing::warn!("cache entry {} is not to be trusted, and is not used", path.display());
            return None;
        }
        let mut entry = Vec::with_capacity(usize::try_from(found.len()).ok()?);
        file.take(LARGEST).read_to_end(&mut entry).ok()?;
        let verified = Verified::check(entry);
        if verified.is_none() {
            tracing::warn!("cache entry {} is damaged, and is not used", path.display());
        }
        verified
    }

    /// Keeps the compiled form of a module. That it could not be kept changes nothing but the time of the next load.
    pub(super) fn put(&self, key: &Key, code: &[u8]) {
        if !self.is_usable() {
            return;
        }
        let path = self.directory.join(&key.0);
        let written = tempfile::NamedTempFile::new_in(&self.directory).and_then(|mut file| {
            file.write_all(MAGIC)?;
            file.write_all(&Sha256::digest(code))?;
            file.write_all(code)?;
            // A name that appears only once the content is whole.
            file.persist(&path).map_err(|failed| failed.error)
        });
        if let Err(error) = written {
            tracing::info!("compiled code could not be kept in {}: {error}", path.display());
        }
    }

    /// Takes away an entry that wasmtime refused.
    pub(super) fn remove(&self, key: &Key) {
        // Should it stay, it is replaced by the next `put`.
        let _ = fs::remove_file(self.directory.join(&key.0));
    }
}

fn is_private(found: &Metadata, user: u32) -> bool {
    found.uid() == user && found.mode() & 0o022 == 0
}

/// What an entry is named by: the module's content, and all that its compiled form depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    pub(super) fn new(engine: &Engine, module: &[u8]) -> Self {
        let mut compatibility = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut compatibility);
        Self(format!("{}-{:016x}", hex(&Sha256::digest(module)), compatibility.finish()))
    }
}

/// Compiled code that may be run.
pub(super) struct Verified(Vec<u8>);

impl Verified {
    fn check(entry: Vec<u8>) -> Option<Self> {
        let (digest, code) = entry.strip_prefix(MAGIC)?.split_at_checked(DIGEST)?;
        (Sha256::digest(code).as_slice() == digest).then_some(Self(entry))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get(MAGIC.len() + DIGEST..).unwrap_or_default()
    }
}

/// Bytes as people write a digest.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
