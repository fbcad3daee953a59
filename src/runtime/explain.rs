//! Explains an event without running or compiling a hook.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::hooks::{Hook, HookSet};
use super::inventory::{self, HookInfo, HookState};
use crate::convention::rules::AfterVeto;
use crate::event::Event;
use crate::hook::settings;
use crate::hook::skipped::Skipped;
use crate::limits::Limits;
use crate::serialize;
use crate::stage::Stage;

/// How an event would be handled. Returned by [`RuntimeBuilder::explain`](crate::RuntimeBuilder::explain).
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The hooks directory.
    #[serde(serialize_with = "serialize::path")]
    pub directory: PathBuf,
    /// The event's driver.
    pub driver: String,
    /// The guest.
    pub object: String,
    /// The operation.
    pub operation: String,
    /// The sub-operation, or `-`.
    pub sub_operation: String,
    /// The extra argument, or `-`.
    pub extra: String,
    /// The operation's stage in the driver's convention.
    pub stage: Stage,
    /// What a hook's failure would mean, in words.
    pub failure: String,
    /// All hooks of the driver in call order, including those that this event does not call.
    pub hooks: Vec<ExplainedHook>,
    /// Files that seem meant for this event but are not called.
    pub near_misses: Vec<Skipped>,
}

/// How one hook takes part in an event.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct ExplainedHook {
    /// Whether it would be called. If it then cannot be run, it fails.
    pub called: bool,
    /// Why, in words.
    pub why: String,
    /// Its settings file, if it has one.
    #[serde(serialize_with = "optional_path")]
    pub settings: Option<PathBuf>,
    /// The hook itself.
    #[serde(flatten)]
    pub hook: HookInfo,
}

impl Explanation {
    pub(super) fn new(
        directory: &Path,
        set: &HookSet,
        event: &Event,
        limits: &Limits,
        after_veto: AfterVeto,
        refused: Option<String>,
    ) -> Self {
        let stage = event.stage();
        let hooks = set.drivers.get(event.driver()).map_or(&[][..], Vec::as_slice);
        Self {
            directory: directory.to_owned(),
            driver: event.driver().to_owned(),
            object: event.object().to_owned(),
            operation: event.operation().to_owned(),
            sub_operation: event.sub_operation().to_owned(),
            extra: event.extra().to_owned(),
            stage,
            failure: match &refused {
                Some(why) => format!("the event is refused, and no hook is called: {why}"),
                None => failure(stage, after_veto).to_owned(),
            },
            hooks: hooks.iter().map(|hook| explained(hook, event, limits, refused.is_some())).collect(),
            near_misses: near_misses(directory, set, event),
        }
    }
}

fn failure(stage: Stage, after_veto: AfterVeto) -> &'static str {
    match (stage, after_veto) {
        (Stage::Start, AfterVeto::RunAll) => "a hook that fails vetoes the event; the other hooks still run",
        (Stage::Start, AfterVeto::Stop) => "a hook that fails vetoes the event; the hooks after it are not called",
        (Stage::Shutdown, _) => "a hook that fails is reported; the event has already happened, so nothing is undone",
    }
}

fn explained(hook: &Hook, event: &Event, limits: &Limits, refused: bool) -> ExplainedHook {
    let info = inventory::info(event.driver(), hook, limits);
    let settings = settings::file_name(&hook.path);
    let (called, why) = match called(hook, &info, event) {
        (true, _) if refused => (false, "the event is refused".to_owned()),
        called => called,
    };
    ExplainedHook { called, why, settings: settings.symlink_metadata().is_ok().then_some(settings), hook: info }
}

/// Whether the event reaches a hook, and which rule decides that.
fn called(hook: &Hook, info: &HookInfo, event: &Event) -> (bool, String) {
    let list = |names: &Option<Vec<String>>| names.as_ref().map(|names| names.join(", ")).unwrap_or_default();
    if !hook.scope.includes(event) {
        return (false, format!("its directory is for {} only", info.event.join(" ")));
    }
    if !hook.settings.apply_to(event) {
        let has_operation = info.operations.as_ref().is_none_or(|names| names.iter().any(|o| o == event.operation()));
        return (
            false,
            if has_operation {
                format!("its settings limit it to the objects {}", list(&info.objects))
            } else {
                format!("its settings limit it to the operations {}", list(&info.operations))
            },
        );
    }
    let reason = info.reason.clone().unwrap_or_default();
    match info.state {
        HookState::Skipped => (false, reason),
        HookState::Broken => (true, format!("it cannot be run, so it fails: {reason}")),
        HookState::Ready if info.event.is_empty() => (true, format!("it is a hook of {}", event.driver())),
        HookState::Ready => (true, format!("its directory is for {}", info.event.join(" "))),
    }
}

fn near_misses(directory: &Path, set: &HookSet, event: &Event) -> Vec<Skipped> {
    let mut misses: Vec<Skipped> = set.mistakes.iter().chain(&set.strays).chain(&set.dispatched).cloned().collect();
    for (driver, hooks) in &set.drivers {
        if driver != event.driver() && is_near(driver, event.driver()) {
            let why = format!("has hooks for driver {driver}, but the event is for {}", event.driver());
            misses.push(Skipped::new(directory.join(driver), why));
        }
        if driver != event.driver() {
            continue;
        }
        let fields = [event.object(), event.operation(), event.sub_operation()];
        for hook in hooks.iter().filter(|hook| !hook.scope.includes(event)) {
            let names: Vec<_> = hook.scope.0.iter().map(|name| name.to_string_lossy()).collect();
            let differing: Vec<_> = names.iter().zip(fields).filter(|(name, field)| name.as_ref() != *field).collect();
            if let [(name, field)] = differing[..]
                && is_near(name, field)
            {
                let why = format!("is for {}: did you mean {field}?", names.join(" "));
                misses.push(Skipped::new(hook.path.to_path_buf(), why));
            }
        }
    }
    misses
}

/// Whether one name could be a typo of the other: up to two letters differ, or only the case.
fn is_near(one: &str, other: &str) -> bool {
    const NEAR: usize = 2;
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    let distance = row.last().copied().unwrap_or_default();
    distance <= NEAR && distance < one.len().min(other.len())
}

fn optional_path<S: serde::Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => serialize::path(path, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_near;

    #[test]
    fn names_that_a_person_could_confuse_are_near() {
        for (one, other) in
            [("web1", "web2"), ("Win10", "win10"), ("win10", "win-10"), ("qemu", "qmeu"), ("prepare", "prepair")]
        {
            assert!(is_near(one, other) && is_near(other, one), "{one} {other}");
        }
        for (one, other) in [("web1", "database"), ("a", "b"), ("qemu", "network"), ("start", "stopped"), ("", "a")] {
            assert!(!is_near(one, other) && !is_near(other, one), "{one} {other}");
        }
    }
}
