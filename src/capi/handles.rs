//! What C holds handles of.
//!
//! A handle is a number that is never used twice, for all kinds together. So a stale one finds nothing, and a report is no
//! runtime. It is odd, so no address of anything is taken for one.

use std::collections::BTreeMap;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::call::Failure;
use super::report::Kept;
use super::types;
use crate::runtime::Runtime;

pub(super) static RUNTIMES: Handles<Opened> = Handles::new();
pub(super) static REPORTS: Handles<Kept> = Handles::new();

/// What a fork has closed of its parent's. It is kept, and not forgotten, for those who look for leaks.
static INHERITED: Mutex<Vec<Arc<Opened>>> = Mutex::new(Vec::new());

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// All of a kind that are in use.
pub(super) struct Handles<T>(RwLock<BTreeMap<usize, Arc<T>>>);

impl<T> Handles<T> {
    const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    pub(super) fn add(&self, value: T) -> usize {
        let value = Arc::new(value);
        // 2^63 of them are not used up.
        let handle = NEXT.fetch_add(2, Ordering::Relaxed);
        self.write().insert(handle, value);
        handle
    }

    /// What it stands for, kept alive for the caller also if it is taken away meanwhile.
    pub(super) fn get(&self, handle: usize) -> Option<Arc<T>> {
        self.read().get(&handle).map(Arc::clone)
    }

    pub(super) fn take(&self, handle: usize) -> Option<Arc<T>> {
        self.write().remove(&handle)
    }

    // A panic under the lock, if there can be one, leaves the map as it was or changed.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A runtime, and the process that opened it.
pub(super) struct Opened {
    pub(super) hooks: Runtime,
    process: u32,
}

impl Opened {
    pub(super) fn now(hooks: Runtime) -> Self {
        Self { hooks, process: process::id() }
    }

    fn is_of_this_process(&self) -> bool {
        self.process == process::id()
    }
}

/// The runtime that a handle stands for.
pub(super) fn runtime(handle: *const types::Runtime) -> Result<Arc<Opened>, Failure> {
    let opened = RUNTIMES.get(handle.addr()).ok_or(Failure::NoRuntime)?;
    // fork copies no thread but its caller's: the one that would end a WebAssembly hook in time is not here.
    if opened.is_of_this_process() { Ok(opened) } else { Err(Failure::Forked { opened_by: opened.process }) }
}

pub(super) fn close(handle: *mut types::Runtime) -> Result<(), Failure> {
    let opened = RUNTIMES.take(handle.addr()).ok_or(Failure::NoRuntime)?;
    if !opened.is_of_this_process() {
        // Dropped, it would wait for the end of a thread that is not here.
        INHERITED.lock().unwrap_or_else(PoisonError::into_inner).push(opened);
    }
    Ok(())
}
