//! The handle of a guest that was allowed to start.

use std::fmt;

use super::Runtime;
use crate::event::Event;
use crate::report::Report;

/// A guest that was allowed to start, and whose hooks are still to be told of its end.
///
/// [`Runtime::admit`] gives it, and [`stopped`](Self::stopped) takes it, so that each allowed start has its one shutdown.
/// Kept with the guest, it also covers what goes wrong in between: one that is dropped, as by `?` after the guest could not
/// be made after all, tells the hooks then. That blocks, as every call does; from async code, do not let it come to that.
///
/// ```no_run
/// # fn boot() -> std::io::Result<()> { Ok(()) }
/// use hookvisor::{Event, Runtime};
///
/// let runtime = Runtime::open("/etc/mydaemon/hooks")?;
/// let guest = runtime.admit(&Event::new("mydaemon", "web1", "start")?)?; // Err(Veto): do not start it
/// boot()?; // on an error, the hooks are told that it is over
/// // … the guest runs, and stops …
/// let report = guest.stopped();
/// # drop(report);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "dropped, it tells the hooks at once that the guest has stopped"]
pub struct Guest {
    runtime: Runtime,
    event: Event,
    report: Option<Report>,
    /// Whether the hooks are still to be told.
    owes: bool,
}

impl Guest {
    pub(super) fn new(runtime: Runtime, event: Event, report: Option<Report>) -> Self {
        Self { runtime, event, report, owes: true }
    }

    /// The event that it was allowed with.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// What the hooks said to its start; `None` for one that was [adopted](Runtime::adopt).
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Tells the hooks that it has stopped, with the document that it started with: the operation `stopped`, or the one that
    /// the driver's convention [ends a guest with](crate::Convention::ended_by).
    pub fn stopped(mut self) -> Report {
        self.tell()
    }

    /// Tells the hooks of its end by an event of your own: another operation, extra or document.
    pub fn stopped_with(mut self, event: &Event) -> Report {
        self.owes = false;
        self.runtime.shutdown(event)
    }

    /// Tells the hooks of its end, without blocking the async task's thread.
    ///
    /// Dropped before it is done, it goes on by itself.
    #[cfg(feature = "async")]
    pub async fn stopped_async(mut self) -> Report {
        self.owes = false;
        self.runtime.call(&self.end()).shutdown_async().await
    }

    /// Takes the duty to tell the hooks: for a guest that outlives this process. [`Runtime::adopt`] gives it back.
    pub fn detach(mut self) -> Event {
        self.owes = false;
        self.event.clone()
    }

    fn end(&self) -> Event {
        self.event.with_operation(&self.runtime.0.conventions.of(self.event.driver()).ended_by)
    }

    fn tell(&mut self) -> Report {
        self.owes = false;
        self.runtime.shutdown(&self.end())
    }
}

impl Runtime {
    /// The handle of a guest that is running already, for a daemon that has been started anew: its end is to be told, too.
    pub fn adopt(&self, event: Event) -> Guest {
        Guest::new(self.clone(), event, None)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.owes {
            let (driver, object) = (self.event.driver(), self.event.object());
            tracing::info!("guest {object} of {driver} is given up; its hooks are told that it has stopped");
            // What fails is in the log.
            drop(self.tell());
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("event", &self.event).field("owes", &self.owes).finish_non_exhaustive()
    }
}
