//! Cancelling calls.

use std::ptr;

use super::call::{Failure, guarded};
use super::handles::{self, CANCELS, removed};
use super::types::{Cancel, Error};
use crate::cancel::Cancel as RustCancel;

/// hookvisor_cancel_new:
///
/// Makes a handle that ends running calls. Put it into hookvisor_options for all calls of a runtime, or into
/// hookvisor_call_options for one call.
///
/// Returns the handle, which hookvisor_cancel_free() frees.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_cancel_new() -> *mut Cancel {
    // SAFETY: there is no error to write to.
    let made = unsafe { guarded(ptr::null_mut(), || Ok(CANCELS.add(RustCancel::new()))) };
    made.map_or(ptr::null_mut(), ptr::without_provenance_mut)
}

/// hookvisor_cancel_throw:
/// @cancel: a cancel handle
/// @error: where a failure is explained, or NULL
///
/// Ends the calls that have this handle: their hooks are ended, and starts are vetoed. It returns at once. Cancellation is
/// permanent: later calls with this handle fail too. It must not be called from a signal handler: have the handler wake a thread
/// (signalfd, sigwait or a pipe).
///
/// Returns true, or false if @cancel is not a cancel handle or was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_cancel_throw(cancel: *const Cancel, error: *mut Error) -> bool {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { guarded(error, || handles::cancel(cancel).map(|cancel| cancel.cancel())) }.is_some()
}

/// hookvisor_cancel_kill:
/// @cancel: a cancel handle
/// @error: where a failure is explained, or NULL
///
/// As hookvisor_cancel_throw(), and kills native hooks at once (SIGKILL) instead of giving them time to end.
///
/// Returns true, or false if @cancel is not a cancel handle or was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_cancel_kill(cancel: *const Cancel, error: *mut Error) -> bool {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { guarded(error, || handles::cancel(cancel).map(|cancel| cancel.kill())) }.is_some()
}

/// hookvisor_cancel_free:
/// @cancel: a cancel handle
///
/// Frees a cancel handle. Calls and runtimes that have it go on; they can then no longer be cancelled by it.
///
/// Returns true, or false if @cancel is not a cancel handle or was freed before.
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_cancel_free(cancel: *mut Cancel) -> bool {
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), || removed(&CANCELS, cancel.addr(), Failure::NoCancel)) }.is_some()
}
