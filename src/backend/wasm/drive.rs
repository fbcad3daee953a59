//! Running a guest's future to its end on the caller's thread, wherever that is, or to its deadline.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::limits::{Clock, Deadline, Over};
use crate::signal::Signal;

/// Polls on this thread. A future that is never pending, as is the rule, so costs no more than a call; one that sleeps
/// is waited for here, up to the deadline, and then dropped.
///
/// This is not tokio's `block_on`, which panics inside a task of the caller's own runtime; nor may the caller's runtime
/// get the guest's timers, since the thread that would have to drive it may be this one.
pub(super) fn to_end<F: Future>(future: F, reactor: &Handle, deadline: &Deadline) -> Result<F::Output, Over> {
    thread_local! {
        static SIGNAL: Arc<Signal> = Arc::default();
    }
    let signal = SIGNAL.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&signal));
    let _wakes = deadline.wakes(|| waker.clone());
    let mut context = Context::from_waker(&waker);
    let _in_reactor = reactor.enter();
    // The budget that tokio gives a task of the caller's is not for what runs nested in it.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        match deadline.look() {
            Clock::Over(over) => return Err(over),
            Clock::Running { wake_in } => signal.wait(wake_in),
        }
    }
}
