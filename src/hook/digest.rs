//! The SHA-256 of a hook's file, for the record.

use std::fmt::Write;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::file::open_trusted;
use super::identity::Identity;
use super::trust::Trust;

/// How much of a large file is read at once.
const PIECE: u64 = 16 << 10;

/// The digest of a hook's file. The file is read again only if it has changed.
#[derive(Debug, Default)]
pub(crate) struct FileDigest(Mutex<Option<(Identity, String)>>);

impl FileDigest {
    /// The digest in hexadecimal; `None` if the file cannot be read or is not trusted.
    pub(crate) fn of(&self, path: &Path) -> Option<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, found) = open_trusted(path, Trust::of_this_process()).ok()?;
        let identity = Identity::of(&found);
        match &*known {
            Some((of, digest)) if *of == identity => Some(digest.clone()),
            _ => {
                let digest = hexadecimal(&digest(file, found.len()).ok()?);
                *known = Some((identity, digest.clone()));
                Some(digest)
            }
        }
    }
}

fn digest(mut file: impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut digest = Sha256::new();
    // Each page of the buffer costs a page fault, so it is small for a script.
    let mut piece = vec![0; size.clamp(1, PIECE) as usize];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(digest.finalize().to_vec()),
            Ok(read) => digest.update(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
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
}
