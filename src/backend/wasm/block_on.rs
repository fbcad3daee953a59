//! Runs a guest's future on the caller's thread, until it ends or its deadline passes.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;

use crate::backend::Call;
use crate::limits::Expired;
use crate::thread_waker::ThreadWaker;

/// Polls on this thread. Most futures are ready at once and cost no more than a function call. A pending one is dropped
/// at the deadline.
///
/// tokio's `block_on` panics inside a task of the caller's runtime. The guest's timers must not belong to that runtime
/// either, since this thread may be the one that drives it.
pub(super) fn block_on<F: Future>(future: F, reactor: &Handle, call: &Call<'_>) -> Result<F::Output, Expired> {
    thread_local! {
        static SIGNAL: Arc<ThreadWaker> = Arc::default();
    }
    let signal = SIGNAL.with(Arc::clone);
    let waker = Waker::from(Arc::clone(&signal));
    let _wakes = call.deadline.wakes(|| waker.clone());
    let mut context = Context::from_waker(&waker);
    let _in_reactor = reactor.enter();
    // The guest must not use up the budget of a surrounding tokio task.
    let mut future = pin!(tokio::task::unconstrained(future));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Ok(output);
        }
        signal.wait(call.check_deadline()?);
    }
}
