//! Logs and spans ([`tracing`]) and, with the feature `metrics`, counts and durations. The crate documentation lists them.
//!
//! Names follow OpenTelemetry's conventions: a span's name has few values, attributes have a namespace, and `error.type` is there
//! only if something failed.

use std::path::Path;

use tracing::Span;
use tracing::field::Empty;

use crate::event::Event;
use crate::hook::kind::Kind;
use crate::limits::Deadline;
use crate::report::termination::Termination;
use crate::report::{Decision, HookReport, Report};
use crate::stage::Stage;

/// The span of one call. [`decided`] adds its result.
pub(crate) fn event_span(event: &Event, stage: Stage) -> Span {
    tracing::info_span!(
        target: "hookvisor::event", "event",
        otel.name = %format_args!("{} {}", event.driver(), event.operation()),
        hookvisor.driver = event.driver(),
        hookvisor.object = event.object(),
        hookvisor.operation = event.operation(),
        hookvisor.sub_operation = event.sub_operation(),
        hookvisor.stage = %stage,
        hookvisor.decision = Empty,
        hookvisor.status = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

/// The span of one hook. [`finished`] adds how it ended.
pub(crate) fn hook_span(path: &Path, kind: Kind) -> Span {
    let name = path.file_name().unwrap_or_default();
    tracing::info_span!(
        target: "hookvisor::hook", "hook",
        otel.name = %name.display(),
        process.executable.name = %name.display(),
        process.executable.path = %path.display(),
        hookvisor.kind = kind.name(),
        hookvisor.termination = Empty,
        hookvisor.status = Empty,
        process.exit.code = Empty,
        "error.type" = Empty,
        otel.status_code = Empty,
    )
}

fn failed(span: &Span, why: &str) {
    span.record("error.type", why).record("otel.status_code", "ERROR");
}

/// Counts a hook as running until this is dropped.
#[must_use]
pub(crate) struct InFlight;

pub(crate) fn started(hook: &Path) -> InFlight {
    tracing::debug!(target: "hookvisor::started", "hook {} is called", hook.display());
    #[cfg(feature = "metrics")]
    numbers::in_flight().increment(1);
    InFlight
}

impl Drop for InFlight {
    fn drop(&mut self) {
        #[cfg(feature = "metrics")]
        numbers::in_flight().decrement(1);
    }
}

/// Logs a hook that is still running after [`Limits::slow`](crate::Limits::slow).
pub(crate) fn slow(hook: &Path, deadline: &Deadline) {
    let [after, limit] = [deadline.slow(), deadline.timeout()].map(humantime::format_duration);
    let hook = hook.display();
    tracing::warn!(target: "hookvisor::slow", "hook {hook} is still running after {after} (its limit is {limit})");
}

/// Logs one line per call.
pub(crate) fn finished(span: &Span, event: &Event, ended: &HookReport) {
    #[cfg(feature = "metrics")]
    numbers::finished(event, ended);
    let (driver, object, operation) = (event.driver(), event.object(), event.operation());
    let (hook, status) = (ended.path.display(), ended.termination.exit_status());
    let duration_us = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX);
    if ended.termination.is_success() {
        tracing::info!(
            target: "hookvisor::call",
            {
                hookvisor.driver = driver, hookvisor.object = object, hookvisor.operation = operation,
                hookvisor.hook = %hook, hookvisor.status = status, hookvisor.duration_us = duration_us
            },
            "{}", ended.message(driver)
        );
    } else if !ended.decides {
        tracing::error!(
            target: "hookvisor::call",
            {
                hookvisor.driver = driver, hookvisor.object = object, hookvisor.operation = operation,
                hookvisor.hook = %hook, hookvisor.status = status, hookvisor.duration_us = duration_us
            },
            "{} (the guest is already running, so this does not veto)",
            ended.message(driver)
        );
    } else {
        // Build the entry only if it is logged.
        tracing::warn!(
            target: "hookvisor::call",
            {
                hookvisor.driver = driver, hookvisor.object = object, hookvisor.operation = operation,
                hookvisor.hook = %hook, hookvisor.status = status, hookvisor.duration_us = duration_us
            },
            "{}", ended.message(driver)
        );
    }
    span.record("hookvisor.termination", ended.termination.name()).record("hookvisor.status", status);
    if let Termination::Exited(code) = ended.termination {
        span.record("process.exit.code", code);
    }
    if !ended.termination.is_success() {
        failed(span, ended.termination.name());
    }
}

pub(crate) fn decided(span: &Span, report: &Report) {
    let status = report.exit_status();
    if report.decision == Decision::Vetoed {
        #[cfg(feature = "metrics")]
        numbers::vetoed(&report.event);
        let (driver, object, operation) = (report.event.driver(), report.event.object(), report.event.operation());
        tracing::info!(
            target: "hookvisor::vetoed",
            {
                hookvisor.driver = driver, hookvisor.object = object, hookvisor.operation = operation,
                hookvisor.status = status
            },
            "{driver} {object}: {operation} is vetoed"
        );
    }
    span.record("hookvisor.decision", report.decision.name()).record("hookvisor.status", status);
    match report.decision {
        Decision::Vetoed => failed(span, "vetoed"),
        _ if report.failures().next().is_some() => failed(span, "hook-failed"),
        _ => {}
    }
}

pub(crate) fn reloaded(succeeded: bool) {
    #[cfg(feature = "metrics")]
    numbers::reloaded(succeeded);
    #[cfg(not(feature = "metrics"))]
    let _ = succeeded;
}

/// [`crate::metrics`] has their names and labels.
#[cfg(feature = "metrics")]
mod numbers {
    use metrics::{Counter, Gauge, Label, SharedString, counter, gauge, histogram};

    use crate::event::Event;
    use crate::metrics::{CALLS, DURATION, IN_FLIGHT, RELOADS, VETOES};
    use crate::report::HookReport;

    pub(super) fn in_flight() -> Gauge {
        gauge!(IN_FLIGHT)
    }

    pub(super) fn finished(event: &Event, ended: &HookReport) {
        let (kind, termination) = (ended.kind.name(), ended.termination.name());
        let mut labels = of(event);
        labels.push(Label::from_static_parts("kind", kind));
        histogram!(DURATION, labels.clone()).record(ended.duration.as_secs_f64());
        labels.push(Label::from_static_parts("termination", termination));
        counter!(CALLS, labels).increment(1);
    }

    pub(super) fn vetoed(event: &Event) {
        counter!(VETOES, of(event)).increment(1);
    }

    pub(super) fn reloaded(succeeded: bool) {
        let reloads: Counter = counter!(RELOADS, "result" => if succeeded { "ok" } else { "failed" });
        reloads.increment(1);
    }

    fn of(event: &Event) -> Vec<Label> {
        let label = |name, value: &str| Label::new(name, SharedString::from_owned(value.to_owned()));
        vec![label("driver", event.driver()), label("operation", event.operation())]
    }
}
