//! Wakes a waiting thread.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Wake;
use std::time::Duration;

/// The longest single wait. The caller checks its deadline and waits again.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// One thread waits, and any thread can wake it. A wake before the wait is not lost.
#[derive(Debug, Default)]
pub(crate) struct ThreadWaker {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl ThreadWaker {
    /// Waits until woken, or for about this long.
    pub(crate) fn wait(&self, at_most: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, at_most.min(LONGEST_WAIT), |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
