//! One line of the record.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::capture::Capture;
use crate::report::termination::Termination;
use crate::report::{Form, HookReport, Report};

/// The recorded part of a hook's stderr: half from the start and half from the end.
const STDERR: usize = 8 << 10;

/// An entry of the record. New fields and kinds may be added in later versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Recorded {
    /// An event that was decided.
    Event(RecordedEvent),
    /// A hook that was disabled or enabled.
    Change(RecordedChange),
}

/// An event that was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedEvent {
    /// When it began: RFC 3339 in UTC. Every entry begins with this field.
    pub time: String,
    /// The daemon or command that called.
    pub caller: String,
    /// The driver.
    pub driver: String,
    /// The guest.
    pub object: String,
    /// What happened to it.
    pub operation: String,
    /// The sub-operation, or `-`.
    pub sub_operation: String,
    /// The extra argument, or `-`.
    pub extra: String,
    /// `start` or `shutdown`.
    pub stage: String,
    /// `proceed`, `vetoed` or `notified`.
    pub decision: String,
    /// The exit status of the first failed hook, or 0.
    pub exit_status: u8,
    /// Why the event was vetoed without a hook, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// How long the event took, in microseconds.
    pub duration_us: u64,
    /// The hooks that were called, in order.
    pub hooks: Vec<RecordedHook>,
    /// The hooks that were skipped, and why.
    pub skipped: Vec<RecordedSkip>,
}

/// The result of one hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedHook {
    /// Its file.
    pub path: String,
    /// `native` or `wasm`.
    pub kind: String,
    /// The SHA-256 of its file, in hexadecimal digits; absent if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// How it ended, for example `exited` or `timed-out`.
    pub termination: String,
    /// Its exit status, as in a shell.
    pub exit_status: u8,
    /// How it failed, in the report's words; absent on success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// `would-veto` for a hook in monitor mode that failed before a start; absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// Its stderr. A line shows where bytes were left out and how many.
    pub stderr: String,
    /// Further remarks about this call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A skipped hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedSkip {
    /// Its file.
    pub path: String,
    /// Why.
    pub reason: String,
}

/// A hook that was disabled or enabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RecordedChange {
    /// When: RFC 3339 in UTC. Every entry begins with this field.
    pub time: String,
    /// `disabled` or `enabled`.
    pub change: String,
    /// The hook's file.
    pub path: String,
    /// When the hook will be enabled again, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The reason, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The user who did it.
    pub by: String,
}

impl RecordedEvent {
    pub(super) fn new(report: &Report, began: SystemTime, caller: &str) -> Self {
        let event = &report.event;
        Self {
            time: timestamp(began),
            caller: caller.to_owned(),
            driver: event.driver().to_owned(),
            object: event.object().to_owned(),
            operation: event.operation().to_owned(),
            sub_operation: event.sub_operation().to_owned(),
            extra: event.extra().to_owned(),
            stage: report.stage.to_string(),
            decision: report.decision.name().to_owned(),
            exit_status: report.exit_status(),
            refused: report.refused.clone(),
            duration_us: micros(began.elapsed().unwrap_or_default()),
            hooks: report.hooks.iter().map(RecordedHook::new).collect(),
            skipped: report
                .skipped
                .iter()
                .map(|skipped| RecordedSkip { path: text(&skipped.path), reason: skipped.reason.clone() })
                .collect(),
        }
    }

    /// The hooks that failed, in order.
    pub fn failures(&self) -> impl Iterator<Item = &RecordedHook> {
        self.hooks.iter().filter(|hook| hook.failure.is_some())
    }

    /// The text report, in the same words as at the time of the event. Empty if nothing failed. The middle of a long
    /// stderr is missing. It is safe to show on a terminal, like [`Report::shown`].
    #[must_use]
    pub fn to_text(&self) -> String {
        let refused = self.refused.iter().map(|why| format!("Hook script execution failed: {why}\n"));
        let entries = self.failures().map(|hook| {
            let failure = hook.failure.as_deref().unwrap_or_default();
            let (stderr, would_veto) = (hook.stderr.as_bytes(), hook.verdict.is_some());
            let failure = HookReport::failure(failure, &hook.termination, stderr);
            let driver = Some(self.driver.as_str());
            let entry = HookReport::words(Form::Shown, &hook.path, driver, &failure, stderr, &hook.notes, would_veto);
            String::from_utf8_lossy(&entry).into_owned() + "\n"
        });
        refused.chain(entries).collect()
    }
}

impl RecordedHook {
    fn new(hook: &HookReport) -> Self {
        Self {
            path: text(&hook.path),
            kind: hook.kind.name().to_owned(),
            sha256: hook.sha256.clone(),
            termination: hook.termination.name().to_owned(),
            exit_status: hook.termination.exit_status(),
            failure: (hook.termination != Termination::Exited(0)).then(|| hook.termination.to_string()),
            verdict: hook.would_veto.then(|| "would-veto".to_owned()),
            duration_us: micros(hook.duration),
            stderr: String::from_utf8_lossy(&shortened(&hook.stderr)).into_owned(),
            notes: hook.notes.clone(),
        }
    }
}

impl RecordedChange {
    /// The entry for a hook that this user has disabled or enabled.
    #[must_use]
    pub fn now(change: &str, hook: &Path, by: &str) -> Self {
        Self {
            time: timestamp(SystemTime::now()),
            change: change.to_owned(),
            path: text(hook),
            until: None,
            reason: None,
            by: by.to_owned(),
        }
    }
}

impl Recorded {
    /// The entry's time: RFC 3339 in UTC.
    #[must_use]
    pub fn time(&self) -> &str {
        match self {
            Self::Event(event) => &event.time,
            Self::Change(change) => &change.time,
        }
    }

    /// The entry as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The line of an entry, with its newline.
pub(super) fn line(entry: &impl Serialize) -> Vec<u8> {
    // Strings, numbers and lists have no way to fail.
    let mut line = serde_json::to_vec(entry).unwrap_or_default();
    line.push(b'\n');
    line
}

fn shortened(stderr: &[u8]) -> Vec<u8> {
    let mut capture = Capture::both_ends(STDERR);
    capture.push(stderr);
    capture.finish().shown()
}

fn timestamp(time: SystemTime) -> String {
    humantime::format_rfc3339_micros(time).to_string()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
