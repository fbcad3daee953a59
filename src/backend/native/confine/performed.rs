//! System calls that the runtime performs for a hook, on copies of its sockets and of its memory.

use nix::poll::PollFd;

use super::kernel::Answer;
use crate::hook::settings::grants::Address;

/// The result of a call.
pub(super) enum Performed {
    Done(Answer),
    /// It cannot be performed yet.
    Later(Pending),
    /// Its address is not granted.
    Refused(Address),
}

/// A call that waits.
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) call: Box<dyn PendingCall>,
}

pub(super) trait PendingCall {
    /// A descriptor, and what it becomes ready for when the call can go on.
    fn waits_for(&self) -> PollFd<'_>;

    /// Whether it holds a copy of a message.
    fn holds_message(&self) -> bool;

    /// Continues when the descriptor is ready, or has failed. `id` is the question's.
    fn finish(self: Box<Self>, id: u64) -> Performed;
}
