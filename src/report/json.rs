//! The JSON form. Its field names and their order are stable.

use std::path::Path;

use serde::Serialize;

use super::termination::Termination;
use super::{Decision, HookReport, Report};
use crate::hook::kind::Kind;
use crate::hook::mode::Mode;
use crate::hook::skipped::Skipped;
use crate::serialize;
use crate::stage::Stage;

#[derive(Serialize)]
struct ReportJson<'a> {
    driver: &'a str,
    object: &'a str,
    operation: &'a str,
    sub_operation: &'a str,
    extra: &'a str,
    stage: Stage,
    decision: Decision,
    exit_status: u8,
    hooks: Vec<HookJson<'a>>,
    skipped: &'a [Skipped],
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<String>,
}

#[derive(Serialize)]
struct HookJson<'a> {
    #[serde(serialize_with = "serialize::path")]
    path: &'a Path,
    kind: Kind,
    termination: &'static str,
    exit_status: u8,
    signal: Option<i32>,
    /// Details that the status lacks: a trap's name, or why a hook could not be run.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Present only if a failure does not count.
    #[serde(skip_serializing_if = "is_true")]
    decides: bool,
    stderr: String,
    stderr_dropped: u64,
    duration_us: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "is_enforce")]
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict: Option<&'static str>,
    notes: &'a [String],
}

/// The result of a single hook file, with its output.
#[derive(Serialize)]
struct HookFileJson<'a> {
    #[serde(flatten)]
    hook: HookJson<'a>,
    stdout: String,
    stdout_dropped: u64,
}

fn is_enforce(mode: &Mode) -> bool {
    *mode == Mode::Enforce
}

impl<'a> From<&'a HookReport> for HookJson<'a> {
    fn from(hook: &'a HookReport) -> Self {
        Self {
            path: &hook.path,
            kind: hook.kind,
            termination: hook.termination.name(),
            exit_status: hook.termination.exit_status(),
            signal: match hook.termination {
                Termination::Signaled { signal, .. } => Some(signal),
                _ => None,
            },
            reason: match &hook.termination {
                Termination::NotLaunched(error) => Some(error.to_string()),
                Termination::Trapped(why) | Termination::Rejected(why) | Termination::Lost(why) => Some(why.clone()),
                Termination::Exited(_)
                | Termination::Signaled { .. }
                | Termination::TimedOut { .. }
                | Termination::Cancelled => None,
            },
            decides: hook.decides,
            stderr: String::from_utf8_lossy(&hook.stderr).into_owned(),
            stderr_dropped: hook.stderr_dropped,
            duration_us: hook.duration.as_micros(),
            sha256: hook.sha256.as_deref(),
            mode: hook.mode,
            verdict: hook.would_veto.then_some("would-veto"),
            notes: &hook.notes,
        }
    }
}

impl HookReport {
    /// The result of a hook as one line of JSON: the fields that it has in a report, and its `stdout`. They are stable; see
    /// the book's reference. Bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn to_json(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout).into_owned();
        text(&HookFileJson { hook: HookJson::from(self), stdout, stdout_dropped: self.stdout_dropped })
    }
}

impl Report {
    /// The report as one line of JSON. Its fields are stable; see the book's reference. Bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn to_json(&self) -> String {
        let event = &self.event;
        let json = ReportJson {
            driver: event.driver(),
            object: event.object(),
            operation: event.operation(),
            sub_operation: event.sub_operation(),
            extra: event.extra(),
            stage: self.stage,
            decision: self.decision,
            exit_status: self.exit_status(),
            hooks: self.hooks.iter().map(HookJson::from).collect(),
            skipped: &self.skipped,
            refused: self.refused.as_deref(),
            document: self.document.as_ref().map(|d| String::from_utf8_lossy(d).into_owned()),
        };
        text(&json)
    }
}

/// Serializing strings, numbers and lists does not fail. A reader would reject an empty object.
fn text(json: &impl Serialize) -> String {
    serde_json::to_string(json).unwrap_or_else(|_| "{}".to_owned())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_true(value: &bool) -> bool {
    *value
}
