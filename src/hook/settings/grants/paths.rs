//! Paths in grants.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

pub(crate) fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(de::Error::custom(format!("{:?} is not an absolute path", path.display().to_string())))
}
