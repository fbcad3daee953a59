//! The C API: the functions that `include/hookvisor.h` declares, whose text is the documentation of these items.
//!
//! What C can get wrong is answered, not trusted, as far as it can be seen:
//! - A handle is a number in a pointer's clothes, looked up and never followed. Closed twice, used after it was closed, or
//!   made up, it is simply not there. A call keeps what it works with until it returns.
//! - Pointers to structures may be NULL, and are looked at for alignment; strings for UTF-8.
//! - A panic ends here, as an error and never as leave to proceed; errno is what it was before the call.
#![allow(
    unsafe_code,
    reason = "the callers' pointers have to be followed, and the functions to have names that C can call"
)]

mod call;
mod handles;
mod input;
mod report;
mod types;

use std::ffi::{c_char, c_int};
use std::ptr;

use crate::event::Event as RustEvent;
use crate::report::Report as RustReport;
use crate::report::verdict::Verdict as RustVerdict;
use crate::runtime::Runtime as RustRuntime;

use self::call::{Failure, guarded};
use self::handles::{REPORTS, RUNTIMES};
use self::report::Kept;
pub use self::types::{Error, Event, HOOKVISOR_ERROR_SIZE, Options, Report, Runtime, Verdict};

/// Opens a directory of hooks: they are found, checked and (WebAssembly) compiled.
///
/// A hook that cannot be run does not fail this: it vetoes the starts that it would have been asked about. `options` may be
/// NULL, for the defaults.
///
/// Returns the runtime, to be given to `hookvisor_close`, or NULL if the directory cannot be read, others may write to it, or
/// an argument is wrong. `directory` and `options` are not kept.
///
/// # Safety
/// `directory` and the strings in `options` are NULL or end with a NUL byte; `options` and `error` are NULL or point to a
/// structure of their type.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_open(
    directory: *const c_char,
    options: *const Options,
    error: *mut Error,
) -> *mut Runtime {
    // SAFETY: the caller keeps to what is said above.
    let opened = unsafe {
        guarded(error, || {
            let mut builder = RustRuntime::builder(input::path("directory", directory)?);
            if let Some(options) = input::structure("options", options)? {
                builder = input::configure(builder, options)?;
            }
            Ok(RUNTIMES.add(builder.build()?))
        })
    };
    opened.map_or(ptr::null_mut(), ptr::without_provenance_mut)
}

/// Asks the hooks, before something is started, whether it may be. Blocks until they have ended, within their limits.
///
/// Go on only after `HOOKVISOR_PROCEED`. `error->message` then is empty, and else says why not: what the hooks said, or what
/// is wrong with the call.
///
/// `*report` becomes the report, to be given to `hookvisor_report_free`, or NULL after `HOOKVISOR_ERROR`. `report` may be
/// NULL, but for an event whose document a hook has rewritten: to go on without looking at that is an error. `event` and
/// what it points to are not kept.
///
/// # Safety
/// `event`, `report` and `error` are NULL or point to a structure of their type; the strings in `event` are NULL or end with a
/// NUL byte, and `event->document` has `event->document_length` bytes, which nobody changes during the call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_start(
    runtime: *const Runtime,
    event: *const Event,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to what is said above.
    unsafe { ask(runtime, event, report, error, start) }
}

/// Tells the hooks that something has been stopped. Every hook is called, whatever the others did.
///
/// Returns `HOOKVISOR_NOTIFIED`, also where hooks failed: `error->message` then says which and how, and else is empty; or
/// `HOOKVISOR_ERROR` if no hook was told. Everything else is as for `hookvisor_start`.
///
/// # Safety
/// As for `hookvisor_start`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_shutdown(
    runtime: *const Runtime,
    event: *const Event,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to what is said above.
    unsafe { ask(runtime, event, report, error, RustRuntime::shutdown) }
}

/// Runs an event in the stage that its driver's convention puts its operation in: as `hookvisor_start`, or as
/// `hookvisor_shutdown`.
///
/// # Safety
/// As for `hookvisor_start`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_run(
    runtime: *const Runtime,
    event: *const Event,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to what is said above.
    unsafe { ask(runtime, event, report, error, RustRuntime::run) }
}

/// Looks for hooks again. Calls that are under way end with the hooks that they began with.
///
/// Returns whether it was done. If not, the hooks are what they were before, and `error->message` says why.
///
/// # Safety
/// `error` is NULL or points to a structure of its type.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_reload(runtime: *const Runtime, error: *mut Error) -> bool {
    // SAFETY: the caller keeps to what is said above.
    unsafe { guarded(error, || Ok(handles::runtime(runtime)?.reload()?)) }.is_some()
}

/// Closes a runtime. Calls that are under way in other threads end as they would have; the last one of them frees it.
///
/// Returns false, and does nothing, if the runtime is none that is open: NULL, or one that was closed before.
///
/// # Safety
/// `error` is NULL or points to a structure of its type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_close(runtime: *mut Runtime, error: *mut Error) -> bool {
    // SAFETY: the caller keeps to what is said above.
    unsafe { guarded(error, || handles::close(runtime)) }.is_some()
}

/// The verdict that a report is about; `HOOKVISOR_ERROR` if it is no report, or one that was freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_verdict(report: *const Report) -> Verdict {
    of_report(report, |kept| Some(kept.verdict())).unwrap_or(Verdict::HookvisorError)
}

/// The exit status of the first hook that failed, as a shell would give it, 0 where none did; -1 if it is no report, or
/// one that was freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_exit_status(report: *const Report) -> c_int {
    of_report(report, |kept| Some(kept.report.exit_status().into())).unwrap_or(-1)
}

/// The report as text: a line or more for each failure, empty where there is none. It holds what the hooks wrote to stderr as
/// they wrote it, which need not be UTF-8.
///
/// Returns a string that belongs to the report and goes with it: do not free it. NULL if it is no report, or one that was
/// freed. `*length` becomes its length, without the NUL byte at its end; `length` may be NULL.
///
/// # Safety
/// `length` is NULL or points to a `size_t`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_text(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to what is said above.
    unsafe { string_of(report, length, |kept| Some(kept.text())) }
}

/// The report as one line of JSON, in UTF-8. The README describes its fields.
///
/// Returns a string as `hookvisor_report_text` does.
///
/// # Safety
/// `length` is NULL or points to a `size_t`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_json(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to what is said above.
    unsafe { string_of(report, length, |kept| Some(kept.json())) }
}

/// The document as the hooks of a filter operation made it: what is to be used from now on. It may hold NUL bytes.
///
/// Returns a string as `hookvisor_report_text` does; NULL also where no hook changed the document.
///
/// # Safety
/// `length` is NULL or points to a `size_t`.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_document(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to what is said above.
    unsafe { string_of(report, length, Kept::document) }
}

/// Frees a report and the strings that belong to it.
///
/// Returns false, and does nothing, if it is no report: NULL, or one that was freed before.
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_free(report: *mut Report) -> bool {
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), || if REPORTS.remove(report.addr()) { Ok(()) } else { Err(Failure::NoReport) }) }
        .is_some()
}

/// The library's version, such as "0.1.0". The string is never freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Runs an event and keeps its report for the caller.
///
/// # Safety
/// As for `hookvisor_start`.
unsafe fn ask(
    runtime: *const Runtime,
    event: *const Event,
    report: *mut *mut Report,
    error: *mut Error,
    run: impl FnOnce(&RustRuntime, &RustEvent) -> RustReport,
) -> Verdict {
    // SAFETY: the caller keeps to what hookvisor_start asks; what is written to are its own variables, looked at for NULL.
    unsafe {
        let asked = guarded(error, || {
            let report = input::place("report", report)?;
            if let Some(report) = report {
                report.write(ptr::null_mut());
            }
            let hooks = handles::runtime(runtime)?;
            let event = input::event(event)?;
            let kept = Kept::new(run(&hooks, &event));
            call::tell(error, kept.text().bytes());
            let verdict = kept.verdict();
            match report {
                Some(report) => report.write(ptr::without_provenance_mut(REPORTS.add(kept))),
                None if kept.report.document.is_some() => return Err(Failure::DocumentUnseen),
                None => {}
            }
            Ok(verdict)
        });
        asked.unwrap_or(Verdict::HookvisorError)
    }
}

fn start(hooks: &RustRuntime, event: &RustEvent) -> RustReport {
    match hooks.start(event) {
        RustVerdict::Proceed(report) => *report,
        RustVerdict::Vetoed(veto) => veto.into_report(),
    }
}

fn of_report<T>(report: *const Report, read: impl FnOnce(&Kept) -> Option<T>) -> Option<T> {
    let read = || Ok(read(&*REPORTS.get(report.addr()).ok_or(Failure::NoReport)?));
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), read) }.flatten()
}

/// # Safety
/// `length` is NULL or points to a `size_t`.
unsafe fn string_of(
    report: *const Report,
    length: *mut usize,
    read: impl FnOnce(&Kept) -> Option<&report::Text>,
) -> *const c_char {
    // The text stays where it is until the report is freed, which is what the caller is told.
    let found = of_report(report, |kept| read(kept).map(|text| (text.pointer(), text.bytes().len())));
    let (pointer, bytes) = found.unwrap_or((ptr::null(), 0));
    if let Ok(Some(length)) = input::place("length", length) {
        // SAFETY: it is the caller's variable, by the promise above.
        unsafe { length.write(bytes) };
    }
    pointer
}
