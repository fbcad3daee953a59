//! The objects behind C's handles.
//!
//! A handle is a number that is never reused, for all kinds together. So a stale handle finds nothing, and a report is
//! never used as a runtime. It is odd, so it is no valid address.
//!
//! fork(2) copies only the calling thread, and every lock in its current state: one that another thread holds is never
//! released in the copy. So each process has its own table with its own locks, and does not wait for its parent's.

use std::collections::{BTreeMap, BTreeSet};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use super::call::Failure;
use super::report::{StoredReport, Text};
use super::types;
use crate::cancel::Cancel;
use crate::runtime::Runtime;

pub(super) static RUNTIMES: Handles<Runtime> = Handles::new();
pub(super) static REPORTS: Handles<StoredReport> = Handles::new();
pub(super) static CANCELS: Handles<Cancel> = Handles::new();
pub(super) static TEXTS: Handles<Text> = Handles::new();

static NEXT: AtomicUsize = AtomicUsize::new(1);

/// All objects of one kind.
pub(super) struct Handles<T: 'static>(AtomicPtr<Table<T>>);

/// The handles of one process.
struct Table<T: 'static> {
    process: u32,
    /// The handles before this one are the parent's.
    first: usize,
    values: RwLock<BTreeMap<usize, Arc<T>>>,
    parent: Option<&'static Table<T>>,
    /// The parent's handles that were closed here.
    closed: Mutex<BTreeSet<usize>>,
}

/// The object of a handle.
enum Found<T> {
    Here(Arc<T>),
    /// The parent process created it before the fork.
    Inherited {
        from: u32,
        value: Option<Arc<T>>,
    },
    Nothing,
}

impl<T: Send + Sync + 'static> Handles<T> {
    const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    pub(super) fn add(&self, value: T) -> usize {
        let value = Arc::new(value);
        let table = self.table();
        // 2^63 handles are enough.
        let handle = NEXT.fetch_add(2, Ordering::Relaxed);
        table.write().insert(handle, value);
        handle
    }

    /// The object, even if it belongs to the parent. The caller keeps it alive if it is removed meanwhile.
    pub(super) fn get(&self, handle: usize) -> Option<Arc<T>> {
        match self.table().find(handle) {
            Found::Here(value) => Some(value),
            Found::Inherited { value, .. } => value,
            Found::Nothing => None,
        }
    }

    /// Removes it. The parent's objects are not dropped here, since that could wait for threads that do not exist here.
    pub(super) fn remove(&self, handle: usize) -> bool {
        let table = self.table();
        let removed = table.write().remove(&handle);
        removed.is_some() || !matches!(table.find(handle), Found::Nothing) && table.closed().insert(handle)
    }

    fn table(&self) -> &'static Table<T> {
        let process = process::id();
        loop {
            let at = self.0.load(Ordering::Acquire);
            // SAFETY: it is null, or from `Box::into_raw` below and never freed.
            let table: Option<&'static Table<T>> = unsafe { at.as_ref() };
            if let Some(table) = table
                && table.process == process
            {
                return table;
            }
            let new = Box::into_raw(Box::new(Table {
                process,
                first: NEXT.load(Ordering::Relaxed),
                values: RwLock::default(),
                parent: table,
                closed: Mutex::default(),
            }));
            if self.0.compare_exchange(at, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: it is from `Box::into_raw`, and nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }
}

impl<T> Table<T> {
    fn find(&self, handle: usize) -> Found<T> {
        if let Some(value) = self.read().get(&handle) {
            return Found::Here(Arc::clone(value));
        }
        match self.parent {
            Some(parent) if handle < self.first && !self.closed().contains(&handle) => {
                parent.find_without_waiting(handle)
            }
            _ => Found::Nothing,
        }
    }

    /// The state for a child process, where nobody may be able to release the lock. Then all handles that the process
    /// may have had count.
    fn find_without_waiting(&self, handle: usize) -> Found<T> {
        let values = match self.values.try_read() {
            Ok(values) => values,
            Err(TryLockError::Poisoned(values)) => values.into_inner(),
            Err(TryLockError::WouldBlock) if handle % 2 == 1 => {
                return Found::Inherited { from: self.process, value: None };
            }
            Err(TryLockError::WouldBlock) => return Found::Nothing,
        };
        match (values.get(&handle), self.parent) {
            (Some(value), _) => Found::Inherited { from: self.process, value: Some(Arc::clone(value)) },
            (None, Some(parent)) if handle < self.first => parent.find_without_waiting(handle),
            (None, _) => Found::Nothing,
        }
    }

    // A panic under the lock leaves the map either unchanged or changed.
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<usize, Arc<T>>> {
        self.values.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The runtime of a handle. In a fork, the thread that stops its WebAssembly hooks is missing.
pub(super) fn runtime(handle: *const types::Runtime) -> Result<Arc<Runtime>, Failure> {
    own(&RUNTIMES, handle.addr(), Failure::NoRuntime)
}

/// The cancellation of a handle. A fork shares its descriptor with the parent, whose calls it must not wake.
pub(super) fn cancel(handle: *const types::Cancel) -> Result<Arc<Cancel>, Failure> {
    own(&CANCELS, handle.addr(), Failure::NoCancel)
}

fn own<T: Send + Sync>(handles: &Handles<T>, handle: usize, nothing: Failure) -> Result<Arc<T>, Failure> {
    match handles.table().find(handle) {
        Found::Here(value) => Ok(value),
        Found::Inherited { from, .. } => Err(Failure::Forked { opened_by: from }),
        Found::Nothing => Err(nothing),
    }
}

/// Frees a handle.
pub(super) fn removed<T: Send + Sync>(handles: &Handles<T>, handle: usize, nothing: Failure) -> Result<(), Failure> {
    if handles.remove(handle) { Ok(()) } else { Err(nothing) }
}

pub(super) fn close(handle: *mut types::Runtime) -> Result<(), Failure> {
    removed(&RUNTIMES, handle.addr(), Failure::NoRuntime)
}
