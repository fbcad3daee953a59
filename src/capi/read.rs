//! Reading reports and texts.

use std::ffi::{c_char, c_int};
use std::ptr;

use super::call::{Failure, guarded};
use super::handles::{REPORTS, TEXTS, removed};
use super::input;
use super::report::{self, StoredReport};
use super::types::{Report, Text, Verdict};

/// hookvisor_report_verdict:
/// @report: a report
///
/// Returns the report's verdict, or HOOKVISOR_ERROR if @report is not a report or was freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_verdict(report: *const Report) -> Verdict {
    of_report(report, |kept| Some(kept.verdict())).unwrap_or(Verdict::HookvisorError)
}

/// hookvisor_report_exit_status:
/// @report: a report
///
/// Returns the exit status of the first hook that failed, as a shell has it, or 0 if none did; -1 if @report is not a report or was
/// freed.
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_exit_status(report: *const Report) -> c_int {
    of_report(report, |kept| Some(kept.report.exit_status().into())).unwrap_or(-1)
}

/// hookvisor_report_text:
/// @report: a report
/// @length: where the number of bytes goes, without the NUL byte at the end, or NULL
///
/// Returns the report for a person, at least one line for each failure, empty if nothing failed. It has the hooks' stderr as they
/// wrote it, which may not be UTF-8. The string belongs to the report: do not free it, and do not use it after
/// hookvisor_report_free(). NULL if @report is not a report or was freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_text(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { string_of(report, length, |kept| Some(kept.text())) }
}

/// hookvisor_report_json:
/// @report: a report
/// @length: where the number of bytes goes, or NULL
///
/// Returns the report as one line of JSON in UTF-8, otherwise as hookvisor_report_text(). The book's reference describes its fields.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_json(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { string_of(report, length, |kept| Some(kept.json())) }
}

/// hookvisor_report_document:
/// @report: a report
/// @length: where the number of bytes goes, or NULL
///
/// Returns the document that the hooks of a filter operation made, which replaces the event's; otherwise as
/// hookvisor_report_text(). It may contain NUL bytes. NULL also if no hook changed the document.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_report_document(report: *const Report, length: *mut usize) -> *const c_char {
    // SAFETY: the caller keeps to the beginning of the header.
    unsafe { string_of(report, length, StoredReport::document) }
}

/// hookvisor_report_free:
/// @report: a report
///
/// Frees a report and its strings.
///
/// Returns true, or false if @report is not a report or was freed before.
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_report_free(report: *mut Report) -> bool {
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), || removed(&REPORTS, report.addr(), Failure::NoReport)) }.is_some()
}

/// hookvisor_text_get:
/// @text: a text
/// @length: where the number of bytes goes, without the NUL byte at the end, or NULL
///
/// Returns the text's string, which hookvisor_text_free() frees; NULL if @text is not a text or was freed.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hookvisor_text_get(text: *const Text, length: *mut usize) -> *const c_char {
    let read = || TEXTS.get(text.addr()).map(|text| (text.pointer(), text.bytes().len())).ok_or(Failure::NoText);
    // SAFETY: there is no error to write to; the caller keeps to the beginning of the header.
    unsafe { give(guarded(ptr::null_mut(), read), length) }
}

/// hookvisor_text_free:
/// @text: a text
///
/// Frees a text.
///
/// Returns true, or false if @text is not a text or was freed before.
#[unsafe(no_mangle)]
pub extern "C" fn hookvisor_text_free(text: *mut Text) -> bool {
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), || removed(&TEXTS, text.addr(), Failure::NoText)) }.is_some()
}

fn of_report<T>(report: *const Report, read: impl FnOnce(&StoredReport) -> Option<T>) -> Option<T> {
    let read = || Ok(read(&*REPORTS.get(report.addr()).ok_or(Failure::NoReport)?));
    // SAFETY: there is no error to write to.
    unsafe { guarded(ptr::null_mut(), read) }.flatten()
}

/// # Safety
/// `length` is NULL or points to a `size_t`.
unsafe fn string_of(
    report: *const Report,
    length: *mut usize,
    read: impl FnOnce(&StoredReport) -> Option<&report::Text>,
) -> *const c_char {
    // The text stays where it is until the report is freed.
    let found = of_report(report, |kept| read(kept).map(|text| (text.pointer(), text.bytes().len())));
    // SAFETY: the caller's promise.
    unsafe { give(found, length) }
}

/// # Safety
/// `length` is NULL or points to a `size_t`.
unsafe fn give(found: Option<(*const c_char, usize)>, length: *mut usize) -> *const c_char {
    let (pointer, bytes) = found.unwrap_or((ptr::null(), 0));
    if let Ok(Some(length)) = input::place("length", length) {
        // SAFETY: it is the caller's variable.
        unsafe { length.write(bytes) };
    }
    pointer
}
