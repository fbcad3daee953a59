//! A report that C holds, and the strings that it reads of it.

use std::ffi::c_char;
use std::sync::OnceLock;

use super::types::Verdict;
use crate::report::{Decision, Report};

/// Made when they are first asked for, the strings stay until this is dropped.
pub(super) struct StoredReport {
    pub(super) report: Report,
    text: OnceLock<Text>,
    json: OnceLock<Text>,
    document: OnceLock<Option<Text>>,
}

impl StoredReport {
    pub(super) fn new(mut report: Report) -> Self {
        // C has the event's document already, and it can be large.
        report.event = report.event.with_document("");
        Self { report, text: OnceLock::new(), json: OnceLock::new(), document: OnceLock::new() }
    }

    pub(super) fn verdict(&self) -> Verdict {
        match self.report.decision {
            Decision::Proceed => Verdict::HookvisorProceed,
            Decision::Vetoed => Verdict::HookvisorVetoed,
            Decision::Notified => Verdict::HookvisorNotified,
        }
    }

    pub(super) fn text(&self) -> &Text {
        self.text.get_or_init(|| Text::new(self.report.to_text()))
    }

    pub(super) fn json(&self) -> &Text {
        self.json.get_or_init(|| Text::new(self.report.to_json().into_bytes()))
    }

    pub(super) fn document(&self) -> Option<&Text> {
        self.document.get_or_init(|| Some(Text::of(self.report.document.as_ref()?))).as_ref()
    }
}

/// Bytes, and a NUL byte after them.
pub(super) struct Text(Box<[u8]>);

impl Text {
    pub(super) fn new(mut bytes: Vec<u8>) -> Self {
        bytes.push(0);
        Self(bytes.into_boxed_slice())
    }

    /// A copy with its size from the beginning, since a document can be large.
    fn of(bytes: &[u8]) -> Self {
        let mut copy = Vec::with_capacity(bytes.len() + 1);
        copy.extend_from_slice(bytes);
        Self::new(copy)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.split_last().map_or(&[], |(_, bytes)| bytes)
    }

    pub(super) fn pointer(&self) -> *const c_char {
        self.0.as_ptr().cast()
    }
}
