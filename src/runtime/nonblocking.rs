//! The calls for async code. They run on tokio's threads for blocking work, and never hold up a worker.

use super::Runtime;
use super::call::Invocation;
use super::guest::Guest;
use crate::cancel::Cancel;
use crate::event::Event;
use crate::report::Report;
use crate::report::verdict::{Verdict, Veto};
use crate::stage::Stage;

/// # For async code
/// These need a tokio runtime, and panic without one. The hooks run on its threads for blocking work
/// ([`spawn_blocking`](tokio::task::spawn_blocking)), of which it has 512 by default; a call that finds none free waits.
impl Invocation {
    /// As [`start`](Self::start), without blocking the task's thread. Dropped before it is done, it ends its hooks: nobody
    /// waits for their verdict any more.
    pub async fn start_async(self) -> Verdict {
        let abandoned = Abandoned(Cancel::new());
        let call = self.cancel(&abandoned.0);
        Verdict::of(call.on_another_thread(Stage::Start).await)
    }

    /// As [`admit`](Self::admit), and as [`start_async`](Self::start_async).
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub async fn admit_async(self) -> Result<Guest, Veto> {
        let runtime = self.runtime.clone();
        let report = self.start_async().await.into_result()?;
        Ok(Guest::new(runtime, report.event.clone(), Some(report)))
    }

    /// As [`shutdown`](Self::shutdown), without blocking the task's thread. Dropped before it is done, it goes on by itself:
    /// what has happened is told to every hook.
    pub async fn shutdown_async(self) -> Report {
        self.on_another_thread(Stage::Shutdown).await
    }

    async fn on_another_thread(self, stage: Stage) -> Report {
        let call = self.clone();
        match tokio::task::spawn_blocking(move || self.run_as(stage)).await {
            Ok(report) => report,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => call.refused(stage, "its tokio runtime is shutting down"),
            },
        }
    }
}

/// # For async code
/// See [`Invocation`]'s.
impl Runtime {
    /// As [`start`](Self::start), without blocking the task's thread.
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

    /// As [`admit`](Self::admit), without blocking the task's thread.
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub async fn admit_async(&self, event: &Event) -> Result<Guest, Veto> {
        self.call(event).admit_async().await
    }

    /// As [`shutdown`](Self::shutdown), without blocking the task's thread.
    pub async fn shutdown_async(&self, event: &Event) -> Report {
        self.call(event).shutdown_async().await
    }
}

/// Cancels when it is dropped: with the future, or after its end, when there is nothing left to cancel.
struct Abandoned(Cancel);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
