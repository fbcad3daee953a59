//! The sandbox's only thread. It interrupts guests at their deadlines and drives the timers of sleeping guests.
//!
//! wasmtime interrupts a busy guest when its engine's epoch changes. The epoch changes only at the deadline of a running
//! call. Each call then checks its own deadline, so one hook's timeout never ends another. While no call runs, the thread
//! sleeps without a timer.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use wasmtime::Engine;

use crate::cancel::{Cancel, Source};
use crate::limits::Deadline;

/// How often to read a source that the kernel cannot watch.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) struct EpochTimer {
    shared: Arc<Shared>,
    reactor: Handle,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    times: Mutex<Schedule>,
    changed: Notify,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Schedule {
    /// When to interrupt, earliest first. The number distinguishes calls with the same time.
    marks: BTreeSet<(Instant, u64)>,
    /// When the thread wakes up next.
    wakes_at: Option<Instant>,
    stopping: bool,
}

impl Shared {
    fn times(&self) -> MutexGuard<'_, Schedule> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's entries in the schedule. Removed on drop.
pub(super) struct EpochGuard<'a> {
    shared: &'a Shared,
    marks: [Option<(Instant, u64)>; 2],
    sources: Vec<AbortHandle>,
}

impl EpochTimer {
    pub(super) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reactor = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = reactor.handle().clone();
        // The thread owns the reactor: tokio does not allow dropping one inside an async task.
        let reactor = Arc::new(Mutex::new(Some(reactor)));
        let (its_reactor, its_shared) = (Arc::clone(&reactor), Arc::clone(&shared));
        let thread = Builder::new().name("hookvisor-clock".to_owned()).spawn(move || {
            let Some(reactor) = take(&its_reactor) else { return };
            reactor.block_on(interrupt(&its_shared, &engine));
            // Blocking work left by a guest must not delay the host.
            reactor.shutdown_background();
        });
        match thread {
            Ok(thread) => Ok(Self { shared, reactor: handle, thread: Some(thread) }),
            Err(error) => {
                if let Some(reactor) = take(&reactor) {
                    reactor.shutdown_background();
                }
                Err(error)
            }
        }
    }

    /// Timers and sockets register here.
    pub(super) fn reactor(&self) -> &Handle {
        &self.reactor
    }

    /// Changes the engine's epoch at the deadline's marks, and watches the sources of cancellation, until the guard is
    /// dropped.
    pub(super) fn watch(&self, deadline: &Deadline) -> EpochGuard<'_> {
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let marks = deadline.marks().map(|mark| mark.map(|at| (at, id)));
        let mut times = self.shared.times();
        times.marks.extend(marks.iter().flatten());
        let first = marks.iter().flatten().map(|(at, _)| *at).min();
        let is_sooner = first.is_some_and(|at| times.wakes_at.is_none_or(|wake| at < wake));
        if is_sooner {
            times.wakes_at = first;
        }
        drop(times);
        if is_sooner {
            self.shared.changed.notify_one();
        }
        let watched = deadline.sources().map(|(cancel, source)| watch(cancel.clone(), Arc::clone(source)));
        let sources = watched.map(|task| self.reactor.spawn(task).abort_handle()).collect();
        EpochGuard { shared: &self.shared, marks, sources }
    }
}

impl Drop for EpochGuard<'_> {
    fn drop(&mut self) {
        self.sources.iter().for_each(AbortHandle::abort);
        // No need to tell the thread: it wakes up once for nothing.
        let mut times = self.shared.times();
        for mark in self.marks.iter().flatten() {
            times.marks.remove(mark);
        }
    }
}

impl Drop for EpochTimer {
    fn drop(&mut self) {
        self.shared.times().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panicked thread leaves nothing inconsistent.
            let _ = thread.join();
        }
    }
}

fn take(reactor: &Mutex<Option<Runtime>>) -> Option<Runtime> {
    reactor.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Reads the source whenever it is readable. A cancellation wakes the calls.
#[expect(deprecated, reason = "what replaces `with_interest` is unsafe, and a source never changes its descriptor")]
async fn watch(cancel: Cancel, source: Arc<Source>) {
    let Ok(source) = AsyncFd::with_interest(source, Interest::READABLE) else {
        loop {
            let _ = cancel.is_cancelled();
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    while let Ok(mut readable) = source.readable().await {
        readable.clear_ready();
        let _ = cancel.is_cancelled();
    }
}

async fn interrupt(shared: &Shared, engine: &Engine) {
    loop {
        let next = {
            let mut times = shared.times();
            if times.stopping {
                return;
            }
            let now = Instant::now();
            let later = times.marks.split_off(&(now, u64::MAX));
            let due = std::mem::replace(&mut times.marks, later);
            if !due.is_empty() {
                engine.increment_epoch();
            }
            times.wakes_at = times.marks.first().map(|(at, _)| *at);
            times.wakes_at
        };
        match next {
            None => shared.changed.notified().await,
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = shared.changed.notified() => {}
                }
            }
        }
    }
}
