//! The interface of all back-ends.
//!
//! Back-ends share only [`Completion`]. [`Kind`] selects the back-end of a hook. [`crate::runtime`] decides what a
//! failure means.

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

use self::native::detach::Detached;
use crate::capture::Captured;
use crate::hook::digest::{Content, FileDigest};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::Names;
use crate::limits::{Deadline, Expired, Limits};
use crate::needs::Watch;
use crate::observe;
use crate::report::termination::Termination;

/// Runs one kind of hooks.
pub(crate) trait Backend: Send + Sync {
    /// The kind of hooks that it runs.
    fn kind(&self) -> Kind;

    /// Prepares a hook for its calls, as far as possible.
    fn load(&self, file: HookFile, settings: &Settings, limits: &Limits) -> Result<Box<dyn Program>, LaunchError>;
}

/// How many calls a back-end is created for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// One call, and then the process exits. Preparation for many calls would cost more than it saves.
    One,
    Many,
}

/// A loaded hook. Many threads can call it at once.
///
/// The native one runs the program at the call's path. The sandbox uses it to run its guests' commands under the rules
/// for hooks.
pub(crate) trait Program: Send + Sync {
    /// Calls it and waits until it ends. The call's deadline and grace period bound the wait.
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError>;

    /// Starts a detached command. Its own timeout ends it.
    fn leave(&self, _: &Detached<'_>) -> Result<(), LaunchError> {
        Err(LaunchError::Refused("it cannot be detached".to_owned()))
    }

    /// The SHA-256 of its code in hexadecimal, if the code was loaded beforehand.
    fn sha256(&self) -> Option<String> {
        None
    }
}

/// One call of a hook.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    /// The program to run.
    pub(crate) path: &'a Path,
    /// The hook that this call is for: the program itself, or the hook that requested this command.
    pub(crate) hook: &'a Path,
    /// The arguments after the path.
    pub(crate) arguments: &'a [&'a str],
    pub(crate) stdin: Bytes,
    /// Variables from the hook's own settings.
    pub(crate) env: &'a [(String, String)],
    pub(crate) deadline: Deadline,
    pub(crate) limits: &'a Limits,
    /// How many bytes of stdout to keep.
    pub(crate) keep_stdout: usize,
    /// Collects what the hook uses. A watched hook is not held to its grants.
    pub(crate) watch: Option<Watch>,
    /// Takes the digest of the hook's file, if it is wanted.
    pub(crate) digest: Option<&'a FileDigest>,
}

impl<'a> Call<'a> {
    /// Reads the hook's file for its digest, if that is wanted.
    pub(crate) fn content(&self, file: &HookFile) -> Option<Content<'a>> {
        self.digest?.read(file).ok()
    }

    /// The event's names, from the hook's arguments.
    pub(crate) fn names(&self) -> Names<'_> {
        let argument = |at: usize| self.arguments.get(at).copied().unwrap_or("-");
        Names { object: argument(0), operation: argument(1) }
    }

    /// Checks the deadline, and returns the time until the next check. Logs once that the hook is slow.
    pub(crate) fn check_deadline(&self) -> Result<Duration, Expired> {
        check_deadline(&self.deadline, self.hook)
    }
}

/// Like [`Call::check_deadline`], for a deadline that outlives the borrow of its call.
pub(crate) fn check_deadline(deadline: &Deadline, hook: &Path) -> Result<Duration, Expired> {
    let left = deadline.check()?;
    if left.is_newly_slow {
        observe::slow(hook, deadline);
    }
    Ok(left.wake_in)
}

/// The result of a call.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) termination: Termination,
    pub(crate) stdout: Captured,
    pub(crate) stderr: Captured,
    /// A background process still holds stdout open, so `stdout` may be incomplete.
    pub(crate) stdout_held: bool,
    pub(crate) notes: Vec<String>,
    /// The digest of the file that was run, if the call asked for it and the code was not loaded beforehand.
    pub(crate) sha256: Option<String>,
}
