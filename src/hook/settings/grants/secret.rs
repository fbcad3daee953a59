//! `[[secret]]`: files that a hook may read and nobody else.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};

use super::paths::absolute;
use crate::hook::env_file::is_name;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretGrant {
    #[serde(deserialize_with = "absolute")]
    pub(crate) file: PathBuf,
    /// The variable that tells the hook where it can read the file.
    #[serde(deserialize_with = "variable")]
    pub(crate) variable: String,
}

fn variable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    match is_name(&name) {
        true => Ok(name),
        false => {
            Err(de::Error::custom(format!("{name:?} cannot be the name of a variable: use letters, digits and `_`")))
        }
    }
}

impl fmt::Display for SecretGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read the secret {} ({})", self.file.display(), self.variable)
    }
}
