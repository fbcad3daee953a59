//! The kind of a hook's file.

use std::path::Path;

use serde::Serialize;

/// The first bytes of every WebAssembly binary.
const WASM_MAGIC: &[u8] = b"\0asm";

/// The kind of a hook, which selects its back-end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// An executable script or binary, run as a process.
    Native,
    /// A WebAssembly module or component, run under WASI in a sandbox.
    Wasm,
}

impl Kind {
    /// The stable name in the JSON form and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Wasm => "wasm",
        }
    }

    /// The kind of a file by its first bytes.
    pub(crate) fn of_content(head: &[u8]) -> Self {
        if head.starts_with(WASM_MAGIC) { Self::Wasm } else { Self::Native }
    }

    /// The kind by the file's name, for a file that could not be read.
    pub(crate) fn of_name(path: &Path) -> Self {
        if path.extension().is_some_and(|e| e == "wasm") { Self::Wasm } else { Self::Native }
    }
}
