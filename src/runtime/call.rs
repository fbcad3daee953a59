//! Calls for one event, in a process that uses the library.

use std::time::{Duration, Instant, SystemTime};

use super::Runtime;
use super::decide::{self, CallOptions};
use super::guest::Guest;
use crate::cancel::Cancel;
use crate::event::Event;
use crate::limits::Limits;
use crate::observe;
use crate::report::Report;
use crate::report::verdict::{Verdict, Veto};
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

    /// The call for the end of this event's guest.
    #[cfg(feature = "capi")]
    pub(crate) fn of_the_end(mut self) -> Self {
        let convention = self.runtime.0.conventions.of(self.event.driver());
        self.event = self.event.with_operation(&convention.ended_by).under(convention);
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
        let report =
            decide::run(&self.event, stage, &hooks, shared.conventions.of(self.event.driver()), refusal, &options);
        observe::decided(&span, &report);
        if let Some(record) = &shared.record {
            record.event(&report, began);
        }
        report
    }

    /// The report of a call for which no hook can be called.
    #[cfg(feature = "async")]
    pub(super) fn refused(&self, stage: Stage, why: &str) -> Report {
        use super::hooks::Loaded;
        use crate::hook::error::LaunchError;
        use crate::report::termination::Termination;

        let began = SystemTime::now();
        let mut report = Report::new(&self.event, stage);
        for hook in self.runtime.0.hooks().of_event(&self.event) {
            if matches!(hook.loaded, Loaded::Skipped(_)) {
                continue;
            }
            let why = LaunchError::Host { what: "the host could not call it", why: why.to_owned() };
            report.add(decide::not_run(hook, Termination::NotLaunched(why)));
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
