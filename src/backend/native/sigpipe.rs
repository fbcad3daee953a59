//! Writes to pipes without a reader, without sending SIGPIPE to the host.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};

use super::kernel::{discard_pending_sigpipe, sigpipe_is_pending};

/// Blocks SIGPIPE for this thread until it is dropped, and then discards one that has arrived. The host's own handling
/// of SIGPIPE does not change.
pub(super) struct SigpipeBlocked {
    before: Option<SigSet>,
}

impl SigpipeBlocked {
    pub(super) fn for_this_thread() -> Self {
        if sigpipe_is_pending() {
            // The host has blocked it, and the pending one belongs to the host.
            return Self { before: None };
        }
        let mut before = SigSet::empty();
        let blocked = pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(Signal::SIGPIPE)), Some(&mut before));
        Self { before: blocked.is_ok().then_some(before) }
    }
}

impl Drop for SigpipeBlocked {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            discard_pending_sigpipe();
            let restored = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(before), None);
            debug_assert_eq!(restored, Ok(()), "a mask that was in force can be set again");
        }
    }
}
