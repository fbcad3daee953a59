//! A bound on how many calls are under way, fair to those that wait: first come, first served.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use crate::limits::{Clock, Deadline, Over};
use crate::signal::Signal;

/// So many places. Nobody overtakes: while somebody waits, a place that is given back passes to the one who has waited
/// longest, and a newcomer waits behind.
#[derive(Debug)]
pub(crate) struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    /// More than none only while nobody waits.
    free: usize,
    /// Whoever is taken out of here by another has been given a place.
    queue: VecDeque<Arc<Signal>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Places);

impl Places {
    pub(crate) const fn new(number: usize) -> Self {
        Self(Mutex::new(State { free: number, queue: VecDeque::new() }))
    }

    /// Takes a place, waiting for one as long as the deadline lets it.
    pub(crate) fn take(&self, deadline: &Deadline) -> Result<Place<'_>, Over> {
        let signal = {
            let mut state = self.state();
            if let Some(left) = state.free.checked_sub(1) {
                state.free = left;
                return Ok(Place(self));
            }
            let signal = Arc::<Signal>::default();
            state.queue.push_back(Arc::clone(&signal));
            signal
        };
        let _wakes = deadline.wakes(|| Arc::clone(&signal).into());
        loop {
            let clock = deadline.look();
            let mut state = self.state();
            let Some(at) = state.queue.iter().position(|waiting| Arc::ptr_eq(waiting, &signal)) else {
                return Ok(Place(self));
            };
            match clock {
                Clock::Over(over) => {
                    state.queue.remove(at);
                    return Err(over);
                }
                Clock::Running { wake_in } => {
                    drop(state);
                    signal.wait(wake_in);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        match state.queue.pop_front() {
            Some(next) => next.wake(),
            None => state.free += 1,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::cancel::Cancel;

    fn deadline(timeout: Duration, cancels: Vec<Cancel>) -> Deadline {
        Deadline::start(Path::new("/hook").into(), timeout, Duration::MAX, cancels)
    }

    /// Waits until so many wait. It ends, since each of them is on its way.
    fn until_queued(places: &Places, number: usize) {
        while places.state().queue.len() < number {
            thread::yield_now();
        }
    }

    #[test]
    fn those_who_wait_are_served_in_the_order_of_their_coming() {
        let places = Places::new(1);
        let held = places.take(&deadline(Duration::MAX, vec![])).unwrap();
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            for number in 0..20 {
                let (places, send) = (&places, send.clone());
                scope.spawn(move || {
                    let _place = places.take(&deadline(Duration::MAX, vec![])).unwrap();
                    send.send(number).unwrap();
                });
                until_queued(places, number + 1);
            }
            drop(held);
        });
        drop(send);
        assert_eq!(receive.iter().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
        assert_eq!(places.state().free, 1);
    }

    #[test]
    fn a_wait_ends_with_its_time_or_its_cancellation_and_costs_nobody_a_place() {
        let places = Places::new(1);
        let held = places.take(&deadline(Duration::MAX, vec![])).unwrap();
        let cancel = Cancel::new();
        thread::scope(|scope| {
            let cancelled = scope.spawn(|| places.take(&deadline(Duration::MAX, vec![cancel.clone()])).map(drop));
            until_queued(&places, 1);
            let late = places.take(&deadline(Duration::ZERO, vec![])).map(drop);
            assert_eq!(late, Err(Over::TimedOut));
            cancel.cancel();
            assert_eq!(cancelled.join().unwrap(), Err(Over::Cancelled));
        });
        drop(held);
        assert!(places.take(&deadline(Duration::ZERO, vec![])).is_ok());
    }
}
