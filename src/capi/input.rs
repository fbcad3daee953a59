//! Reads and checks what C passes, as far as possible.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::{self, NonNull};
use std::slice;
use std::time::Duration;

use bytes::Bytes;

use super::call::Failure;
use super::{handles, types};
use crate::config;
use crate::event::Event;
use crate::limits::Limits;
use crate::runtime::builder::RuntimeBuilder;
use crate::runtime::call::Invocation;

/// A larger size means that the field was never set.
const LARGEST: usize = 4096;

/// A structure that begins with its size. Later versions append fields.
///
/// # Safety
/// Its first field is a `usize`, and all bytes zero are a valid value.
pub(super) unsafe trait Versioned: Copy {
    /// The name of the C type.
    const NAME: &'static str;
    /// The end of the fields of version 0.1, which every caller has.
    const FIRST: usize;
}

// SAFETY: it begins with `size`; its other fields are pointers and integers.
unsafe impl Versioned for types::Event {
    const NAME: &'static str = "event";
    const FIRST: usize = offset_of!(types::Event, document_length) + size_of::<usize>();
}

// SAFETY: as above.
unsafe impl Versioned for types::Options {
    const NAME: &'static str = "options";
    const FIRST: usize = offset_of!(types::Options, end_with_host) + size_of::<std::ffi::c_int>();
}

// SAFETY: as above.
unsafe impl Versioned for types::CallOptions {
    const NAME: &'static str = "call_options";
    const FIRST: usize = offset_of!(types::CallOptions, stderr_bytes) + size_of::<u64>();
}

/// A structure of the caller's version. Fields that the caller does not have are zero. Fields that this library does
/// not know must be zero. `None` for NULL.
///
/// # Safety
/// `pointer` is NULL or, if it is aligned, points to a `T` with as many bytes as its first field says, which do not change
/// meanwhile.
pub(super) unsafe fn structure<T: Versioned>(pointer: *const T) -> Result<Option<T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    if !pointer.is_aligned() {
        return Err(Failure::Misaligned(T::NAME));
    }
    // SAFETY: by the caller's promise a `usize` is there.
    let size = unsafe { pointer.cast::<usize>().read() };
    if !(T::FIRST..=LARGEST).contains(&size) {
        return Err(Failure::Size { name: T::NAME, given: size, expected: size_of::<T>() });
    }
    let known = size.min(size_of::<T>());
    // SAFETY: by the caller's promise there are `size` bytes.
    let unknown = unsafe { slice::from_raw_parts(pointer.cast::<u8>().add(known), size - known) };
    if unknown.iter().any(|&byte| byte != 0) {
        return Err(Failure::TooNew(T::NAME));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are there to read and to write; what is not written is zero, which is valid.
    unsafe {
        ptr::copy_nonoverlapping(pointer.cast::<u8>(), value.as_mut_ptr().cast::<u8>(), known);
        Ok(Some(value.assume_init()))
    }
}

/// A variable to write to. It may be uninitialized. `None` for NULL.
pub(super) fn place<T>(name: &'static str, pointer: *mut T) -> Result<Option<NonNull<T>>, Failure> {
    if pointer.is_aligned() { Ok(NonNull::new(pointer)) } else { Err(Failure::Misaligned(name)) }
}

/// A path, which may be any bytes.
///
/// # Safety
/// `text` is NULL or ends with a NUL byte, and does not change meanwhile.
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

/// The strings of an array, which NULL ends; none for NULL.
///
/// # Safety
/// `array` is NULL or has pointers up to a NULL. Each is as [`path`] asks, and the result lives as long.
unsafe fn strings<'a>(field: &'static str, mut array: *const *const c_char) -> Result<Vec<&'a str>, Failure> {
    let mut all = Vec::new();
    if !array.is_aligned() {
        return Err(Failure::Misaligned(field));
    }
    // SAFETY: the caller's promise; the last pointer that is read is the NULL.
    unsafe {
        while !array.is_null()
            && let Some(text) = utf8(field, array.read())?
        {
            all.push(text);
            array = array.add(1);
        }
    }
    Ok(all)
}

/// The event that C describes, with a copy of its document.
///
/// # Safety
/// As for `hookvisor_start`.
pub(super) unsafe fn event(event: *const types::Event) -> Result<Event, Failure> {
    // SAFETY: the caller's promise, for the structure and for what it points to.
    unsafe {
        let given = structure(event)?.ok_or(Failure::Missing("event"))?;
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
/// `document` is NULL or has `length` bytes, which do not change meanwhile.
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
    // A document that is too large for the memory must not abort the host.
    let mut copy = Vec::new();
    copy.try_reserve_exact(length).map_err(|_| Failure::DocumentOutOfMemory(length))?;
    // SAFETY: it is not NULL, has that many bytes by the caller's promise, and they are no more than a slice can have.
    copy.extend_from_slice(unsafe { slice::from_raw_parts(document.cast::<u8>(), length) });
    Ok(copy.into())
}

/// A builder with these options.
///
/// # Safety
/// As for `hookvisor_open`.
pub(super) unsafe fn configure(
    mut builder: RuntimeBuilder,
    options: *const types::Options,
) -> Result<RuntimeBuilder, Failure> {
    // SAFETY: the caller's promise, for the structure and for what it points to.
    unsafe {
        let Some(options) = structure(options)? else { return Ok(builder) };
        builder = builder.limits(limits(&options));
        if let Some(bound) = NonZeroUsize::new(usize::try_from(options.max_in_flight).unwrap_or(usize::MAX)) {
            builder = builder.max_in_flight(bound);
        }
        if options.end_with_host != 0 {
            builder = builder.end_with_host();
        }
        if !options.cancel.is_null() {
            let cancel = handles::cancel(options.cancel)?;
            builder = builder.cancel(&cancel);
        }
        if let Some(driver) = utf8("options.only_driver", options.only_driver)? {
            builder = builder.only_driver(driver);
        }
        if let Some(text) = utf8("options.conventions", options.conventions)? {
            let conventions = config::conventions(text).map_err(Failure::Conventions)?;
            builder = conventions.into_iter().fold(builder, RuntimeBuilder::convention);
        }
        if options.require_hooks != 0 {
            builder = builder.require_hooks();
        }
        builder = builder.confine_all(options.confine_all != 0);
        if !options.state_directory.is_null() {
            builder = builder.state_directory(path("options.state_directory", options.state_directory)?);
        }
        builder = builder.known_drivers(strings("options.known_drivers", options.known_drivers)?);
        if !options.compiler.is_null() {
            builder = with_compiler(builder, path("options.compiler", options.compiler)?)?;
        }
        if options.cache.is_null() { Ok(builder) } else { with_cache(builder, path("options.cache", options.cache)?) }
    }
}

#[cfg(feature = "wasm")]
fn with_cache(builder: RuntimeBuilder, directory: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Ok(builder.cache(crate::Cache::open(directory)?))
}

#[cfg(feature = "wasm")]
fn with_compiler(builder: RuntimeBuilder, program: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Ok(builder.compiler(crate::Compiler::program(program)))
}

#[cfg(not(feature = "wasm"))]
fn with_cache(_: RuntimeBuilder, _: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Err(Failure::NoWasm("options.cache"))
}

#[cfg(not(feature = "wasm"))]
fn with_compiler(_: RuntimeBuilder, _: PathBuf) -> Result<RuntimeBuilder, Failure> {
    Err(Failure::NoWasm("options.compiler"))
}

/// A call with these options.
///
/// # Safety
/// As for `hookvisor_start`.
pub(super) unsafe fn call(
    mut call: Invocation,
    options: *const types::CallOptions,
    limits: &Limits,
) -> Result<Invocation, Failure> {
    // SAFETY: the caller's promise.
    let Some(options) = (unsafe { structure(options) })? else { return Ok(call) };
    if options.within_ms != 0 {
        call = call.within(Duration::from_millis(options.within_ms));
    }
    if !options.cancel.is_null() {
        let cancel = handles::cancel(options.cancel)?;
        call = call.cancel(&cancel);
    }
    Ok(call.limits(Limits {
        timeout: time(options.timeout_ms, limits.timeout),
        grace: time(options.grace_ms, limits.grace),
        stdout: number(options.stdout_bytes, limits.stdout),
        stderr: number(options.stderr_bytes, limits.stderr),
        ..limits.clone()
    }))
}

fn time(ms: u64, otherwise: Duration) -> Duration {
    if ms == 0 { otherwise } else { Duration::from_millis(ms) }
}

fn number(value: u64, otherwise: usize) -> usize {
    if value == 0 { otherwise } else { usize::try_from(value).unwrap_or(usize::MAX) }
}

fn limits(options: &types::Options) -> Limits {
    let defaults = Limits::default();
    Limits {
        timeout: time(options.timeout_ms, defaults.timeout),
        grace: time(options.grace_ms, defaults.grace),
        slow: time(options.slow_ms, defaults.slow),
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
