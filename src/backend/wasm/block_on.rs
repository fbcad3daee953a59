//! Runs a guest's future on the caller's thread, until it ends or its deadline passes.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::backend::Call;
use crate::limits::Expired;
use crate::thread_waker::ThreadWaker;

/// Polls on this thread. Most futures are never pending and cost no more than a call. One that sleeps is waited for, and
/// dropped at the deadline.
///
/// tokio's `block_on` would panic inside a task of the caller's own runtime. Nor may the caller's runtime have the guest's
/// timers, since this may be the thread that drives it.
pub(super) fn block_on<F: Future>(future: F, reactor: &Handle, call: &Call<'_>) -> Result<F::Output, Expired> {
    thread_local! {
        static SIGNAL: Arc<ThreadWaker> = Arc::default();
    }
    let signal = SIGNAL.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&signal));
    let _wakes = call.deadline.wakes(|| waker.clone());
    let mut context = Context::from_waker(&waker);
    let _in_reactor = reactor.enter();
    // The guest does not count against the budget of a tokio task that may surround it.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        signal.wait(call.check_deadline()?);
    }
}
