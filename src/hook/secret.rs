//! The files of `[[secret]]`: only their owner can read them.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::error::LaunchError;
use super::file;
use super::trust::Trust;

/// The longest secret, in bytes.
pub(crate) const LONGEST: u64 = 1 << 20;
const FOR_OTHERS: u32 = 0o077;

/// Opens a secret for reading.
pub(crate) fn open(path: &Path, trust: Trust) -> Result<File, LaunchError> {
    let refused = |why: String| LaunchError::Refused(format!("its settings have the secret {}: {why}", path.display()));
    let (file, found) = file::open_trusted(path, trust).map_err(|error| refused(error.to_string()))?;
    if found.len() > LONGEST {
        return Err(refused(format!("it is longer than {} MiB", LONGEST >> 20)));
    }
    match found.mode() & FOR_OTHERS {
        0 => Ok(file),
        _ => Err(refused(format!(
            "other users can access it (mode {:04o}): run `chmod 600 {}`",
            found.mode() & 0o7777,
            path.display()
        ))),
    }
}
