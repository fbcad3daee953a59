//! The contents of a hooks directory, for `list` and `check`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::hooks::{Hook, HookSet, Loaded};
use crate::hook::discovery;
use crate::hook::kind::Kind;
use crate::hook::mode::Mode;
use crate::hook::skipped::Skipped;
use crate::limits::Limits;
use crate::printable::printable_line;
use crate::serialize;

/// The contents of a hooks directory.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Inventory {
    /// The hooks directory.
    #[serde(serialize_with = "serialize::path")]
    pub directory: PathBuf,
    /// The hooks, by driver, each driver's in the order in which they are called.
    pub hooks: Vec<HookInfo>,
    /// Files that are never called, and why.
    pub strays: Vec<Skipped>,
    /// Files that look like hooks but are never called, or not for the apparent event.
    pub mistakes: Vec<Skipped>,
    /// Per-event directories that the driver's own hook runs, so that hookvisor does not, and the evidence.
    pub dispatched: Vec<Skipped>,
}

/// How one hook file is treated.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct HookInfo {
    /// The driver whose events it is called for.
    pub driver: String,
    /// Its file.
    #[serde(serialize_with = "serialize::path")]
    pub path: PathBuf,
    /// Which back-end runs it.
    pub kind: Kind,
    /// How it is treated.
    pub state: HookState,
    /// Why it is not called normally, and how to fix that.
    pub reason: Option<String>,
    /// The object, operation and sub-operation set by its directory; empty for all events.
    pub event: Vec<String>,
    /// The operations that its settings restrict it to.
    pub operations: Option<Vec<String>>,
    /// The operations that its settings exclude.
    pub not_operations: Option<Vec<String>>,
    /// The objects that its settings restrict it to, as patterns.
    pub objects: Option<Vec<String>>,
    /// Its timeout.
    #[serde(serialize_with = "serialize::seconds", rename = "timeout_seconds")]
    pub timeout: Duration,
    /// Whether its failure can veto.
    pub mode: Mode,
    /// What its settings grant, in words.
    pub may: Vec<String>,
    /// Warnings about its grants.
    pub warnings: Vec<String>,
}

/// How a hook is treated at its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HookState {
    /// It is called.
    Ready,
    /// It cannot be run: a start is vetoed, a shutdown reports a failure.
    Broken,
    /// It is skipped.
    Skipped,
}

impl Inventory {
    /// `is_known` says whether a driver of this name is known.
    pub(crate) fn new<'a>(
        directory: &Path,
        set: &'a HookSet,
        limits: impl Fn(&str) -> &'a Limits,
        is_known: impl Fn(&str) -> bool,
    ) -> Self {
        let limits = &limits;
        let of_driver = |(driver, hooks): (&'a String, &'a Vec<Hook>)| {
            hooks.iter().map(move |hook| info(driver, hook, limits(driver)))
        };
        // In any other directory, a directory without `.d` is probably a mistake.
        let looks_like_libvirts = discovery::looks_like_libvirts(directory);
        let is_beside = |hook: &HookInfo| looks_like_libvirts && !is_known(&hook.driver) && hook.path.is_dir();
        let hooks = set.drivers.iter().flat_map(of_driver);
        let (beside, hooks): (Vec<_>, Vec<_>) = hooks.partition(|hook| {
            let is_general = hook.event.is_empty() && hook.path.parent() == Some(directory);
            is_general && !hook.path.ends_with(format!("{}.d", hook.driver)) && is_beside(hook)
        });
        let beside = beside
            .into_iter()
            .map(|hook| Skipped::new(hook.path.clone(), discovery::beside_libvirts_hooks(&hook.path)));
        let mut strays = set.strays.clone();
        strays.extend(beside);
        Self {
            directory: directory.to_owned(),
            hooks,
            strays,
            mistakes: set.mistakes.clone(),
            dispatched: set.dispatched.clone(),
        }
    }
}

pub(super) fn info(driver: &str, hook: &Hook, limits: &Limits) -> HookInfo {
    let (state, reason) = match &hook.loaded {
        Loaded::Ready(_) => (HookState::Ready, None),
        // It can quote the hook, for example the names that a module imports.
        Loaded::Broken(why) => (HookState::Broken, Some(printable_line(&why.to_string()))),
        Loaded::Skipped(why) => (HookState::Skipped, Some(why.clone())),
    };
    HookInfo {
        driver: driver.to_owned(),
        path: hook.path.to_path_buf(),
        kind: hook.kind,
        state,
        reason,
        event: hook.scope.0.iter().map(|name| name.to_string_lossy().into_owned()).collect(),
        operations: hook.settings.operations.clone(),
        not_operations: hook.settings.not_operations.clone(),
        objects: hook.settings.objects.as_ref().map(|globs| globs.patterns.clone()),
        timeout: hook.settings.timeout.unwrap_or(limits.timeout),
        mode: hook.settings.mode,
        may: hook.settings.may(),
        warnings: hook.settings.warnings(),
    }
}
