//! Cancels running calls.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Cancels calls from any thread, for example when the daemon shuts down.
///
/// Pass it to a runtime ([`RuntimeBuilder::cancel`](crate::RuntimeBuilder::cancel)), to a single call
/// ([`Invocation::cancel`](crate::Invocation::cancel)), or to both. Clones share one state. After [`cancel`](Self::cancel):
/// - A running native hook gets SIGTERM to its process group, and SIGKILL after the grace period. A running sandboxed hook
///   ends at once. Its report has [`Termination::Cancelled`](crate::Termination::Cancelled).
/// - No further hook is called. A start is vetoed; the remaining hooks of a shutdown are reported as skipped.
///
/// Cancellation is permanent; later calls fail too.
///
/// ```no_run
/// use hookvisor::{Cancel, Event, Runtime};
///
/// let cancel = Cancel::new();
/// let runtime = Runtime::builder("/etc/mydaemon/hooks").cancel(&cancel).build()?;
/// std::thread::spawn(move || {
///     // … at SIGTERM …
///     cancel.cancel();
/// });
/// runtime.start(&Event::new("mydaemon", "web1", "start")?).into_result()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Arc<Switch>);

#[derive(Default)]
struct Switch {
    thrown: AtomicBool,
    without_grace: AtomicBool,
    /// Readable after a cancellation, for poll(2). Created on first use.
    event: OnceLock<EventFd>,
    /// Wakers of threads that do not use poll(2).
    waiting: Mutex<Waiting>,
    source: Option<Arc<Source>>,
}

/// A descriptor that calls watch while they wait.
pub(crate) struct Source {
    descriptor: Box<dyn AsFd + Send + Sync>,
    act: Box<dyn Fn(&Cancel) + Send + Sync>,
}

#[derive(Default)]
struct Waiting {
    wakers: Vec<(u64, Waker)>,
    next_id: u64,
}

impl Cancel {
    /// Creates one that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates one that calls `act` when the descriptor is readable. `act` reads without blocking, and decides whether
    /// to cancel. With signalfd(2), a program can handle signals this way without a separate thread.
    ///
    /// The descriptor is watched only while a call runs: by the thread that waits for a native hook, or by the
    /// sandbox's thread. Each check for cancellation also calls `act`, so calls of it may overlap.
    pub fn watching(
        descriptor: impl AsFd + Send + Sync + 'static,
        act: impl Fn(&Self) + Send + Sync + 'static,
    ) -> Self {
        let source = Source { descriptor: Box::new(descriptor), act: Box::new(act) };
        Self(Arc::new(Switch { source: Some(Arc::new(source)), ..Switch::default() }))
    }

    /// Cancels the calls and returns at once. Each call returns as soon as its hook has ended.
    pub fn cancel(&self) {
        let wakers = {
            let mut waiting = self.0.waiting();
            self.0.thrown.store(true, Ordering::Release);
            if let Some(event) = self.0.event.get() {
                // Fails only if the counter is full; it is readable then.
                let _ = event.write(1);
            }
            std::mem::take(&mut waiting.wakers)
        };
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Like [`cancel`](Self::cancel), but without a grace period: native hooks' process groups get SIGKILL at once. This also
    /// cuts short a grace period that is running.
    pub fn kill(&self) {
        self.0.without_grace.store(true, Ordering::Release);
        self.cancel();
    }

    /// The descriptor to watch, if any.
    pub(crate) fn source(&self) -> Option<&Arc<Source>> {
        self.0.source.as_ref()
    }

    fn act(&self) {
        if let Some(source) = &self.0.source {
            (source.act)(self);
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.act();
        self.0.without_grace.load(Ordering::Acquire)
    }

    /// Whether [`cancel`](Self::cancel) or [`kill`](Self::kill) has been called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.act();
        self.0.is_thrown()
    }

    /// A descriptor that becomes readable on cancellation and stays readable.
    pub(crate) fn event(&self) -> Result<BorrowedFd<'_>, Errno> {
        if let Some(event) = self.0.event.get() {
            return Ok(event.as_fd());
        }
        // Under the lock, so that a concurrent `cancel` either sees the descriptor or is seen here.
        let _waiting = self.0.waiting();
        let event = EventFd::from_value_and_flags(
            u32::from(self.0.is_thrown()),
            EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK,
        )?;
        Ok(self.0.event.get_or_init(|| event).as_fd())
    }

    /// Wakes the waker on cancellation (at once if already cancelled), until the guard is dropped.
    pub(crate) fn wakes(&self, waker: Waker) -> Subscription<'_> {
        let mut waiting = self.0.waiting();
        waiting.next_id += 1;
        let id = waiting.next_id;
        if self.0.is_thrown() {
            drop(waiting);
            waker.wake();
        } else {
            waiting.wakers.push((id, waker));
        }
        Subscription { switch: &self.0, id }
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Switch {
    fn is_thrown(&self) -> bool {
        self.thrown.load(Ordering::Acquire)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("is_cancelled", &self.0.is_thrown()).finish_non_exhaustive()
    }
}

/// Unregisters its waker on drop.
pub(crate) struct Subscription<'a> {
    switch: &'a Switch,
    id: u64,
}

impl Drop for Subscription<'_> {
    fn drop(&mut self) {
        self.switch.waiting().wakers.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_readable(cancel: &Cancel) -> Result<bool, Errno> {
        let mut fds = [PollFd::new(cancel.event()?, PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).map(|ready| ready == 1)
    }

    #[test]
    fn waiters_are_woken_once_and_former_waiters_are_not() {
        let (cancel, stays, leaves, late) =
            (Cancel::new(), Arc::<Count>::default(), Arc::<Count>::default(), Arc::<Count>::default());
        let _stays = cancel.wakes(Arc::clone(&stays).into());
        drop(cancel.wakes(Arc::clone(&leaves).into()));
        cancel.cancel();
        cancel.clone().cancel();
        let _late = cancel.wakes(Arc::clone(&late).into());
        assert_eq!([stays, leaves, late].map(|count| count.0.load(Ordering::Relaxed)), [1, 0, 1]);
    }

    #[test]
    fn a_watched_descriptor_cancels_and_kills() -> Result<(), Errno> {
        let bell = Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let ringing = Arc::clone(&bell);
        let cancel = Cancel::watching(Arc::clone(&bell), move |cancel| match ringing.read() {
            Ok(1) => cancel.cancel(),
            Ok(_) => cancel.kill(),
            Err(_) => {}
        });
        let woken = Arc::<Count>::default();
        let _woken = cancel.wakes(Arc::clone(&woken).into());
        assert!(cancel.source().is_some() && !cancel.is_cancelled());
        bell.write(1)?;
        assert!(cancel.is_cancelled() && !cancel.is_killed());
        assert_eq!((is_readable(&cancel), woken.0.load(Ordering::Relaxed)), (Ok(true), 1));
        bell.write(2)?;
        assert!(cancel.is_killed());
        Ok(())
    }

    #[test]
    fn its_descriptor_becomes_readable_whenever_it_was_created() {
        let (before, after) = (Cancel::new(), Cancel::new());
        assert_eq!(is_readable(&before), Ok(false));
        before.cancel();
        after.cancel();
        assert_eq!([&before, &after, &before].map(is_readable), [Ok(true); 3]);
    }
}
