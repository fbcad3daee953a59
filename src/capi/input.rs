//! Reading what C gives, and looking at it as far as it can be looked at.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::slice;
use std::time::Duration;

use bytes::Bytes;

use super::call::Failure;
use super::types;
use crate::event::Event;
use crate::limits::Limits;
use crate::runtime::RuntimeBuilder;

/// A structure to read; `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or points to a `T`, if it is aligned, that nobody changes while the result is used.
pub(super) unsafe fn structure<'a, T>(name: &'static str, pointer: *const T) -> Result<Option<&'a T>, Failure> {
    if !pointer.is_aligned() {
        return Err(Failure::Misaligned(name));
    }
    // SAFETY: the caller's promise, and it is aligned.
    Ok(unsafe { pointer.as_ref() })
}

/// A variable to write to, which need not be initialized; `None` for NULL.
pub(super) fn place<T>(name: &'static str, pointer: *mut T) -> Result<Option<NonNull<T>>, Failure> {
    if pointer.is_aligned() { Ok(NonNull::new(pointer)) } else { Err(Failure::Misaligned(name)) }
}

/// A path, which is any bytes.
///
/// # Safety
/// `text` is NULL or ends with a NUL byte, and nobody changes it meanwhile.
pub(super) unsafe fn path(name: &'static str, text: *const c_char) -> Result<PathBuf, Failure> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { string(text) }.ok_or(Failure::Missing(name))?.to_bytes();
    Ok(OsStr::from_bytes(bytes).into())
}

/// # Safety
/// As for [`path`]; the result lives as long as the caller's string.
unsafe fn string<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller's promise, and it is not NULL.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// # Safety
/// As for [`path`]; the result lives as long as the caller's string.
unsafe fn utf8<'a>(field: &'static str, text: *const c_char) -> Result<Option<&'a str>, Failure> {
    // SAFETY: the caller's promise.
    let Some(text) = (unsafe { string(text) }) else { return Ok(None) };
    let not_utf8 = |_| Failure::NotUtf8 { field, value: text.to_string_lossy().into_owned() };
    text.to_str().map(Some).map_err(not_utf8)
}

/// The event that C describes, with a copy of its document.
///
/// # Safety
/// As for `hookvisor_start`.
pub(super) unsafe fn event(event: *const types::Event) -> Result<Event, Failure> {
    // SAFETY: the caller's promise, for the structure and for what it points to.
    unsafe {
        let given = structure("event", event)?.ok_or(Failure::Missing("event"))?;
        if given.reserved.iter().any(|reserved| !reserved.is_null()) {
            return Err(Failure::Reserved("event"));
        }
        let required = |field, text| utf8(field, text)?.ok_or(Failure::Missing(field));
        let mut event = Event::new(
            required("event.driver", given.driver)?,
            required("event.object", given.object)?,
            required("event.operation", given.operation)?,
        )?;
        if let Some(sub_operation) = utf8("event.sub_operation", given.sub_operation)? {
            event = event.with_sub_operation(sub_operation)?;
        }
        if let Some(extra) = utf8("event.extra", given.extra)? {
            event = event.with_extra(extra)?;
        }
        Ok(event.with_document(document(given.document, given.document_length)?))
    }
}

/// # Safety
/// `document` is NULL or has `length` bytes, which nobody changes meanwhile.
unsafe fn document(document: *const c_void, length: usize) -> Result<Bytes, Failure> {
    if length == 0 {
        return Ok(Bytes::new());
    }
    if document.is_null() {
        return Err(Failure::DocumentMissing(length));
    }
    if length > isize::MAX.cast_unsigned() {
        return Err(Failure::DocumentTooLarge(length));
    }
    // SAFETY: it is not NULL, has that many bytes by the caller's promise, and they are no more than a slice can have.
    Ok(Bytes::copy_from_slice(unsafe { slice::from_raw_parts(document.cast::<u8>(), length) }))
}

/// A builder with these options.
///
/// # Safety
/// The strings in `options` are NULL or end with a NUL byte.
pub(super) unsafe fn configure(builder: RuntimeBuilder, options: &types::Options) -> Result<RuntimeBuilder, Failure> {
    if options.reserved != [0; 8] {
        return Err(Failure::Reserved("options"));
    }
    let mut builder = builder.limits(limits(options));
    if let Some(bound) = NonZeroUsize::new(usize::try_from(options.max_in_flight).unwrap_or(usize::MAX)) {
        builder = builder.max_in_flight(bound);
    }
    if options.cache.is_null() {
        return Ok(builder);
    }
    // SAFETY: the caller's promise.
    let directory = unsafe { path("options.cache", options.cache) }?;
    with_cache(builder, directory)
}

#[cfg(feature = "wasm")]
fn with_cache(builder: RuntimeBuilder, directory: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Ok(builder.cache(crate::Cache::open(directory)?))
}

#[cfg(not(feature = "wasm"))]
fn with_cache(_: RuntimeBuilder, _: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Err(Failure::NoCache)
}

fn limits(options: &types::Options) -> Limits {
    let defaults = Limits::default();
    let time = |ms, default| if ms == 0 { default } else { Duration::from_millis(ms) };
    let number = |value, default| if value == 0 { default } else { usize::try_from(value).unwrap_or(usize::MAX) };
    Limits {
        timeout: time(options.timeout_ms, defaults.timeout),
        grace: time(options.grace_ms, defaults.grace),
        leak_wait: time(options.leak_wait_ms, defaults.leak_wait),
        stdout: number(options.stdout_bytes, defaults.stdout),
        stderr: number(options.stderr_bytes, defaults.stderr),
        memory: number(options.memory_bytes, defaults.memory),
        table_elements: number(options.table_elements, defaults.table_elements),
        stack: number(options.stack_bytes, defaults.stack),
        module_size: if options.module_bytes == 0 { defaults.module_size } else { options.module_bytes },
        ..defaults
    }
}
