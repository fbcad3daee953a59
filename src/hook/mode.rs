//! Whether a hook decides.

use serde::{Deserialize, Serialize};

/// What a hook's failure means: `mode` in its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// It counts: before a start, it vetoes.
    #[default]
    Enforce,
    /// It is reported and recorded, and decides nothing.
    Monitor,
}
