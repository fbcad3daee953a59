//! Running a guest's future to its end on the caller's thread, wherever that is, or to its deadline.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::limits::{Clock, Deadline};

/// The time was up before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the time is up")]
pub(super) struct TimeUp;

/// The longest that is waited at once; a limit further away is waited for again.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Polls on this thread. A future that is never pending, as is the rule, so costs no more than a call; one that sleeps
/// is waited for here, up to the deadline, and then dropped.
///
/// This is not tokio's `block_on`, which panics inside a task of the caller's own runtime; nor may the caller's runtime
/// get the guest's timers, since the thread that would have to drive it may be this one.
pub(super) fn to_end<F: Future>(future: F, reactor: &Handle, deadline: &Deadline) -> Result<F::Output, TimeUp> {
    thread_local! {
        static SIGNAL: Arc<Signal> = Arc::default();
    }
    let signal = SIGNAL.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let _in_reactor = reactor.enter();
    // The budget that tokio gives a task of the caller's is not for what runs nested in it.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        match deadline.look() {
            Clock::Expired => return Err(TimeUp),
            Clock::Running { wake_in } => signal.wait(wake_in.min(LONGEST_WAIT)),
        }
    }
}

/// What a waiting thread is woken by.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self, at_most: Duration) {
        let woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(woken, at_most, |woken| !*woken);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }
}
