//! Runs the hooks of one event. The rules of the two stages are only here.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::Runtime;
use super::guest::Guest;
use super::hooks::{Hook, HookSet, Loaded};
use crate::backend::{Call, Completion};
use crate::cancel::Cancel;
use crate::convention::rules::AfterVeto;
use crate::convention::rules::Convention;
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
use crate::report::verdict::{Verdict, Veto};
use crate::report::{Decision, HookReport, Report};
use crate::semaphore::Semaphore;
use crate::stage::Stage;

/// Options for one call. Created by [`Runtime::call`]; nothing runs until [`start`](Self::start), [`admit`](Self::admit),
/// [`shutdown`](Self::shutdown) or [`run`](Self::run).
///
/// ```no_run
/// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
/// # let event = hookvisor::Event::new("mydaemon", "web1", "start")?;
/// use std::time::Duration;
///
/// let verdict = runtime.call(&event).within(Duration::from_secs(10)).start();
/// # drop(verdict);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "no hook is called before `start`, `admit`, `shutdown` or `run`"]
pub struct Invocation {
    pub(super) runtime: Runtime,
    pub(super) event: Event,
    limits: Option<Limits>,
    within: Option<Duration>,
    cancels: Vec<Cancel>,
    monitor: bool,
    keep_stdout: bool,
}

impl Invocation {
    pub(super) fn new(runtime: &Runtime, event: &Event) -> Self {
        let cancels = runtime.0.cancels.clone();
        let event = event.under(runtime.0.conventions.of(event.driver()));
        Self {
            runtime: runtime.clone(),
            event,
            limits: None,
            within: None,
            cancels,
            monitor: false,
            keep_stdout: false,
        }
    }

    /// Sets the limits of this call. They replace the runtime's limits, except for memory and stack, which are fixed when the
    /// hooks are loaded.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Limits the total time of all hooks of this call. Each hook's own timeout still applies. A native hook that is stopped
    /// gets its grace period ([`Limits::grace`]) on top.
    ///
    /// When the time is used up, the remaining hooks are not called and are reported as timed out, which vetoes a start.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// Keeps the hooks' stdout in the report, up to the limit, for every operation. By default, only filters' stdout is kept.
    pub fn keep_stdout(mut self) -> Self {
        self.keep_stdout = true;
        self
    }

    /// Treats all hooks of this call as if their settings had `mode = "monitor"`: failures are reported but do not veto.
    pub fn monitor(mut self) -> Self {
        self.monitor = true;
        self
    }

    /// Ends this call's hooks when `cancel` is cancelled, in addition to the runtime's own. You can add several.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// See [`Runtime::start`].
    pub fn start(self) -> Verdict {
        Verdict::of(self.run_as(Stage::Start))
    }

    /// See [`Runtime::admit`].
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub fn admit(self) -> Result<Guest, Veto> {
        let runtime = self.runtime.clone();
        let report = self.start().into_result()?;
        Ok(Guest::new(runtime, report.event.clone(), Some(report)))
    }

    /// See [`Runtime::shutdown`].
    pub fn shutdown(self) -> Report {
        self.run_as(Stage::Shutdown)
    }

    /// See [`Runtime::run`].
    #[must_use = "a hook may have vetoed the event"]
    pub fn run(self) -> Report {
        let stage = self.event.stage();
        self.run_as(stage)
    }

    pub(super) fn run_as(self, stage: Stage) -> Report {
        let span = observe::event_span(&self.event, stage).entered();
        let began = SystemTime::now();
        let shared = &*self.runtime.0;
        if let Some(why) = shared.forked() {
            let mut report = Report::new(&self.event, stage);
            report.refuse(why);
            observe::decided(&span, &report);
            return report;
        }
        let mut options = CallOptions::new(
            self.limits.as_ref().unwrap_or_else(|| shared.limits_of(self.event.driver())),
            self.cancels,
        );
        options.within = self.within.map(|time| (Instant::now(), time));
        options.slots = shared.slots.as_ref();
        options.digests = shared.record.is_some();
        options.monitor = self.monitor;
        options.keep_stdout = self.keep_stdout;
        let hooks = shared.hooks_now();
        let refusal = shared.refusal(&self.event, &hooks);
        let report = run(&self.event, stage, &hooks, shared.conventions.of(self.event.driver()), refusal, &options);
        observe::decided(&span, &report);
        if let Some(record) = &shared.record {
            record.event(&report, began);
        }
        report
    }

    /// The report of a call for which no hook can be called.
    #[cfg(feature = "async")]
    pub(super) fn refused(&self, stage: Stage, why: &str) -> Report {
        let began = SystemTime::now();
        let mut report = Report::new(&self.event, stage);
        for hook in self.runtime.0.hooks().of_event(&self.event) {
            if matches!(hook.loaded, Loaded::Skipped(_)) {
                continue;
            }
            let why = LaunchError::Host { what: "the host could not call it", why: why.to_owned() };
            report.add(not_run(hook, Termination::NotLaunched(why)));
        }
        if let Some(record) = &self.runtime.0.record {
            record.event(&report, began);
        }
        report
    }
}

impl Runtime {
    /// Calls the hooks before a start. Any failing hook vetoes it, and so does a hook that cannot be run or does not finish.
    ///
    /// The event runs in the start stage, whatever its operation is.
    pub fn start(&self, event: &Event) -> Verdict {
        self.call(event).start()
    }

    /// Like [`start`](Self::start), but an allowed start returns a [`Guest`]: the handle that runs the shutdown hooks later.
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub fn admit(&self, event: &Event) -> Result<Guest, Veto> {
        self.call(event).admit()
    }

    /// Calls the hooks after a stop. An [admitted](Self::admit) guest's handle does this itself.
    ///
    /// Every hook is called, even if another one fails; failures are only reported. The event runs in the shutdown stage,
    /// whatever its operation is.
    pub fn shutdown(&self, event: &Event) -> Report {
        self.call(event).shutdown()
    }

    /// Runs an event in the stage that its driver's convention defines.
    #[must_use = "a hook may have vetoed the event"]
    pub fn run(&self, event: &Event) -> Report {
        self.call(event).run()
    }

    /// Prepares one call with its own options: a total time, limits, cancellation.
    pub fn call(&self, event: &Event) -> Invocation {
        Invocation::new(self, event)
    }
}

/// Options that apply to all hooks of a call.
pub(super) struct CallOptions<'a> {
    limits: &'a Limits,
    cancels: Vec<Cancel>,
    /// When the call began, and the total time of its hooks.
    within: Option<(Instant, Duration)>,
    /// Bounds how many hooks run at once (`max_in_flight`).
    slots: Option<&'a Semaphore>,
    /// Whether reports include the hooks' digests.
    digests: bool,
    /// Whether all hooks run in monitor mode.
    monitor: bool,
    /// Whether stdout is kept for operations that are not filters.
    keep_stdout: bool,
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

fn run(
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
        let sha256 = options.digests.then(|| hook.sha256()).flatten();
        let mut ended = self::hook(hook, &event.arguments(), stdin, options, keep_stdout);
        if options.monitor {
            ended.mode = Mode::Monitor;
        }
        let document = filter.and_then(|format| take_document(format, &mut ended));
        if let Some(document) = document.filter(|_| ended.mode == Mode::Enforce) {
            report.document = Some(document);
        }
        ended.sha256 = sha256;
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
    let environment = hook.settings.environment(Trust::of_this_process());
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
    };
    let outcome = match (&hook.loaded, &environment) {
        (Loaded::Ready(program), Ok(_)) => program.run(&call),
        (Loaded::Broken(why), _) | (Loaded::Ready(_), Err(why)) => Err(why.clone()),
        (Loaded::Skipped(why), _) => Err(LaunchError::Refused(why.clone())),
    };
    let duration = call.deadline.elapsed();
    let of_call = options.within.map(|(_, time)| time).filter(|_| timeout < limit);
    let report = |termination| HookReport { duration, ..silent(hook, termination) };
    match outcome {
        Err(why) => HookReport { notes: hook.notes.clone(), ..report(Termination::NotLaunched(why)) },
        Ok(Completion { termination, stdout, stderr, stdout_held, notes }) => HookReport {
            stdout_held,
            stderr: stderr.shown(),
            stderr_dropped: stderr.dropped,
            stdout: stdout.bytes.into(),
            stdout_dropped: stdout.dropped,
            notes: hook.notes.iter().cloned().chain(waited.map(waited_note)).chain(notes).collect(),
            ..report(match (termination, of_call) {
                (Termination::TimedOut { .. }, Some(after)) => Termination::TimedOut { after, of_call: true },
                (termination, _) => termination,
            })
        },
    }
}

/// The report of a hook that was not called.
fn not_run(hook: &Hook, termination: Termination) -> HookReport {
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
