//! Files that are not hooks.

use std::path::PathBuf;

use serde::Serialize;

use crate::serialize;

/// A file that was found and is not called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The file.
    #[serde(serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Why, and what to do about it.
    pub reason: String,
}

impl Skipped {
    pub(crate) fn new(path: PathBuf, reason: impl Into<String>) -> Self {
        Self { path, reason: reason.into() }
    }
}
