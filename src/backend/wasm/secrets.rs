//! The secrets of a hook, as files in a directory in memory that nobody else sees.

use std::io::Read;
use std::os::fd::OwnedFd;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::error::refused;
use super::grants;
use crate::backend::native::directory_in_memory;
use crate::hook::error::LaunchError;
use crate::hook::secret;
use crate::hook::settings::grants::SecretGrant;
use crate::hook::trust::Trust;

/// Where a guest sees them.
const DIRECTORY: &str = "/run/hookvisor/secrets";

/// The variables that tell a guest where its secrets are.
pub(super) fn variables(secrets: &[SecretGrant]) -> impl Iterator<Item = (String, String)> {
    secrets.iter().map(|SecretGrant { variable, .. }| (variable.clone(), format!("{DIRECTORY}/{variable}")))
}

/// Gives a guest its secrets. Their directory is there as long as the descriptor is open.
pub(super) fn apply(
    secrets: &[SecretGrant],
    trust: Trust,
    wasi: &mut WasiCtxBuilder,
) -> Result<Option<OwnedFd>, LaunchError> {
    if secrets.is_empty() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for SecretGrant { file, variable } in secrets {
        let mut contents = Vec::new();
        let read = secret::open(file, trust)?.take(secret::LONGEST).read_to_end(&mut contents);
        read.map_err(|why| refused(format!("its secret {} could not be read: {why}", file.display())))?;
        files.push((variable.clone(), contents));
    }
    let unusable = |why: String| {
        refused(format!(
            "its settings have `secret`, for which hookvisor needs root: a directory in memory could not be created: {why}"
        ))
    };
    let directory = directory_in_memory(&files).map_err(|error| unusable(error.to_string()))?;
    grants::preopen(wasi, &directory, DIRECTORY, FsPerms::ReadOnly).map_err(unusable)?;
    Ok(Some(directory))
}
