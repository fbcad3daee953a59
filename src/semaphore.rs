//! Bounds how many calls run at once. Waiting calls are served in order of arrival.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use crate::limits::{Deadline, Expired};
use crate::thread_waker::ThreadWaker;

/// A fair semaphore. A returned permit goes to the call that has waited longest, and a new call queues behind the
/// others.
#[derive(Debug)]
pub(crate) struct Semaphore(Mutex<Permits>);

#[derive(Debug)]
struct Permits {
    /// Nonzero only while no call waits.
    free: usize,
    /// The waiting calls. A call that another call has removed from here has a permit.
    queue: VecDeque<Arc<ThreadWaker>>,
}

/// The right to run. Returned on drop.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a Semaphore);

impl Semaphore {
    pub(crate) const fn new(number: usize) -> Self {
        Self(Mutex::new(Permits { free: number, queue: VecDeque::new() }))
    }

    /// Takes a permit. Waits for one until the deadline.
    pub(crate) fn take(&self, deadline: &Deadline) -> Result<Permit<'_>, Expired> {
        let waker = {
            let mut permits = self.permits();
            if let Some(left) = permits.free.checked_sub(1) {
                permits.free = left;
                return Ok(Permit(self));
            }
            let waker = Arc::<ThreadWaker>::default();
            permits.queue.push_back(Arc::clone(&waker));
            waker
        };
        let _wakes = deadline.wakes(|| Arc::clone(&waker).into());
        loop {
            let left = deadline.check();
            let mut permits = self.permits();
            let Some(at) = permits.queue.iter().position(|waiting| Arc::ptr_eq(waiting, &waker)) else {
                return Ok(Permit(self));
            };
            match left {
                Err(expired) => {
                    permits.queue.remove(at);
                    return Err(expired);
                }
                Ok(left) => {
                    drop(permits);
                    waker.wait(left.wake_in);
                }
            }
        }
    }

    fn permits(&self) -> MutexGuard<'_, Permits> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut permits = self.0.permits();
        match permits.queue.pop_front() {
            Some(next) => next.wake(),
            None => permits.free += 1,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::cancel::Cancel;

    fn deadline(timeout: Duration, cancels: Vec<Cancel>) -> Deadline {
        Deadline::start(timeout, Duration::MAX, cancels)
    }

    /// Waits until this many calls are queued. They are all on their way, so this ends.
    fn until_queued(semaphore: &Semaphore, number: usize) {
        while semaphore.permits().queue.len() < number {
            thread::yield_now();
        }
    }

    #[test]
    fn waiting_calls_are_served_in_order_of_arrival() {
        let semaphore = Semaphore::new(1);
        let held = semaphore.take(&deadline(Duration::MAX, vec![])).unwrap();
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..20 {
                let (semaphore, send) = (&semaphore, send.clone());
                scope.spawn(move || {
                    let _permit = semaphore.take(&deadline(Duration::MAX, vec![])).unwrap();
                    send.send(number).unwrap();
                });
                until_queued(semaphore, number + 1);
            }
            drop(held);
        });
        drop(send);
        assert_eq!(receive.iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        assert_eq!(semaphore.permits().free, 1);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_its_cancellation_and_loses_no_permit() {
        let semaphore = Semaphore::new(1);
        let held = semaphore.take(&deadline(Duration::MAX, vec![])).unwrap();
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| semaphore.take(&deadline(Duration::MAX, vec![cancel.clone()])).map(drop));
            until_queued(&semaphore, 1);
            let late = semaphore.take(&deadline(Duration::ZERO, vec![])).map(drop);
            assert_eq!(late, Err(Expired::TimedOut { after: Duration::ZERO }));
            cancel.cancel();
            assert_eq!(cancelled.join().unwrap(), Err(Expired::Cancelled));
        });
        drop(held);
        assert!(semaphore.take(&deadline(Duration::ZERO, vec![])).is_ok());
    }
}
