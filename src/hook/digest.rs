//! The SHA-256 of a hook's file, for the record.

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::file::HookFile;
use super::identity::Identity;
use super::trust::Trust;

/// How much of a large file is read at once.
const PIECE: u64 = 16 << 10;

/// The digest of a hook's file. The file is read again only if it has changed.
#[derive(Debug, Default)]
pub(crate) struct FileDigest(Mutex<Option<(Identity, String)>>);

/// What a file contained when it was read.
pub(crate) enum Content<'a> {
    Hashed(String),
    /// A small file, such as most scripts.
    Read {
        bytes: Vec<u8>,
        identity: Identity,
        cache: &'a FileDigest,
    },
}

impl FileDigest {
    /// The digest in hexadecimal; `None` if the file cannot be read or is not trusted.
    pub(crate) fn of(&self, path: &Path) -> Option<String> {
        let file = HookFile::open(path, Trust::of_this_process()).ok()?;
        Some(self.read(&file).ok()?.digest())
    }

    /// Reads a file that is about to be run, since it can change itself. A small one can be hashed while it runs.
    pub(crate) fn read(&self, file: &HookFile) -> io::Result<Content<'_>> {
        if let Some((of, digest)) = &*self.known()
            && *of == file.identity
        {
            return Ok(Content::Hashed(digest.clone()));
        }
        let mut piece = vec![0; file.size.clamp(1, PIECE) as usize];
        let first = file.read_at(&mut piece, 0)?;
        if first as u64 == file.size {
            piece.truncate(first);
            return Ok(Content::Read { bytes: piece, identity: file.identity, cache: self });
        }
        let mut digest = Sha256::new();
        let (mut read, mut at) = (first, 0);
        while read > 0 {
            digest.update(&piece[..read]);
            at += read as u64;
            read = file.read_at(&mut piece, at)?;
        }
        Ok(Content::Hashed(self.learn(file.identity, digest)))
    }

    fn learn(&self, identity: Identity, digest: Sha256) -> String {
        let digest = hexadecimal(&digest.finalize());
        *self.known() = Some((identity, digest.clone()));
        digest
    }

    fn known(&self) -> MutexGuard<'_, Option<(Identity, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content<'_> {
    /// Its digest in hexadecimal.
    pub(crate) fn digest(self) -> String {
        match self {
            Self::Hashed(digest) => digest,
            Self::Read { bytes, identity, cache } => cache.learn(identity, Sha256::new_with_prefix(bytes)),
        }
    }
}

/// The digest as hexadecimal digits.
pub(crate) fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().fold(String::with_capacity(2 * digest.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_digest_is_that_of_the_file_as_it_is_now() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("hook");
        let digest = FileDigest::default();
        assert_eq!(digest.of(&path), None);
        fs::write(&path, "abc")?;
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!([digest.of(&path), digest.of(&path)], [Some(abc.to_owned()), Some(abc.to_owned())]);
        fs::write(&path, "")?;
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest.of(&path), Some(nothing.to_owned()));
        Ok(())
    }

    #[test]
    fn a_file_of_any_size_has_the_digest_of_its_whole_content() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("hook");
        let digest = FileDigest::default();
        for size in [0, 1, 255, 256, 257, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            fs::write(&path, &content)?;
            let expected = Some(hexadecimal(&Sha256::digest(&content)));
            assert_eq!([digest.of(&path), digest.of(&path)], [expected.clone(), expected], "{size}");
        }
        Ok(())
    }

    /// A hook can change its file while it runs. What ran is what was read before.
    #[test]
    fn a_later_change_of_the_file_is_not_in_the_digest() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("hook");
        for size in [3, 3 * PIECE] {
            fs::write(&path, vec![b'a'; size as usize])?;
            let cache = FileDigest::default();
            let content = cache.read(&HookFile::open(&path, Trust::not_enforced())?)?;
            fs::write(&path, vec![b'b'; size as usize])?;
            assert_eq!(content.digest(), hexadecimal(&Sha256::digest(vec![b'a'; size as usize])));
        }
        Ok(())
    }
}
