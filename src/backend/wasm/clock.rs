//! The one thread of the sandbox: it interrupts guests whose time is up, and wakes those that sleep.
//!
//! wasmtime interrupts a busy guest when its engine's epoch changes. Nothing ticks here: the epoch changes only when the
//! deadline of a call that is under way has come. Each call then looks at its own deadline, so that one hook's end of
//! time never trips another. While no call is under way the thread sleeps without a timer.
//!
//! The same thread drives the timers that wasmtime-wasi makes for a guest that sleeps; the guest itself runs on its
//! caller's thread, which waits for them.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::Notify;
use wasmtime::Engine;

use crate::limits::Deadline;

pub(super) struct Clock {
    shared: Arc<Shared>,
    reactor: Handle,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    times: Mutex<Times>,
    changed: Notify,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Times {
    /// When to interrupt, soonest first; the number tells calls apart whose times are the same.
    marks: BTreeSet<(Instant, u64)>,
    /// When the thread will look next, if it will by itself.
    wakes_at: Option<Instant>,
    stopping: bool,
}

impl Shared {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place in the clock, given up when it is dropped.
pub(super) struct Watch<'a> {
    shared: &'a Shared,
    marks: [Option<(Instant, u64)>; 2],
}

impl Clock {
    pub(super) fn start(engine: Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let reactor = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = reactor.handle().clone();
        // The reactor lives and dies on the thread: dropped elsewhere, it could be inside somebody's async task, where
        // tokio does not allow that.
        let reactor = Arc::new(Mutex::new(Some(reactor)));
        let (its_reactor, its_shared) = (Arc::clone(&reactor), Arc::clone(&shared));
        let thread = Builder::new().name("hookvisor-clock".to_owned()).spawn(move || {
            let Some(reactor) = take(&its_reactor) else { return };
            reactor.block_on(interrupt(&its_shared, &engine));
            // Blocking work that a guest left behind, such as opening a FIFO, must not hold up the host.
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

    /// Where timers and other sources of readiness are registered.
    pub(super) fn reactor(&self) -> &Handle {
        &self.reactor
    }

    /// From now on the engine's epoch changes at the deadline's marks.
    pub(super) fn watch(&self, deadline: &Deadline) -> Watch<'_> {
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
        Watch { shared: &self.shared, marks }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The thread is not told: it wakes once, finds nothing, and sleeps on.
        let mut times = self.shared.times();
        for mark in self.marks.iter().flatten() {
            times.marks.remove(mark);
        }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.shared.times().stopping = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It holds nothing of ours that a panic could have left in disorder.
            let _ = thread.join();
        }
    }
}

fn take(reactor: &Mutex<Option<Runtime>>) -> Option<Runtime> {
    reactor.lock().unwrap_or_else(PoisonError::into_inner).take()
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
