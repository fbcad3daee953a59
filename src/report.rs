//! What came of an event: one report, the same for both kinds of hook, as text and as JSON.

pub(crate) mod json;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::event::{Event, Stage};

/// Which back-end runs a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// An executable script or binary, run as a process.
    Native,
    /// A WebAssembly module, run under WASI in a sandbox.
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
}

/// How a hook's call ended.
///
/// ```
/// use hookvisor::Termination;
///
/// let killed = Termination::Signaled { signal: 9, name: "SIGKILL".to_owned() };
/// assert_eq!((killed.exit_status(), killed.name(), killed.is_success()), (137, "signaled", false));
/// assert_eq!(killed.to_string(), "killed by signal 9 (SIGKILL)");
/// ```
///
/// The numbers are a POSIX shell's, and those of timeout(1) and abort(3) where a shell has none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Termination {
    /// It exited with this status, a process's `WEXITSTATUS` or the argument of WASI's `proc_exit`.
    Exited(u8),
    /// A signal killed it.
    Signaled {
        /// The signal's number (`WTERMSIG`).
        signal: i32,
        /// Its name, such as `SIGKILL`.
        name: String,
    },
    /// It ran out of time, and was ended.
    TimedOut {
        /// Its time limit.
        after: Duration,
    },
    /// A wasm trap ended it: the trap's name and the guest's functions, innermost first.
    Trapped(String),
    /// It never ran.
    NotLaunched {
        /// 127: it, or its interpreter, was not found. 126: it may not or cannot be run. 125: the runtime failed.
        status: u8,
        /// Why, as a fragment that fits "could not be run: …".
        why: String,
    },
    /// It exited with 0, but what it wrote cannot be used.
    Rejected(String),
    /// It ran, and the host process lost its exit status.
    Lost(String),
    /// The host ended it, or did not call it any more ([`Cancel`](crate::Cancel)).
    Cancelled,
}

impl Termination {
    /// The exit status as a shell would give it: the hook's own, 128 + a signal's number, 124 for time, 134 for a trap,
    /// 127, 126 or 125 for a hook that did not run.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exited(status) => *status,
            Self::Signaled { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::TimedOut { .. } => 124,
            Self::Trapped(_) => 134,
            Self::NotLaunched { status, .. } => *status,
            Self::Rejected(_) => 1,
            Self::Lost(_) | Self::Cancelled => 125,
        }
    }

    /// Whether the hook ran to its end and exited with 0: nothing else is a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }

    /// The stable name in the JSON form.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled { .. } => "signaled",
            Self::TimedOut { .. } => "timed-out",
            Self::Trapped(_) => "trapped",
            Self::NotLaunched { .. } => "not-launched",
            Self::Rejected(_) => "rejected",
            Self::Lost(_) => "lost",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What happened, as the part of the report's sentence that follows the hook's name.
impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "failed with error code {status}"),
            Self::Signaled { signal, name } => write!(f, "killed by signal {signal} ({name})"),
            Self::TimedOut { after } => write!(f, "timed out after {}", humantime::format_duration(*after)),
            Self::Trapped(what) => write!(f, "trapped: {what}"),
            Self::NotLaunched { why, .. } => write!(f, "could not be run: {why}"),
            Self::Rejected(why) => write!(f, "was refused: {why}"),
            Self::Lost(why) => write!(f, "ended unseen: {why}"),
            Self::Cancelled => f.write_str("was cancelled by the host"),
        }
    }
}

/// What came of one hook.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HookReport {
    /// The hook's file.
    pub path: PathBuf,
    /// Which back-end ran it.
    pub kind: Kind,
    /// How it ended.
    pub termination: Termination,
    /// What it wrote to stderr; where bytes were left out, a line says how many.
    pub stderr: Vec<u8>,
    /// How many bytes of stderr were left out.
    pub stderr_dropped: u64,
    /// What it wrote to stdout, where that has a use: a filter operation, or [`Exec`](crate::Exec).
    pub stdout: Bytes,
    /// How many bytes of stdout were not kept.
    pub stdout_dropped: u64,
    /// How long the call took.
    pub duration: Duration,
    /// What else a person should know of this call, a sentence each.
    pub notes: Vec<String>,
}

impl HookReport {
    /// The entry that a failure makes in a log, without a newline at its end; `None` for a success.
    ///
    /// Its words are those of the proposal that brought hooks to libvirt, with the exit status made right.
    #[must_use]
    pub fn entry(&self, driver: Option<&str>) -> Option<Vec<u8>> {
        if self.termination.is_success() {
            return None;
        }
        let driver = driver.map(|d| format!(" {d}")).unwrap_or_default();
        let path = self.path.display();
        let mut entry =
            format!("Hook script execution failed: Hook script {path}{driver} {}", self.termination).into_bytes();
        let stderr = self.stderr.trim_ascii_end();
        if !stderr.is_empty() {
            entry.extend_from_slice(b": ");
            entry.extend_from_slice(stderr);
        }
        for note in &self.notes {
            entry.extend_from_slice(b"\n  note: ");
            entry.extend_from_slice(note.as_bytes());
        }
        Some(entry)
    }
}

/// A hook's file that was found and not called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Skipped {
    /// The file.
    #[serde(serialize_with = "json::path")]
    pub path: PathBuf,
    /// Why, and what to do about it.
    pub reason: String,
}

/// What is to happen, now that the hooks have spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Decision {
    /// Start stage: go on.
    Proceed,
    /// Start stage: do not.
    Vetoed,
    /// Shutdown stage: the hooks have been told.
    Notified,
}

/// What came of one event.
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
/// Its [`Display`](fmt::Display) form is the text report: empty when nothing failed, otherwise an entry for each failure.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// The event; its document as it was before any hook.
    pub event: Event,
    /// The stage it was run as.
    pub stage: Stage,
    /// What is to happen now.
    pub decision: Decision,
    /// The hooks that were called, in order.
    pub hooks: Vec<HookReport>,
    /// The hooks of this event that were not called, and why.
    pub skipped: Vec<Skipped>,
    /// The document as the hooks of a filter operation made it; `None` where no hook changed it.
    pub document: Option<Bytes>,
}

impl Report {
    /// The report of an event that no hook has been called for yet.
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
            document: None,
        }
    }

    /// Takes what came of a hook. Before a start, anything but a success vetoes.
    pub(crate) fn add(&mut self, hook: HookReport) {
        if self.stage == Stage::Start && !hook.termination.is_success() {
            self.decision = Decision::Vetoed;
        }
        self.hooks.push(hook);
    }

    pub(crate) fn was_cancelled(&self) -> bool {
        self.hooks.iter().any(|hook| hook.termination == Termination::Cancelled)
    }

    /// The failures, in order.
    pub fn failures(&self) -> impl Iterator<Item = &HookReport> {
        self.hooks.iter().filter(|hook| !hook.termination.is_success())
    }

    /// The exit status of the first hook that failed, 0 where none did.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        self.failures().next().map_or(0, |hook| hook.termination.exit_status())
    }

    /// The text report with stderr's bytes as the hooks wrote them, which may not be UTF-8: a line or more for each
    /// failure, empty where there is none.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for entry in self.failures().filter_map(|hook| hook.entry(Some(self.event.driver()))) {
            text.extend_from_slice(&entry);
            text.push(b'\n');
        }
        text
    }

    /// The report as one line of JSON. Its fields are stable; see the README. Bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::report(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(String::from_utf8_lossy(&self.to_text()).trim_end())
    }
}

/// The answer to a start. It has to be looked at: going on without is what hooks exist to prevent.
///
/// ```
/// # fn start(runtime: &hookvisor::Runtime, event: &hookvisor::Event) -> Result<(), hookvisor::Veto> {
/// let report = runtime.start(event).into_result()?;
/// // … start the guest, with `report.document` if a filter changed it
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a hook may have vetoed the start"]
pub enum Verdict {
    /// Every hook agreed.
    Proceed(Box<Report>),
    /// A hook refused, or could not be asked.
    Vetoed(Veto),
}

impl Verdict {
    pub(crate) fn of(report: Report) -> Self {
        match report.decision {
            Decision::Vetoed => Self::Vetoed(Veto(Box::new(report))),
            Decision::Proceed | Decision::Notified => Self::Proceed(Box::new(report)),
        }
    }

    /// The report, whichever way it went.
    #[must_use]
    pub fn report(&self) -> &Report {
        match self {
            Self::Proceed(report) => report,
            Self::Vetoed(veto) => veto.report(),
        }
    }

    /// For `?`: the report of a start that may go on, or the [`Veto`] as an error.
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub fn into_result(self) -> Result<Report, Veto> {
        match self {
            Self::Proceed(report) => Ok(*report),
            Self::Vetoed(veto) => Err(veto),
        }
    }
}

/// A start that must not go on. As an error, it reads as the text report, also where a `main` returns it.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
pub struct Veto(Box<Report>);

impl fmt::Debug for Veto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Veto {
    /// What the hooks said.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// What the hooks said, owned.
    #[must_use]
    pub fn into_report(self) -> Report {
        *self.0
    }
}
