//! Raw system calls, for a process on borrowed memory.
#![expect(unsafe_code, reason = "raw system calls")]

use std::ffi::{c_int, c_long};

/// Makes a raw system call, without the C library's cancellation points and locks.
///
/// # Safety
/// As for the system call.
pub(super) unsafe fn call(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> Result<c_long, c_int> {
    // SAFETY: the caller's promise. errno is the calling thread's own, which is suspended.
    unsafe {
        match libc::syscall(number, a, b, c, d, e, f) {
            -1 => Err(*libc::__errno_location()),
            result => Ok(result),
        }
    }
}

/// A pointer as a system call's argument.
pub(super) fn address<T>(pointer: *const T) -> c_long {
    pointer.expose_provenance().cast_signed() as c_long
}
