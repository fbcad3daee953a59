//! Records what an earlier run found out about a module's file and its cache entry: the file's digest, and that the
//! entry is complete. While both files are unchanged, neither has to be read again.
//!
//! A stamp is valid until the system restarts: after a crash, a damaged file may have its old times.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use xxhash_rust::xxh3::xxh3_128;

use super::private_file::{UnnamedFile, is_private};
use crate::hook::identity::Identity;

/// Below the cache's directory.
const DIRECTORY: &str = "stamps";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_SIZE: usize = 36;
const DIGEST_SIZE: usize = 32;
const CHECKSUM_SIZE: usize = 16;
/// The module's identity, its digest, the entry's identity, and the boot.
const BODY_SIZE: usize = 2 * Identity::SIZE + DIGEST_SIZE + BOOT_SIZE;

/// A module's file, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) module: Identity,
    pub(super) digest: [u8; DIGEST_SIZE],
    /// The identity of a complete cache entry; `None` if none is known.
    entry: Option<[u8; Identity::SIZE]>,
}

impl Stamp {
    /// For a file that was just read.
    pub(super) fn new(module: Identity, digest: [u8; DIGEST_SIZE]) -> Self {
        Self { module, digest, entry: None }
    }

    /// Whether this cache entry is known to be complete.
    pub(super) fn vouches_for(&self, entry: Identity) -> bool {
        self.entry == Some(entry.to_bytes())
    }

    /// The stamp of a module's file, if it is still valid.
    pub(super) fn read(cache: &Path, user: u32, module: Identity) -> Option<Self> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path(cache, module)).ok()?;
        if !file.metadata().is_ok_and(|found| found.is_file() && is_private(&found, user)) {
            return None;
        }
        let mut bytes = [0; BODY_SIZE + CHECKSUM_SIZE];
        file.read_exact(&mut bytes).ok()?;
        let (body, checksum) = bytes.split_at(BODY_SIZE);
        let (of_module, rest) = body.split_at(Identity::SIZE);
        let (digest, rest) = rest.split_at(DIGEST_SIZE);
        let (entry, boot) = rest.split_at(Identity::SIZE);
        let holds = checksum == xxh3_128(body).to_le_bytes() && of_module == module.to_bytes() && boot == this_boot()?;
        holds.then_some(Self { module, digest: digest.try_into().ok()?, entry: Some(entry.try_into().ok()?) })
    }

    /// Stores it for an entry that is known to be complete. A failure only makes the next run slower.
    pub(super) fn write(&self, cache: &Path, entry: Identity) {
        if !self.module.is_settled() || !entry.is_settled() {
            return;
        }
        let Some(boot) = this_boot() else { return };
        let mut bytes = Vec::with_capacity(BODY_SIZE + CHECKSUM_SIZE);
        bytes.extend_from_slice(&self.module.to_bytes());
        bytes.extend_from_slice(&self.digest);
        bytes.extend_from_slice(&entry.to_bytes());
        bytes.extend_from_slice(&boot);
        bytes.extend_from_slice(&xxh3_128(&bytes).to_le_bytes());
        if let Err(error) = replace(&path(cache, self.module), &bytes) {
            tracing::debug!("could not write a stamp in {}: {error}", cache.display());
        }
    }
}

fn path(cache: &Path, module: Identity) -> PathBuf {
    let [device, inode] = module.device_and_inode();
    cache.join(DIRECTORY).join(format!("{device:x}-{inode:x}-{}", env!("CARGO_PKG_VERSION")))
}

/// Writes a file. Its name appears only when it is complete.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::NotFound)?;
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mut file = UnnamedFile::create(directory)?;
    file.write_all(bytes)?;
    file.link(path)
}

fn this_boot() -> Option<[u8; BOOT_SIZE]> {
    let mut boot = [0; BOOT_SIZE];
    fs::File::open(BOOT).and_then(|mut file| file.read_exact(&mut boot)).ok()?;
    Some(boot)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at its first error")]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    /// The identity of a file that appears to be old. A file's real change time cannot be set, so only the identity is
    /// changed.
    fn settled(path: &Path) -> Identity {
        let file = File::open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        Identity::of(&file.metadata().unwrap()).changed_before(Duration::from_secs(60))
    }

    #[test]
    fn a_stamp_is_valid_only_for_the_unchanged_file() {
        let directory = tempfile::tempdir().unwrap();
        let (module, entry) = (directory.path().join("module"), directory.path().join("entry"));
        fs::write(&module, "module").unwrap();
        fs::write(&entry, "entry").unwrap();
        let user = nix::unistd::geteuid().as_raw();
        let (of_module, of_entry) = (settled(&module), settled(&entry));
        let read = |identity| Stamp::read(directory.path(), user, identity);
        assert!(read(of_module).is_none());

        Stamp::new(of_module, [7; 32]).write(directory.path(), of_entry);
        let stamp = read(of_module).unwrap();
        assert_eq!(stamp.digest, [7; 32]);
        assert!(stamp.vouches_for(of_entry) && !stamp.vouches_for(of_module));

        let changed = of_module.changed_before(Duration::from_secs(61));
        assert!(read(changed).is_none(), "the same file, changed at another time");
        let stamp = path(directory.path(), of_module);
        let mut bytes = fs::read(&stamp).unwrap();
        bytes[Identity::SIZE] ^= 1;
        fs::write(&stamp, bytes).unwrap();
        assert!(read(of_module).is_none(), "a damaged stamp");
    }

    #[test]
    fn a_file_that_was_changed_just_now_gets_no_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "new").unwrap();
        let identity = Identity::of(&fs::metadata(&file).unwrap());
        Stamp::new(identity, [7; 32]).write(directory.path(), settled(&file));
        assert!(!directory.path().join(DIRECTORY).exists());
    }
}
