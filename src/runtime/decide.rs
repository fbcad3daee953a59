//! Calls the hooks of an event and decides from their results. The rules of the two stages are only here.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::hooks::{Hook, HookSet, Loaded};
use crate::backend::{Call, Completion};
use crate::cancel::Cancel;
use crate::convention::rules::{AfterVeto, Convention};
use crate::document::DocumentFormat;
use crate::event::Event;
use crate::hook::error::LaunchError;
use crate::hook::mode::Mode;
use crate::hook::skipped::Skipped;
use crate::hook::trust::Trust;
use crate::limits::{Deadline, Expired, Limits};
use crate::needs::Watch;
use crate::observe;
use crate::report::termination::Termination;
use crate::report::{Decision, HookReport, Report};
use crate::semaphore::Semaphore;
use crate::stage::Stage;

/// Options that apply to all hooks of a call.
pub(super) struct CallOptions<'a> {
    limits: &'a Limits,
    cancels: Vec<Cancel>,
    /// When the call began, and the total time of its hooks.
    pub(super) within: Option<(Instant, Duration)>,
    /// Bounds how many hooks run at once (`max_in_flight`).
    pub(super) slots: Option<&'a Semaphore>,
    /// Whether reports include the hooks' digests.
    pub(super) digests: bool,
    /// Whether all hooks run in monitor mode.
    pub(super) monitor: bool,
    /// Whether stdout is kept for operations that are not filters.
    pub(super) keep_stdout: bool,
    /// Collects what the hook uses.
    pub(super) watch: Option<Watch>,
}

impl<'a> CallOptions<'a> {
    pub(super) fn new(limits: &'a Limits, cancels: Vec<Cancel>) -> Self {
        Self {
            limits,
            cancels,
            within: None,
            slots: None,
            digests: false,
            monitor: false,
            keep_stdout: false,
            watch: None,
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancels.iter().any(Cancel::is_cancelled)
    }

    /// The hook's timeout, shortened to the time left for the whole call.
    fn time_left(&self, limit: Duration) -> Duration {
        match self.within {
            // Whole milliseconds, since reports show it.
            Some((since, time)) if time.saturating_sub(since.elapsed()) < limit => {
                Duration::from_millis(time.saturating_sub(since.elapsed()).as_millis().try_into().unwrap_or(u64::MAX))
            }
            _ => limit,
        }
    }
}

pub(super) fn run(
    event: &Event,
    stage: Stage,
    hooks: &HookSet,
    convention: &Convention,
    refusal: Option<String>,
    options: &CallOptions<'_>,
) -> Report {
    let filter = event.filter_format().filter(|_| stage == Stage::Start);
    let stops = stage == Stage::Start && convention.after_veto == AfterVeto::Stop;
    let mut report = Report::new(event, stage);
    if let Some(why) = refusal {
        report.refuse(why);
    }
    for hook in hooks.of_event(event) {
        let passed_over = match &hook.loaded {
            Loaded::Skipped(reason) if !hook.is_overdue() => Some(reason.as_str()),
            _ if stage == Stage::Start && report.refused.is_some() => Some("it was not called: the event was refused"),
            _ if stops && report.decision == Decision::Vetoed => Some("it was not called: an earlier hook vetoed"),
            _ if report.was_cancelled() => Some("it was not called: the call was cancelled"),
            Loaded::Ready(_) | Loaded::Broken(_) | Loaded::Skipped(_) => None,
        };
        if let Some(reason) = passed_over {
            report.skipped.push(Skipped { path: hook.path.to_path_buf(), reason: reason.to_owned() });
            continue;
        }
        let stdin = report.document.clone().unwrap_or_else(|| event.document().clone());
        let keep_stdout = if filter.is_some() || options.keep_stdout { options.limits.stdout } else { 0 };
        let span = observe::hook_span(&hook.path, hook.kind).entered();
        let mut ended = self::hook(hook, &event.arguments(), stdin, options, keep_stdout);
        if options.monitor {
            ended.mode = Mode::Monitor;
        }
        let document = filter.and_then(|format| take_document(format, &mut ended));
        if let Some(document) = document.filter(|_| ended.mode == Mode::Enforce) {
            report.document = Some(document);
        }
        if options.digests && ended.sha256.is_none() {
            ended.sha256 = hook.sha256();
        }
        ended.decides = !event.guest_is_running() || matches!(ended.termination, Termination::Exited(_));
        observe::finished(&span, event, &ended);
        drop(span);
        report.add(ended);
    }
    if stage == Stage::Start && options.is_cancelled() && !report.was_cancelled() {
        report.refuse("the call was cancelled".to_owned());
    }
    if report.decision == Decision::Vetoed {
        report.document = None;
    }
    report
}

/// Shorter waits for a free slot are not reported.
const NOTED_WAIT: Duration = Duration::from_millis(100);

/// Tells why a call took longer than the timeout: the timeout starts only after the wait for a slot.
fn waited_note(waited: Duration) -> String {
    let waited = Duration::from_millis(waited.as_millis().try_into().unwrap_or(u64::MAX));
    format!("it waited {} for a free slot (max_in_flight) before it was called", humantime::format_duration(waited))
}

/// Calls one hook.
pub(super) fn hook(
    hook: &Hook,
    arguments: &[&str],
    stdin: Bytes,
    options: &CallOptions<'_>,
    keep_stdout: usize,
) -> HookReport {
    let began = Instant::now();
    if options.is_cancelled() {
        return not_run(hook, Termination::Cancelled);
    }
    let limit = hook.settings.timeout.unwrap_or(options.limits.timeout);
    let start = |timeout, slow| Deadline::start(timeout, slow, options.cancels.clone());
    let slot = options.slots.map(|slots| slots.take(&start(options.time_left(limit), Duration::MAX)));
    let _permit = match slot.transpose() {
        Ok(permit) => permit,
        Err(Expired::Cancelled) => return not_run(hook, Termination::Cancelled),
        Err(Expired::TimedOut { .. }) => {
            let report = not_run(hook, Termination::NotLaunched(LaunchError::NoFreeSlot));
            return HookReport { duration: began.elapsed(), ..report };
        }
    };
    let waited = options.slots.map(|_| began.elapsed()).filter(|waited| *waited >= NOTED_WAIT);
    let timeout = options.time_left(limit);
    if timeout.is_zero() && !limit.is_zero() {
        let after = options.within.map_or(timeout, |(_, time)| time);
        return HookReport {
            duration: began.elapsed(),
            ..not_run(hook, Termination::TimedOut { after, of_call: true })
        };
    }
    let _in_flight = observe::started(&hook.path);
    let environment = hook.settings.environment(Trust::of_this_process);
    let call = Call {
        path: &hook.path,
        hook: &hook.path,
        arguments,
        stdin,
        env: environment.as_deref().unwrap_or_default(),
        deadline: start(timeout, options.limits.slow),
        limits: options.limits,
        keep_stdout,
        watch: options.watch.clone(),
        digest: options.digests.then_some(&hook.digest),
    };
    let outcome = match (&hook.loaded, &environment) {
        (Loaded::Ready(program), Ok(_)) => program.run(&call),
        (Loaded::Broken(why), _) | (Loaded::Ready(_), Err(why)) => Err(why.clone()),
        (Loaded::Skipped(why), _) => Err(LaunchError::Refused(why.clone())),
    };
    let duration = call.deadline.elapsed();
    let of_call = options.within.map(|(_, time)| time).filter(|_| timeout < limit);
    HookReport { duration, ..report_of(hook, outcome, waited, of_call) }
}

/// The report of a hook that was called. `of_call` is the time of the whole call, if it was less than the hook's timeout.
fn report_of(
    hook: &Hook,
    outcome: Result<Completion, LaunchError>,
    waited: Option<Duration>,
    of_call: Option<Duration>,
) -> HookReport {
    match outcome {
        Err(why) => HookReport { notes: hook.notes.clone(), ..silent(hook, Termination::NotLaunched(why)) },
        Ok(Completion { termination, stdout, stderr, stdout_held, notes, sha256 }) => HookReport {
            stdout_held,
            sha256,
            stderr: stderr.shown(),
            stderr_dropped: stderr.dropped,
            stdout: stdout.bytes.into(),
            stdout_dropped: stdout.dropped,
            notes: hook.notes.iter().cloned().chain(waited.map(waited_note)).chain(notes).collect(),
            ..silent(
                hook,
                match (termination, of_call) {
                    (Termination::TimedOut { .. }, Some(after)) => Termination::TimedOut { after, of_call: true },
                    (termination, _) => termination,
                },
            )
        },
    }
}

/// The report of a hook that was not called.
pub(super) fn not_run(hook: &Hook, termination: Termination) -> HookReport {
    HookReport { notes: vec!["it was not called".to_owned()], ..silent(hook, termination) }
}

/// A report without output.
fn silent(hook: &Hook, termination: Termination) -> HookReport {
    HookReport {
        path: hook.path.to_path_buf(),
        kind: hook.kind,
        termination,
        stderr: Vec::new(),
        stderr_dropped: 0,
        stdout: Bytes::new(),
        stdout_dropped: 0,
        stdout_held: false,
        duration: Duration::ZERO,
        notes: Vec::new(),
        decides: true,
        sha256: None,
        mode: hook.settings.mode,
        would_veto: false,
    }
}

/// The document that a filter hook wrote, if any. An unusable document makes the hook fail.
fn take_document(format: &DocumentFormat, hook: &mut HookReport) -> Option<Bytes> {
    if !hook.termination.is_success() {
        return None;
    }
    let usable = if hook.stdout_held {
        Err("its document may be incomplete: a background process kept its stdout open after it exited".to_owned())
    } else if hook.stdout_dropped > 0 {
        let (kept, all) = (hook.stdout.len(), hook.stdout.len() as u64 + hook.stdout_dropped);
        Err(format!("it wrote a document of {all} bytes: the limit is {kept} bytes"))
    } else if format.is_empty(&hook.stdout) {
        return None;
    } else {
        format.refuse(&hook.stdout)
    };
    match usable {
        Ok(()) => Some(hook.stdout.clone()),
        Err(why) => {
            hook.termination = Termination::Rejected(why);
            None
        }
    }
}
