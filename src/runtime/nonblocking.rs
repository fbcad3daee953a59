//! Async calls. They run on tokio's blocking threads and never block a worker.

use tracing::{Span, dispatcher};

use super::Runtime;
use super::call::Invocation;
use super::guest::Guest;
use crate::cancel::Cancel;
use crate::event::Event;
use crate::report::Report;
use crate::report::verdict::{Verdict, Veto};
use crate::stage::Stage;

/// # For async code
/// These methods panic outside a tokio runtime. The hooks run on its blocking threads
/// ([`spawn_blocking`](tokio::task::spawn_blocking)), 512 by default. A call waits if none is free.
impl Invocation {
    /// Like [`start`](Self::start), without blocking the task's thread. If the future is dropped early, its hooks are
    /// cancelled.
    pub async fn start_async(self) -> Verdict {
        let abandoned = Abandoned(Cancel::new());
        let call = self.cancel(&abandoned.0);
        Verdict::of(call.on_another_thread(Stage::Start).await)
    }

    /// Like [`admit`](Self::admit), without blocking; see [`start_async`](Self::start_async).
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub async fn admit_async(self) -> Result<Guest, Veto> {
        let runtime = self.runtime.clone();
        let report = self.start_async().await.into_result()?;
        Ok(Guest::new(runtime, report.event.clone(), Some(report)))
    }

    /// Like [`shutdown`](Self::shutdown), without blocking the task's thread. If the future is dropped early, the hooks still
    /// run to their end.
    pub async fn shutdown_async(self) -> Report {
        self.on_another_thread(Stage::Shutdown).await
    }

    async fn on_another_thread(self, stage: Stage) -> Report {
        let call = self.clone();
        // The call keeps the task's span and subscriber.
        let (span, log) = (Span::current(), dispatcher::get_default(Clone::clone));
        let run = move || dispatcher::with_default(&log, || span.in_scope(|| self.run_as(stage)));
        match tokio::task::spawn_blocking(run).await {
            Ok(report) => report,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => call.refused(stage, "its tokio runtime is shutting down"),
            },
        }
    }
}

/// # For async code
/// See [`Invocation`].
impl Runtime {
    /// Like [`start`](Self::start), without blocking the task's thread.
    ///
    /// ```no_run
    /// # async fn start(runtime: &hookvisor::Runtime) -> Result<(), Box<dyn std::error::Error>> {
    /// let event = hookvisor::Event::new("mydaemon", "web1", "start")?;
    /// runtime.start_async(&event).await.into_result()?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_async(&self, event: &Event) -> Verdict {
        self.call(event).start_async().await
    }

    /// Like [`admit`](Self::admit), without blocking the task's thread.
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub async fn admit_async(&self, event: &Event) -> Result<Guest, Veto> {
        self.call(event).admit_async().await
    }

    /// Like [`shutdown`](Self::shutdown), without blocking the task's thread.
    pub async fn shutdown_async(&self, event: &Event) -> Report {
        self.call(event).shutdown_async().await
    }
}

/// Cancels on drop: when the future is dropped, or after its end, when it has no effect.
struct Abandoned(Cancel);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
