//! System calls that the runtime performs for a hook, on copies of its sockets and of its memory.

use std::os::fd::BorrowedFd;

use super::kernel::Answer;
use crate::hook::settings::grants::Address;

/// The result of a call.
pub(super) enum Performed {
    Done(Answer),
    /// The socket is not ready.
    Later(Pending),
    /// Its address is not granted.
    Refused(Address),
}

/// A call that waits until its socket is ready.
pub(super) struct Pending {
    pub(super) id: u64,
    pub(super) call: Box<dyn PendingCall>,
}

pub(super) trait PendingCall {
    fn socket(&self) -> BorrowedFd<'_>;

    /// Whether it holds a copy of a message.
    fn holds_message(&self) -> bool;

    /// Continues when the socket is writable or has failed. `id` is the question's.
    fn finish(self: Box<Self>, id: u64) -> Performed;
}
