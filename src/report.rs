//! The report of an event, as text and as JSON. It is the same for both kinds of hook.

mod json;
pub(crate) mod termination;
pub(crate) mod verdict;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use self::termination::Termination;
use crate::event::Event;
use crate::hook::kind::Kind;
use crate::hook::mode::Mode;
use crate::hook::skipped::Skipped;
use crate::printable::{printable, printable_block, printable_line};
use crate::stage::Stage;

/// The result of one hook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookReport {
    /// The hook's file.
    pub path: PathBuf,
    /// Which back-end ran it.
    pub kind: Kind,
    /// How it ended.
    pub termination: Termination,
    /// Its stderr. A line shows where bytes were dropped and how many.
    pub stderr: Vec<u8>,
    /// Bytes of stderr that were dropped.
    pub stderr_dropped: u64,
    /// Its stdout, for filter operations, [`Exec`](crate::Exec) and [`keep_stdout`](crate::Invocation::keep_stdout).
    pub stdout: Bytes,
    /// Bytes of stdout that were dropped.
    pub stdout_dropped: u64,
    /// Whether a background process kept stdout open after the hook had ended.
    pub(crate) stdout_held: bool,
    /// How long the call took.
    pub duration: Duration,
    /// Whether a failure of this hook counts. It does not if the guest [runs already](Event::guest_is_running) and the hook did
    /// not exit by itself.
    pub decides: bool,
    /// Further remarks about this call, one sentence each.
    pub notes: Vec<String>,
    /// The SHA-256 of its file in hexadecimal digits, if the runtime keeps a [`Record`](crate::Record).
    pub sha256: Option<String>,
    /// Whether its failure can veto.
    pub mode: Mode,
    /// Whether it failed before a start and did not veto only because of [`Mode::Monitor`].
    pub would_veto: bool,
}

impl HookReport {
    /// The log entry of a failure, without a trailing newline; `None` for a success.
    ///
    /// stderr is copied byte for byte. For a terminal, use [`shown_entry`](Self::shown_entry).
    ///
    /// The wording follows the proposal that introduced hooks in libvirt, with the correct exit status.
    #[must_use]
    pub fn entry(&self, driver: Option<&str>) -> Option<Vec<u8>> {
        self.entry_as(Form::AsWritten, driver)
    }

    /// The log entry of a failure, safe to show on a terminal: control characters of the hook's text are escaped as by
    /// [`printable`](crate::printable()), and its lines after the first are indented.
    #[must_use]
    pub fn shown_entry(&self, driver: Option<&str>) -> Option<String> {
        self.entry_as(Form::Shown, driver).map(text)
    }

    /// The message for the log, for a success too. Only its control characters are escaped: a log knows where a message ends.
    pub(crate) fn message(&self, driver: &str) -> String {
        let title = printable_line(&self.title(driver));
        let succeeded = || match self.stderr.trim_ascii_end() {
            // Without it, a shell's `unbound variable` is easily missed.
            stderr if !stderr.is_empty() => {
                format!("Hook script {title} succeeded and wrote to stderr: {}", printable(stderr))
            }
            _ => format!("Hook script {title} succeeded"),
        };
        self.entry_as(Form::Logged, Some(driver)).map_or_else(succeeded, text)
    }

    /// A sentence with the stderr of a hook that succeeded, safe to show; `None` if it wrote nothing or failed.
    #[must_use]
    pub fn remark(&self, driver: &str) -> Option<String> {
        let stderr = self.stderr.trim_ascii_end();
        if stderr.is_empty() || !self.termination.is_success() {
            return None;
        }
        let title = printable_line(&self.title(driver));
        Some(format!("Hook script {title} succeeded and wrote to stderr: {}", printable_block(stderr)))
    }

    fn entry_as(&self, form: Form, driver: Option<&str>) -> Option<Vec<u8>> {
        if self.termination.is_success() {
            return None;
        }
        let path = self.path.display().to_string();
        let failure = Self::failure(&self.termination.to_string(), self.termination.name(), &self.stderr);
        Some(Self::words(form, &path, driver, &failure, &self.stderr, &self.notes, self.would_veto))
    }

    /// Whether it failed in [`Mode::Enforce`]. A cancelled call counts in any mode.
    fn counts(&self) -> bool {
        let is_enforced = self.mode == Mode::Enforce || self.termination == Termination::Cancelled;
        is_enforced && !self.termination.is_success()
    }

    /// What went wrong, in words. If a hook failed without writing to stderr, this says so.
    pub(crate) fn failure(failure: &str, termination: &str, stderr: &[u8]) -> String {
        let is_silent = termination == Termination::Exited(1).name() && stderr.trim_ascii_end().is_empty();
        format!("{failure}{}", if is_silent { " and wrote nothing to stderr" } else { "" })
    }

    /// The hook's name in the text report: its path, and its driver unless the path ends with it.
    #[must_use]
    pub fn title(&self, driver: &str) -> String {
        Self::titled(&self.path.display().to_string(), Some(driver))
    }

    fn titled(path: &str, driver: Option<&str>) -> String {
        match driver.filter(|driver| !Path::new(path).ends_with(driver)) {
            Some(driver) => format!("{path} {driver}"),
            None => path.to_owned(),
        }
    }

    /// The text of a log entry.
    pub(crate) fn words(
        form: Form,
        path: &str,
        driver: Option<&str>,
        failure: &str,
        stderr: &[u8],
        notes: &[String],
        would_veto: bool,
    ) -> Vec<u8> {
        let what = if would_veto { "Hook script would have vetoed" } else { "Hook script execution failed" };
        let (title, failure) = (printable_line(&Self::titled(path, driver)), printable_line(failure));
        let mut entry = format!("{what}: Hook script {title} {failure}").into_bytes();
        let stderr = stderr.trim_ascii_end();
        if !stderr.is_empty() {
            entry.extend_from_slice(b": ");
            match form {
                Form::AsWritten => entry.extend_from_slice(stderr),
                Form::Logged => entry.extend_from_slice(printable(stderr).as_bytes()),
                Form::Shown => entry.extend_from_slice(printable_block(stderr).as_bytes()),
            }
        }
        for note in notes {
            entry.extend_from_slice(b"\n  note: ");
            entry.extend_from_slice(printable(note.as_bytes()).as_bytes());
        }
        entry
    }
}

/// How a hook's stderr appears in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Byte for byte, for a program that reads it.
    AsWritten,
    /// Control characters are escaped.
    Logged,
    /// Control characters are escaped, and lines after the first are indented, so that none looks like one of hookvisor's.
    Shown,
}

/// An entry that has only text in it.
fn text(entry: Vec<u8>) -> String {
    String::from_utf8(entry).unwrap_or_else(|error| printable(error.as_bytes()))
}

/// The decision for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Start stage: the start may proceed.
    Proceed,
    /// Start stage: the start must not proceed.
    Vetoed,
    /// Shutdown stage: the hooks were called.
    Notified,
}

impl Decision {
    /// The stable name in the JSON form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Proceed => "proceed",
            Self::Vetoed => "vetoed",
            Self::Notified => "notified",
        }
    }
}

/// The result of one event.
///
/// ```no_run
/// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
/// let report = runtime.shutdown(&hookvisor::Event::new("mydaemon", "web1", "stopped")?);
/// for hook in report.failures() {
///     println!("{} ended with {}", hook.path.display(), hook.termination.exit_status());
/// }
/// println!("{}", report.to_json());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Its [`Display`](fmt::Display) form is the text report: empty when nothing failed, otherwise an entry for each failure. It
/// has what the hooks wrote, unescaped. For a terminal, use [`shown`](Self::shown).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The event, with the original document.
    pub event: Event,
    /// The stage that the event ran in.
    pub stage: Stage,
    /// The decision.
    pub decision: Decision,
    /// The hooks that were called, in order.
    pub hooks: Vec<HookReport>,
    /// The hooks of this event that were not called, and why.
    pub skipped: Vec<Skipped>,
    /// Why the event was refused, for example because its driver has no such operation. Before a start, this is a veto.
    pub refused: Option<String>,
    /// The document that a filter operation's hooks wrote; `None` if no hook changed it.
    pub document: Option<Bytes>,
}

impl Report {
    /// An empty report, before any hook was called.
    pub(crate) fn new(event: &Event, stage: Stage) -> Self {
        Self {
            event: event.clone(),
            stage,
            decision: match stage {
                Stage::Start => Decision::Proceed,
                Stage::Shutdown => Decision::Notified,
            },
            hooks: Vec::new(),
            skipped: Vec::new(),
            refused: None,
            document: None,
        }
    }

    /// Refuses the event for a reason other than a hook. Before a start, this vetoes, unless the guest already runs.
    pub(crate) fn refuse(&mut self, why: String) {
        if self.stage == Stage::Start && !self.event.guest_is_running() {
            self.decision = Decision::Vetoed;
        }
        self.refused = Some(why);
    }

    /// Adds a hook's result. Before a start, any failure that counts and decides is a veto.
    pub(crate) fn add(&mut self, mut hook: HookReport) {
        let failed = self.stage == Stage::Start && !hook.termination.is_success();
        hook.would_veto = failed && !hook.counts();
        if failed && hook.counts() && hook.decides {
            self.decision = Decision::Vetoed;
        }
        self.hooks.push(hook);
    }

    pub(crate) fn was_cancelled(&self) -> bool {
        self.hooks.iter().any(|hook| hook.termination == Termination::Cancelled)
    }

    /// The failures in order, without those of hooks in [`Mode::Monitor`].
    pub fn failures(&self) -> impl Iterator<Item = &HookReport> {
        self.hooks.iter().filter(|hook| hook.counts())
    }

    /// The exit status of the first failed hook that [decides](HookReport::decides), 0 if there is none; 125 if the event was
    /// refused.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        if self.refused.is_some() && self.decision != Decision::Proceed {
            return 125;
        }
        self.failures().find(|hook| hook.decides).map_or(0, |hook| hook.termination.exit_status())
    }

    /// The text report: one or more lines per failure, empty if nothing failed. stderr is copied byte for byte and may not be
    /// UTF-8. For a terminal, use [`shown`](Self::shown).
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        self.text_as(Form::AsWritten)
    }

    /// The text report, safe to show on a terminal: control characters of the hooks' text are escaped as by
    /// [`printable`](crate::printable()), and its lines after the first are indented.
    #[must_use]
    pub fn shown(&self) -> String {
        text(self.text_as(Form::Shown)).trim_end().to_owned()
    }

    fn text_as(&self, form: Form) -> Vec<u8> {
        let mut text = Vec::new();
        if let Some(why) = &self.refused {
            text.extend_from_slice(format!("Hook script execution failed: {}\n", printable_line(why)).as_bytes());
        }
        for entry in self.hooks.iter().filter_map(|hook| hook.entry_as(form, Some(self.event.driver()))) {
            text.extend_from_slice(&entry);
            text.push(b'\n');
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.to_text()).trim_end())
    }
}
