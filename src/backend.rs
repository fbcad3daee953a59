//! What runs a hook: the one interface behind which the kinds differ.
//!
//! Back-ends share only [`Completion`]. [`Kind`] decides which back-end runs a hook. What a failure means is decided in
//! [`crate::runtime`], never here.

pub(crate) mod broker;
pub(crate) mod grants;
pub(crate) mod native;
#[cfg(feature = "wasm")]
pub(crate) mod unloaded;
#[cfg(feature = "wasm")]
pub(crate) mod wasm;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::capture::Captured;
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::Names;
use crate::limits::{Deadline, Expired, Limits};
use crate::observe;
use crate::report::termination::Termination;

/// A way to run hooks.
pub(crate) trait Backend: Send + Sync {
    /// The kind of hooks that it runs.
    fn kind(&self) -> Kind;

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

    /// The SHA-256 of its code in hexadecimal digits, if that was loaded beforehand.
    fn sha256(&self) -> Option<String> {
        None
    }
}

/// One call of a hook.
pub(crate) struct Call<'a> {
    /// The program to run.
    pub(crate) path: &'a Path,
    /// The hook that this call is for: the program itself, or the hook that asked for this command.
    pub(crate) hook: &'a Path,
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

impl Call<'_> {
    /// The event's names, by the hook's arguments.
    pub(crate) fn names(&self) -> Names<'_> {
        let argument = |at: usize| self.arguments.get(at).copied().unwrap_or("-");
        Names { object: argument(0), operation: argument(1) }
    }

    /// Checks the deadline, and returns how long until the next check. Logs, once, that the hook is slow.
    pub(crate) fn check_deadline(&self) -> Result<Duration, Expired> {
        check_deadline(&self.deadline, self.hook)
    }
}

/// As [`Call::check_deadline`], for a deadline that outlives the borrow of its call.
pub(crate) fn check_deadline(deadline: &Deadline, hook: &Path) -> Result<Duration, Expired> {
    let left = deadline.check()?;
    if left.is_newly_slow {
        observe::slow(hook, deadline);
    }
    Ok(left.wake_in)
}

/// All that a call leaves behind.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) termination: Termination,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    /// The hook has ended, and a background process can still write to its stdout: `stdout` may be a part of the whole.
    pub(crate) stdout_held: bool,
    pub(crate) notes: Vec<String>,
}
