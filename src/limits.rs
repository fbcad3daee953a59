//! Resource limits, and the deadline that all back-ends use.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cancel::{Cancel, Source, Subscription};

/// Limits for one call of a hook. Start from [`Limits::default`] and change fields:
///
/// ```
/// use std::time::Duration;
///
/// let mut limits = hookvisor::Limits::default();
/// limits.timeout = Duration::from_secs(5);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Timeout of a hook. It starts before stdin is written. Default: 90 s.
    pub timeout: Duration,
    /// Grace period of a native hook after a timeout: the time between SIGTERM and SIGKILL. Default: 5 s.
    pub grace: Duration,
    /// A hook that runs longer than this is logged once as slow. Default: 10 s.
    pub slow: Duration,
    /// How long to wait, after a native hook has exited, for background processes that keep its stdout or stderr open.
    /// Default: 100 ms.
    pub leak_wait: Duration,
    /// Bytes of stdout that are kept. A filter hook that writes more fails. Default: 8 MiB.
    pub stdout: usize,
    /// Bytes of stderr that are kept: the first half and the last half. Default: 64 KiB.
    pub stderr: usize,
    /// Bytes of linear memory for a wasm hook, over all its memories. Default: 64 MiB.
    pub memory: usize,
    /// Elements in each table of a wasm hook. Default: 100,000.
    pub table_elements: usize,
    /// Bytes of stack for a wasm hook. Default: 512 KiB.
    pub stack: usize,
    /// Size of a wasm hook's file, in bytes. Default: 64 MiB.
    pub module_size: u64,
    /// Time for compiling a wasm hook when it is loaded. Default: 2 min.
    pub compile_time: Duration,
    /// Bytes of memory for compiling a wasm hook. Default: 2 GiB.
    pub compile_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(90),
            grace: Duration::from_secs(5),
            slow: Duration::from_secs(10),
            leak_wait: Duration::from_millis(100),
            stdout: 8 << 20,
            stderr: 64 << 10,
            memory: 64 << 20,
            table_elements: 100_000,
            stack: 512 << 10,
            module_size: 64 << 20,
            compile_time: Duration::from_secs(120),
            compile_memory: 2 << 30,
        }
    }
}

/// When a call has to end: at its timeout, or earlier if it is cancelled. The clock starts in [`Deadline::start`].
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    started: Instant,
    slow: Duration,
    timeout: Duration,
    passed_slow: Arc<AtomicBool>,
    cancels: Vec<Cancel>,
}

/// Result of a check before the deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeLeft {
    /// When to check next.
    pub(crate) wake_in: Duration,
    /// Whether the call has just become slow. True only once.
    pub(crate) is_newly_slow: bool,
}

/// Why a call ends before its hook has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Expired {
    #[error("timed out")]
    TimedOut { after: Duration },
    #[error("the call was cancelled")]
    Cancelled,
}

impl Deadline {
    pub(crate) fn start(timeout: Duration, slow: Duration, cancels: Vec<Cancel>) -> Self {
        Self { started: Instant::now(), slow, timeout, passed_slow: Arc::default(), cancels }
    }

    pub(crate) fn check(&self) -> Result<TimeLeft, Expired> {
        if self.cancels.iter().any(Cancel::is_cancelled) {
            return Err(Expired::Cancelled);
        }
        let elapsed = self.elapsed();
        if elapsed >= self.timeout {
            return Err(Expired::TimedOut { after: self.timeout });
        }
        let is_newly_slow = elapsed >= self.slow && !self.passed_slow.swap(true, Ordering::Relaxed);
        let next = if elapsed < self.slow { self.slow.min(self.timeout) } else { self.timeout };
        Ok(TimeLeft { wake_in: next.saturating_sub(elapsed), is_newly_slow })
    }

    /// Whether the hook is to be killed without a grace period.
    pub(crate) fn is_killed(&self) -> bool {
        self.cancels.iter().any(Cancel::is_killed)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The time after which the call counts as slow.
    pub(crate) fn slow(&self) -> Duration {
        self.slow
    }

    /// Descriptors that become readable when the call is cancelled.
    pub(crate) fn cancel_events(&self) -> Result<Vec<BorrowedFd<'_>>, Errno> {
        self.cancels.iter().map(Cancel::event).collect()
    }

    /// The sources to watch while the call runs, each with its descriptor.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&Cancel, &Arc<Source>)> {
        self.cancels.iter().filter_map(|cancel| cancel.source().map(|source| (cancel, source)))
    }

    /// Wakes the waker on cancellation, until the guards are dropped.
    pub(crate) fn wakes(&self, waker: impl Fn() -> Waker) -> Vec<Subscription<'_>> {
        self.cancels.iter().map(|cancel| cancel.wakes(waker())).collect()
    }

    /// When a check's result changes. `None` where the clock would overflow.
    #[cfg(feature = "wasm")]
    pub(crate) fn marks(&self) -> [Option<Instant>; 2] {
        [self.slow.min(self.timeout), self.timeout].map(|after| self.started.checked_add(after))
    }
}
