//! Compiles in this process. The caller waits at most until its deadline. The compiler's threads cannot be stopped.
//! They finish their work, and until then nothing else is compiled here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::Builder;

use super::job::{Job, interrupted, took_too_long};
use super::translate;
use crate::hook::error::LaunchError;
use crate::limits::{Deadline, Expired, Limits};
use crate::thread_waker::ThreadWaker;

/// Abandoned compilations in this process.
static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// The state that the compiling thread and its caller share.
enum Compilation {
    Compiling,
    Done(Result<Vec<u8>, LaunchError>),
    Abandoned,
}

pub(super) fn run(job: Job<'_>, limits: &Limits, deadline: &Deadline) -> Result<Vec<u8>, LaunchError> {
    if ABANDONED.load(Ordering::Acquire) > 0 {
        return Err(LaunchError::Host {
            what: "it was not compiled",
            why: "another module is still being compiled past its time limit".to_owned(),
        });
    }
    let state = Arc::new(Mutex::new(Compilation::Compiling));
    let waker = Arc::<ThreadWaker>::default();
    let _wakes = deadline.wakes(|| Waker::from(Arc::clone(&waker)));
    let (shared, done) = (Arc::clone(&state), Waker::from(Arc::clone(&waker)));
    let (binary, layer, resources, memory) = (job.binary, job.layer, job.resources, limits.compile_memory);
    let compile = move || {
        let compiled =
            catch_unwind(AssertUnwindSafe(|| translate::translate(&binary, layer, resources, Some(memory), 0)));
        let compiled = compiled
            .unwrap_or_else(|_| Err(LaunchError::Host { what: "the compiler failed", why: "it panicked".to_owned() }));
        let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            Compilation::Abandoned => drop(ABANDONED.fetch_sub(1, Ordering::AcqRel)),
            Compilation::Compiling | Compilation::Done(_) => *state = Compilation::Done(compiled),
        }
        drop(state);
        done.wake();
    };
    let thread = Builder::new()
        .name("hookvisor-compile".to_owned())
        .spawn(compile)
        .map_err(|e| LaunchError::Host { what: "could not start the threads that compile it", why: e.to_string() })?;
    loop {
        let checked = deadline.check();
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Compilation::Done(compiled) = std::mem::replace(&mut *state, Compilation::Compiling) {
            drop(state);
            // The thread has nothing left to do.
            let _ = thread.join();
            return compiled;
        }
        match checked {
            Ok(left) => {
                drop(state);
                waker.wait(left.wake_in);
            }
            Err(expired) => {
                *state = Compilation::Abandoned;
                ABANDONED.fetch_add(1, Ordering::AcqRel);
                return Err(match expired {
                    Expired::TimedOut { .. } => took_too_long(limits),
                    Expired::Cancelled => interrupted(),
                });
            }
        }
    }
}
