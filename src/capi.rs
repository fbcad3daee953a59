//! The C API: the functions declared in `include/hookvisor.h`. The documentation of these items is that of the header.
//!
//! Mistakes of a C caller are detected as far as possible:
//! - A handle is a number in the shape of a pointer. It is looked up and never followed, so a handle that is closed twice, used
//!   after it was closed, or made up is simply not found. A call keeps what it works with until it returns.
//! - Pointers to structures may be NULL and are checked for alignment, structures for their size, strings for UTF-8.
//! - A panic ends here, as an error and never as HOOKVISOR_PROCEED; errno is what it was before the call.
#![allow(
    unsafe_code,
    reason = "the callers' pointers have to be followed, and the functions to have names that C can call"
)]
#![expect(clippy::missing_safety_doc, reason = "the beginning of hookvisor.h says what holds for every function")]

mod call;
mod cancel;
mod handles;
mod input;
mod log;
mod read;
mod report;
mod types;

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use crate::report::Report as RustReport;
use crate::report::verdict::Verdict as RustVerdict;
use crate::runtime::Runtime as RustRuntime;
use crate::runtime::call::Invocation;

use self::call::{Failure, guarded};
pub use self::cancel::{hookvisor_cancel_free, hookvisor_cancel_kill, hookvisor_cancel_new, hookvisor_cancel_throw};
use self::handles::{REPORTS, RUNTIMES, TEXTS};
pub use self::read::{
    hookvisor_report_document, hookvisor_report_exit_status, hookvisor_report_free, hookvisor_report_json,
    hookvisor_report_text, hookvisor_report_verdict, hookvisor_text_free, hookvisor_text_get,
};
use self::report::{StoredReport, Text as StoredText};
pub use self::types::{
    CallOptions, Cancel, Error, Event, HOOKVISOR_ERROR_SIZE, LogFunction, LogLevel, LogRecord, LogTopic, Options,
    Report, Runtime, Text, Verdict,
};

/// hookvisor_open:
/// @directory: the hooks directory
/// @options: how hooks are called, or NULL for the defaults
/// @error: where a failure is explained, or NULL
///
/// Opens a hooks directory: finds, checks and (WebAssembly) compiles the hooks. A hook that cannot be called is not a failure: it
/// vetoes the starts that it would have been called for. The arguments may be freed afterwards.
///
/// Returns the runtime, which hookvisor_close() frees, or NULL if the directory cannot be read, others may write to it, or an
/// argument is wrong.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_open(
    directory: *const c_char,
    options: *const Options,
    error: *mut Error,
) -> *mut Runtime {
    // SAFETY: the caller keeps to the beginning of the header.
    let opened = unsafe {
        guarded(error, || {
            let builder = input::configure(RustRuntime::builder(input::path("directory", directory)?), options)?;
            Ok(RUNTIMES.add(builder.build()?))
        })
    };
    opened.map_or(ptr::null_mut(), ptr::without_provenance_mut)
}

/// hookvisor_start:
/// @runtime: an open runtime
/// @event: what is about to start
/// @options: options for this call, or NULL
/// @report: where the report goes, or NULL
/// @error: where the reason of a refusal goes, or NULL
///
/// Asks the hooks whether a guest may start. Blocks until the hooks have ended, within their limits. Start the guest only if this
/// returns HOOKVISOR_PROCEED; otherwise @error has the hooks' words, or says what is wrong with the call.
///
/// *@report has to be freed with hookvisor_report_free(); it is NULL after HOOKVISOR_ERROR. @report may be NULL unless a hook
/// rewrites the event's document, since ignoring that document is an error. The other arguments may be freed afterwards.
///
/// Returns HOOKVISOR_PROCEED, HOOKVISOR_VETOED or HOOKVISOR_ERROR.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_start(
    runtime: *const Runtime,
    event: *const Event,
    options: *const CallOptions,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { ask(runtime, event, options, report, error, start) }
}

/// hookvisor_shutdown:
/// @runtime: an open runtime
/// @event: what has stopped
/// @options: options for this call, or NULL
/// @report: where the report goes, or NULL
/// @error: where failures go, or NULL
///
/// Tells the hooks that a guest has stopped. Every hook is called, also after one has failed; @error then names the failures. The
/// arguments are those of hookvisor_start().
///
/// Returns HOOKVISOR_NOTIFIED, or HOOKVISOR_ERROR if no hook was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_shutdown(
    runtime: *const Runtime,
    event: *const Event,
    options: *const CallOptions,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { ask(runtime, event, options, report, error, Invocation::shutdown) }
}

/// hookvisor_stopped:
/// @runtime: an open runtime
/// @event: the start of the guest that has stopped
/// @options: options for this call, or NULL
/// @report: where the report goes, or NULL
/// @error: where failures go, or NULL
///
/// Tells the hooks that a guest has stopped, as hookvisor_shutdown() does. The operation is the one by which the driver's convention
/// announces the end of a guest: "stopped", or its `ended_by`. The event's own operation, sub-operation and extra are not used.
///
/// Returns HOOKVISOR_NOTIFIED, or HOOKVISOR_ERROR if no hook was called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_stopped(
    runtime: *const Runtime,
    event: *const Event,
    options: *const CallOptions,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { ask(runtime, event, options, report, error, |call| call.of_the_end().shutdown()) }
}

/// hookvisor_run:
/// @runtime: an open runtime
/// @event: what is about to happen, or has happened
/// @options: options for this call, or NULL
/// @report: where the report goes, or NULL
/// @error: where failures go, or NULL
///
/// Calls the hooks as hookvisor_start() or as hookvisor_shutdown() does, whichever the driver's convention says for the operation.
///
/// Returns what that function returns.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_run(
    runtime: *const Runtime,
    event: *const Event,
    options: *const CallOptions,
    report: *mut *mut Report,
    error: *mut Error,
) -> Verdict {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { ask(runtime, event, options, report, error, Invocation::run) }
}

/// hookvisor_reload:
/// @runtime: an open runtime
/// @inventory: where the new inventory goes, or NULL; see hookvisor_inventory()
/// @error: where a failure is explained, or NULL
///
/// Loads the hooks again, all or none. Running calls end with the hooks that they began with.
///
/// Returns true, or false if the hooks are the same as before.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_reload(
    runtime: *const Runtime,
    inventory: *mut *mut Text,
    error: *mut Error,
) -> bool {
    // SAFETY: the caller keeps to the beginning of the header.
    let reloaded = unsafe {
        guarded(error, || {
            let inventory = input::place("inventory", inventory)?;
            if let Some(inventory) = inventory {
                inventory.write(ptr::null_mut());
            }
            let hooks = handles::runtime(runtime)?;
            hooks.reload()?;
            if let Some(inventory) = inventory {
                inventory.write(ptr::without_provenance_mut(list(&hooks)));
            }
            Ok(())
        })
    };
    reloaded.is_some()
}

/// hookvisor_inventory:
/// @runtime: an open runtime
/// @error: where a failure is explained, or NULL
///
/// Lists the files of the hooks directory and how each is treated, as one line of JSON: the same as `hookvisor list --format json`.
///
/// Returns the text, which hookvisor_text_free() frees, or NULL if the runtime is not open.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_inventory(runtime: *const Runtime, error: *mut Error) -> *mut Text {
    // SAFETY: the caller keeps to the beginning of the header.
    let listed = unsafe { guarded(error, || handles::runtime(runtime).map(|hooks| list(&hooks))) };
    listed.map_or(ptr::null_mut(), ptr::without_provenance_mut)
}

/// hookvisor_close:
/// @runtime: an open runtime
/// @error: where a failure is explained, or NULL
///
/// Closes a runtime. Calls that run in other threads end normally; the last one frees it.
///
/// Returns true, or false if the runtime is not open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_close(runtime: *mut Runtime, error: *mut Error) -> bool {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { guarded(error, || handles::close(runtime)) }.is_some()
}

/// hookvisor_log_to:
/// @function: gets the records, or NULL for none
/// @data: passed to the function
/// @level: a hookvisor_log_level: the least important records that it gets
/// @error: where a failure is explained, or NULL
///
/// Passes what hookvisor logs to a function, for all runtimes of this process, and tells it when hooks start and end. At first
/// nothing is logged. The function is called by the threads that call hooks, several at once; it must return normally. Records that
/// it causes itself by calling hookvisor are dropped. Once this returns, a former function is no longer running.
///
/// Returns true, or false if it is called from the function itself, or another library has taken over the process's logging.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_log_to(
    function: LogFunction,
    data: *mut c_void,
    level: c_int,
    error: *mut Error,
) -> bool {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { guarded(error, || log::set(function, data, LogLevel::of(level)?)) }.is_some()
}

/// hookvisor_version:
///
/// Returns the library's version, such as "0.1.0". The string is never freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The handle of a runtime's inventory.
fn list(hooks: &RustRuntime) -> usize {
    let json = serde_json::to_string(&hooks.inventory());
    // Serializing strings, numbers and lists does not fail.
    TEXTS.add(StoredText::new(json.unwrap_or_default().into_bytes()))
}

/// Runs an event and keeps its report for the caller.
///
/// # Safety
/// As for `hookvisor_start`.
unsafe fn ask(
    runtime: *const Runtime,
    event: *const Event,
    options: *const CallOptions,
    report: *mut *mut Report,
    error: *mut Error,
    run: impl FnOnce(Invocation) -> RustReport,
) -> Verdict {
    // SAFETY: the caller keeps to what hookvisor_start asks; what is written to are its own variables, checked for NULL.
    unsafe {
        let asked = guarded(error, || {
            let report = input::place("report", report)?;
            if let Some(report) = report {
                report.write(ptr::null_mut());
            }
            let hooks = handles::runtime(runtime)?;
            let event = input::event(event)?;
            let call = input::call(hooks.call(&event), options, hooks.limits())?;
            let stored = StoredReport::new(run(call));
            call::tell(error, stored.text().bytes());
            let verdict = stored.verdict();
            match report {
                Some(report) => report.write(ptr::without_provenance_mut(REPORTS.add(stored))),
                None if stored.report.document.is_some() => return Err(Failure::DocumentUnseen),
                None => {}
            }
            Ok(verdict)
        });
        asked.unwrap_or(Verdict::HookvisorError)
    }
}

fn start(call: Invocation) -> RustReport {
    match call.start() {
        RustVerdict::Proceed(report) => *report,
        RustVerdict::Vetoed(veto) => veto.into_report(),
    }
}
