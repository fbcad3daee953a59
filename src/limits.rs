//! What a hook may use, and the one clock that every back-end goes by.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::cancel::{Cancel, Subscription};

/// What one call of a hook may use, native or wasm. Made with [`Limits::default`] and changed field by field:
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
    /// How long a hook may take, from before the first byte of its stdin is written. 90 s.
    pub timeout: Duration,
    /// How long a native hook has between SIGTERM and SIGKILL once its time is up. 5 s.
    pub grace: Duration,
    /// After how long a hook that is still running is mentioned, once, in the log. 10 s.
    pub slow: Duration,
    /// How long a native hook's background processes may still hold its stdout or stderr, after it has exited, before
    /// the caller goes on without them. 100 ms.
    pub leak_wait: Duration,
    /// How many bytes of stdout are kept. A filter operation's hook that writes more has failed. 8 MiB.
    pub stdout: usize,
    /// How many bytes of stderr are kept, half of them from its beginning and half from its end. 64 KiB.
    pub stderr: usize,
    /// How many bytes of linear memory a wasm hook may have, over all its memories. 64 MiB.
    pub memory: usize,
    /// How many elements a wasm hook's tables may have, each. 100,000.
    pub table_elements: usize,
    /// How many bytes a wasm hook's stack may have. 512 KiB.
    pub stack: usize,
    /// How many bytes a wasm hook's file may have. 64 MiB.
    pub module_size: u64,
    /// How long compiling a wasm hook may take, when it is loaded. 2 min.
    pub compile_time: Duration,
    /// How many bytes of memory compiling a wasm hook may take. 2 GiB.
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

/// When a call has to end: at its time limit, which runs from the moment that this is made, or earlier if it is cancelled.
#[derive(Debug, Clone)]
pub(crate) struct Deadline {
    started: Instant,
    slow: Duration,
    timeout: Duration,
    passed_slow: Arc<AtomicBool>,
    cancels: Vec<Cancel>,
}

/// What a check of a deadline finds while there is time left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeLeft {
    /// How long until the next check can find something new.
    pub(crate) wake_in: Duration,
    /// Whether the call has become slow: true for one check alone.
    pub(crate) is_newly_slow: bool,
}

/// Why a call has to end before its hook does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Expired {
    #[error("the time is up")]
    TimedOut { after: Duration },
    #[error("the host has cancelled the call")]
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

    /// Whether the host wants the call's hook killed, without grace.
    pub(crate) fn is_killed(&self) -> bool {
        self.cancels.iter().any(Cancel::is_killed)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// After how long the call counts as slow.
    pub(crate) fn slow(&self) -> Duration {
        self.slow
    }

    /// Descriptors that become readable when the call is cancelled.
    pub(crate) fn cancel_events(&self) -> Result<Vec<BorrowedFd<'_>>, Errno> {
        self.cancels.iter().map(Cancel::event).collect()
    }

    /// Has the waker called when the call is cancelled, until the guards are dropped.
    pub(crate) fn wakes(&self, waker: impl Fn() -> Waker) -> Vec<Subscription<'_>> {
        self.cancels.iter().map(|cancel| cancel.wakes(waker())).collect()
    }

    /// The moments at which a check has something new to say; `None` for one further away than the clock can count.
    #[cfg(feature = "wasm")]
    pub(crate) fn marks(&self) -> [Option<Instant>; 2] {
        [self.slow.min(self.timeout), self.timeout].map(|after| self.started.checked_add(after))
    }
}
