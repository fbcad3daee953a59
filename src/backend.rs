//! What runs a hook: the one interface behind which the kinds differ.
//!
//! The back-ends meet in [`Completion`] alone. Which of them gets a hook is decided by what its file begins with; what a
//! failure means is decided in [`crate::runtime`], never here.

pub(crate) mod native;
#[cfg(feature = "wasm")]
pub(crate) mod wasm;

use std::path::Path;

use bytes::Bytes;

use crate::capture::Captured;
use crate::hook::file::HookFile;
use crate::hook::settings::Settings;
use crate::limits::{Deadline, Limits, Over};
use crate::report::Kind;

/// A way to run hooks.
pub(crate) trait Backend: Send + Sync {
    /// What its hooks are called in a report.
    fn kind(&self) -> Kind;

    /// Whether it is the one to run a file that begins with these bytes.
    fn claims(&self, head: &[u8]) -> bool;

    /// Makes a hook ready to be called, as far as that can be done beforehand.
    fn load(&self, file: HookFile, settings: &Settings, limits: &Limits) -> Result<Box<dyn Program>, LaunchError>;
}

/// How many calls a back-end is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One, and the process ends. What makes many calls cheaper would take longer to make than it could save.
    One,
    Many,
}

/// A hook that is ready to be called, from many threads at once.
///
/// The native one runs whatever program a call's path names; so it is by this that the sandbox has commands run for its
/// guests, under the same rules as hooks.
pub(crate) trait Program: Send + Sync {
    /// Calls it and waits for its end, which comes by the call's deadline and grace.
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError>;
}

/// One call of a hook.
pub(crate) struct Call<'a> {
    pub(crate) path: &'a Path,
    /// What follows the path in argv.
    pub(crate) arguments: &'a [&'a str],
    pub(crate) stdin: Bytes,
    /// What the hook's own configuration adds to its environment.
    pub(crate) env: &'a [(String, String)],
    pub(crate) deadline: Deadline,
    pub(crate) limits: &'a Limits,
    /// How many bytes of stdout to keep.
    pub(crate) keep_stdout: usize,
}

/// How a hook that did run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(u8),
    Signaled {
        signal: i32,
        name: String,
    },
    TimedOut,
    /// The host had it ended.
    Cancelled,
    #[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "only WebAssembly traps"))]
    Trapped(String),
    /// The process is gone and its status with it.
    Lost(String),
}

impl From<Over> for End {
    fn from(over: Over) -> Self {
        match over {
            Over::TimedOut => Self::TimedOut,
            Over::Cancelled => Self::Cancelled,
        }
    }
}

/// All that a call leaves behind.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) end: End,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    pub(crate) notes: Vec<String>,
}

/// Why a hook could not be run. The texts are fragments that fit "could not be run: …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LaunchError {
    /// It, or the interpreter that it names, is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is there, and may not or cannot be run.
    #[error("{0}")]
    Refused(String),
    /// The host has run out of what a call needs; the hook is not to blame.
    #[error("{what}: {why}")]
    Host { what: &'static str, why: String },
}

impl LaunchError {
    /// The exit status that stands for it (POSIX's shell: 127 not found, 126 not executable).
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::Refused(_) => 126,
            Self::Host { .. } => 125,
        }
    }
}
