//! Why a hook could not be run.

/// Why a hook could not be run. Each text fits after "could not be run: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The hook, or the interpreter that it names, does not exist. Exit status 127.
    #[error("{0}")]
    NotFound(String),
    /// The hook exists, but may not or cannot be run. Exit status 126.
    #[error("{0}")]
    Refused(String),
    /// The WebAssembly module is not in the cache, and this build has no compiler. Exit status 126.
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    #[error("{0}")]
    NotCompiled(String),
    /// The host lacks something that a call needs, such as memory or processes. Exit status 125.
    #[error("{what}: {why}")]
    Host {
        /// What failed.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// No slot became free within the hook's timeout. Exit status 125.
    #[error("timed out waiting for a free slot (max_in_flight)")]
    NoFreeSlot,
}

impl LaunchError {
    /// The exit status that a POSIX shell gives for it: 127 for not found, 126 for not executable. 125 if the hook is not
    /// the cause.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::Refused(_) => 126,
            #[cfg(all(feature = "wasm", not(feature = "compiler")))]
            Self::NotCompiled(_) => 126,
            Self::Host { .. } | Self::NoFreeSlot => 125,
        }
    }
}
