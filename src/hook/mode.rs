//! Whether a hook can veto.

use serde::{Deserialize, Serialize};

/// The effect of a hook's failure: `mode` in its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// Before a start, a failure vetoes.
    #[default]
    Enforce,
    /// A failure is reported and recorded, but does not veto.
    Monitor,
}
