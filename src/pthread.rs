//! POSIX thread cancellation, kept away from this library's frames.
#![expect(unsafe_code, reason = "a function of the C library that the libc crate does not declare")]

use std::ffi::c_int;

unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, before: *mut c_int) -> c_int;
}

/// The value of `PTHREAD_CANCEL_DISABLE` in glibc and musl.
const DISABLE: c_int = 1;

/// Disables `pthread_cancel` for this thread until it is dropped.
///
/// A cancellation would unwind the stack by force, which Rust forbids, or end a thread whose memory a child process is
/// borrowing.
pub(crate) struct CancellationOff {
    before: Option<c_int>,
}

impl CancellationOff {
    pub(crate) fn for_this_thread() -> Self {
        let mut before = 0;
        // SAFETY: the state is one of the two that there are, and `before` can be written to.
        let failed = unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
        Self { before: (failed == 0).then_some(before) }
    }
}

impl Drop for CancellationOff {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let mut unused = 0;
            // SAFETY: the state is the one that was in force, and `unused` can be written to.
            unsafe { pthread_setcancelstate(before, &raw mut unused) };
        }
    }
}
