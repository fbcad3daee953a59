//! Loads many hooks at once, because compiling one keeps a processor busy.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

use tracing::dispatcher;

/// Calls `each` for every item on all processors, and returns the results in the items' order. The threads end before
/// this returns. If no thread can be started, this thread does all the work.
pub(super) fn in_parallel<T: Send, R: Send>(items: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(items.len());
    let (items, results) = (Mutex::new(items.into_iter().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let Some((at, item)) = items.lock().unwrap_or_else(PoisonError::into_inner).next() else { return };
            let result = each(item);
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    // The workers log to this thread's subscriber.
    let log = dispatcher::get_default(Clone::clone);
    thread::scope(|scope| {
        for _ in 1..threads {
            let work = || dispatcher::with_default(&log, work);
            if Builder::new().name("hookvisor-load".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_results_are_in_the_order_of_the_items() {
        let items: Vec<usize> = (0..1000).collect();
        let doubled: Vec<usize> = items.iter().map(|item| item * 2).collect();
        assert_eq!(in_parallel(items, |item| item * 2), doubled);
        assert_eq!(in_parallel(Vec::<u8>::new(), |item| item), Vec::<u8>::new());
    }
}
