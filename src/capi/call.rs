//! The common frame of every call from C.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use super::types::{Error, HOOKVISOR_ERROR_SIZE};
use crate::event::EventError;
use crate::hook::discovery::LoadError;
use crate::pthread::CancellationOff;

/// Why a call could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("invalid runtime handle: NULL, closed, or never opened")]
    NoRuntime,
    #[error("invalid report handle: NULL, freed, or never made")]
    NoReport,
    #[error("invalid cancel handle: freed, or never made")]
    NoCancel,
    #[error("invalid text handle: NULL, freed, or never made")]
    NoText,
    #[error(
        "the handle belongs to process {opened_by}, and this process is a fork of it: make one here, after the fork"
    )]
    Forked { opened_by: u32 },
    #[error("`{0}` is missing (NULL)")]
    Missing(&'static str),
    #[error("`{0}` is not aligned for its type")]
    Misaligned(&'static str),
    #[error("`{field}` is not UTF-8: {value:?}")]
    NotUtf8 { field: &'static str, value: String },
    #[error("the document is NULL, but `document_length` is {0}")]
    DocumentMissing(usize),
    #[error("`document_length` is {0}, which is more than the address space holds")]
    DocumentTooLarge(usize),
    #[error("there is not enough memory for a copy of the document ({0} bytes)")]
    DocumentOutOfMemory(usize),
    #[error("`{name}.size` is {given}: set it to sizeof(hookvisor_{name}), which is {expected} in this version")]
    Size { name: &'static str, given: usize, expected: usize },
    #[error("`{0}` uses fields of a later version of this library: {version} does not have them", version = env!("CARGO_PKG_VERSION"))]
    TooNew(&'static str),
    #[error("`options.conventions`: {0}")]
    Conventions(String),
    #[error("`level` is {0}: it is HOOKVISOR_LOG_ERROR, _WARNING, _INFO or _DEBUG")]
    LogLevel(i32),
    #[error("hookvisor_log_to was called by the log function itself")]
    LogInLog,
    #[error("the log cannot be taken: another part of this process has a `tracing` subscriber")]
    LogTaken,
    #[error("a hook rewrote the document: pass `report` to get it")]
    DocumentUnseen,
    #[cfg(not(feature = "wasm"))]
    #[error("remove `{0}`: this library was built without WebAssembly")]
    NoWasm(&'static str),
    #[cfg(feature = "wasm")]
    #[error(transparent)]
    Cache(#[from] crate::backend::wasm::cache::CacheError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Event(#[from] EventError),
}

/// Runs `body`. On failure it returns `None`, and `error` has the reason. Panics end here, and errno does not change.
///
/// # Safety
/// `error` is NULL or points to an [`Error`], which need not be initialized.
pub(super) unsafe fn guarded<T>(error: *mut Error, body: impl FnOnce() -> Result<T, Failure>) -> Option<T> {
    // pthread_cancel would unwind this library's frames by force. It takes effect after the call.
    let _cancellation_off = CancellationOff::for_this_thread();
    let errno = Errno::last_raw();
    // SAFETY: the caller's promise.
    unsafe { tell(error, b"") };
    // State that a panic left half done is behind recovering locks, or belongs to the call.
    let why = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(done)) => {
            Errno::set_raw(errno);
            return Some(done);
        }
        Ok(Err(failure)) => failure.to_string(),
        Err(panic) => {
            let why = format!("internal error, please report this bug: {}", said(&*panic));
            // The panic's payload could panic again when it is dropped.
            std::mem::forget(panic);
            why
        }
    };
    // SAFETY: the caller's promise.
    unsafe { tell(error, why.as_bytes()) };
    Errno::set_raw(errno);
    None
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Copies a text to the caller, cut to the available room.
///
/// # Safety
/// `error` is NULL or points to an [`Error`], which need not be initialized.
pub(super) unsafe fn tell(error: *mut Error, text: &[u8]) {
    const CUT: &[u8] = b"...";
    let room = HOOKVISOR_ERROR_SIZE - 1;
    let text = text.trim_ascii_end();
    let (kept, end): (&[u8], &[u8]) =
        if text.len() <= room { (text, b"") } else { (whole_characters(&text[..room - CUT.len()]), CUT) };
    if error.is_null() {
        return;
    }
    // SAFETY: the caller's promise; a byte is aligned anywhere, and the index is below the size.
    let put = |at: usize, byte: u8| unsafe { (&raw mut (*error).message).cast::<u8>().add(at).write(byte) };
    // A NUL byte from a hook's stderr would hide the text after it.
    let bytes = kept.iter().chain(end).map(|&byte| if byte == 0 { b'?' } else { byte });
    for (at, byte) in bytes.chain([0]).enumerate() {
        put(at, byte);
    }
}

/// The text without an incomplete UTF-8 character at its end.
fn whole_characters(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Err(error) if error.error_len().is_none() => &text[..error.valid_up_to()],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    /// The content of the caller's error, which may be uninitialized.
    fn message(body: impl FnOnce() -> Result<(), Failure>) -> (bool, String) {
        let mut error = Error { message: [0x55; HOOKVISOR_ERROR_SIZE] };
        // SAFETY: it is one.
        let done = unsafe { guarded(&raw mut error, body) }.is_some();
        (done, text(&error))
    }

    fn text(error: &Error) -> String {
        // SAFETY: the message has a NUL byte within the array.
        unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_string_lossy().into_owned()
    }

    #[test]
    #[expect(clippy::panic, reason = "it is what is tried")]
    fn a_panic_is_an_error_and_errno_stays() {
        Errno::set_raw(77);
        let (done, text) = message(|| {
            Errno::set_raw(5);
            panic!("the {} broke", "wheel")
        });
        assert_eq!((done, text.as_str()), (false, "internal error, please report this bug: the wheel broke"));
        assert_eq!(Errno::last_raw(), 77);
    }

    #[test]
    fn what_goes_well_leaves_no_message_and_errno_as_it_was() {
        Errno::set_raw(77);
        assert_eq!(
            message(|| {
                Errno::set_raw(5);
                Ok(())
            }),
            (true, String::new())
        );
        assert_eq!(Errno::last_raw(), 77);
    }

    #[test]
    fn a_message_is_cut_between_characters_and_keeps_no_nul() {
        let long = |value: String| message(|| Err(Failure::NotUtf8 { field: "f", value })).1;
        for bytes in 990..1030 {
            let text = long("ä".repeat(bytes / 2));
            assert!(!text.contains('\u{fffd}') && text.len() < HOOKVISOR_ERROR_SIZE, "{bytes}: {text}");
            assert!(text.ends_with("ä\"") || text.ends_with("ä..."), "{bytes}: {text}");
        }
        let mut error = Error { message: [0x55; HOOKVISOR_ERROR_SIZE] };
        // SAFETY: it is one.
        unsafe { tell(&raw mut error, b"a\0b\n") };
        assert_eq!(text(&error), "a?b");
    }
}
