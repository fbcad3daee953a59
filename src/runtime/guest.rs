//! The handle of a guest whose start was allowed.

use std::fmt;

use super::Runtime;
use crate::event::Event;
use crate::report::Report;

/// The handle of a guest whose start was allowed. It makes sure that the shutdown hooks run once.
///
/// [`Runtime::admit`] returns it, and [`stopped`](Self::stopped) consumes it. Dropping it runs the shutdown hooks too, for
/// example when `?` returns early because the guest could not be created. The drop blocks until the hooks have ended: in async
/// code, use `stopped_async` instead.
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
#[must_use = "dropping it runs the shutdown hooks at once"]
pub struct Guest {
    runtime: Runtime,
    event: Event,
    report: Option<Report>,
    /// Whether the shutdown hooks still have to run.
    owes: bool,
}

impl Guest {
    pub(super) fn new(runtime: Runtime, event: Event, report: Option<Report>) -> Self {
        Self { runtime, event, report, owes: true }
    }

    /// The event of the allowed start.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The report of its start; `None` for an [adopted](Runtime::adopt) guest.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }

    /// Runs the shutdown hooks, with the document of the start. The operation is `stopped`, or the one set by the driver's
    /// convention ([`ended_by`](crate::Convention::ended_by)).
    pub fn stopped(mut self) -> Report {
        self.tell()
    }

    /// Runs the shutdown hooks with your own event: another operation, extra argument or document.
    pub fn stopped_with(mut self, event: &Event) -> Report {
        self.owes = false;
        self.runtime.shutdown(event)
    }

    /// Like [`stopped`](Self::stopped), without blocking the async task's thread.
    ///
    /// If the future is dropped early, the hooks still run to their end.
    #[cfg(feature = "async")]
    pub async fn stopped_async(mut self) -> Report {
        self.owes = false;
        self.runtime.call(&self.end()).shutdown_async().await
    }

    /// Releases the handle without running the shutdown hooks, for a guest that outlives this process. [`Runtime::adopt`] makes
    /// a new handle from the event.
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
    /// Creates the handle of a guest that is already running, for a daemon that was restarted. No hook is called now; the
    /// shutdown hooks run when the guest stops.
    pub fn adopt(&self, event: Event) -> Guest {
        Guest::new(self.clone(), event, None)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if self.owes {
            let (driver, object) = (self.event.driver(), self.event.object());
            tracing::info!("guest {object} of driver {driver} was dropped: running its shutdown hooks");
            // Failures are logged.
            drop(self.tell());
        }
    }
}

impl fmt::Debug for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("event", &self.event).field("owes", &self.owes).finish_non_exhaustive()
    }
}
