//! Loading many hooks at once: to compile one takes a processor its time, and there may be several of both.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, Builder};

use tracing::dispatcher;

/// Does `each` for every item, on all processors, and returns the results in the items' order. The threads are gone
/// afterwards; where none can be had, this one does it all.
pub(super) fn in_parallel<T: Send, R: Send + Sync>(items: Vec<T>, each: impl Fn(T) -> R + Sync) -> Vec<R> {
    let items: Vec<(Mutex<Option<T>>, OnceLock<R>)> =
        items.into_iter().map(|item| (Mutex::new(Some(item)), OnceLock::new())).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((item, result)) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            let item = item.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(item) = item {
                let _ = result.set(each(item));
            }
        }
    };
    // Whoever listens to this thread listens to those that do its work.
    let log = dispatcher::get_default(Clone::clone);
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        for _ in 1..processors.min(items.len()) {
            let work = || dispatcher::with_default(&log, work);
            if Builder::new().name("hookvisor-load".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    items.into_iter().filter_map(|(_, result)| result.into_inner()).collect()
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
