//! What a convention says.

use crate::document::Format;
use crate::stage::Stage;

/// What a convention says of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operation {
    /// The stage it belongs to.
    pub(crate) stage: Stage,
    /// Whether its hooks may replace the document, and by what.
    pub(crate) filter: Option<Format>,
    /// The sub-operation it comes with, `-` for none.
    pub(crate) sub_operation: &'static str,
}

impl Operation {
    pub(super) const fn start(sub_operation: &'static str) -> Self {
        Self { stage: Stage::Start, filter: None, sub_operation }
    }

    pub(super) const fn filter(sub_operation: &'static str, format: Format) -> Self {
        Self { stage: Stage::Start, filter: Some(format), sub_operation }
    }

    pub(super) const fn shutdown(sub_operation: &'static str) -> Self {
        Self { stage: Stage::Shutdown, filter: None, sub_operation }
    }
}

/// Which of a start event's hooks still run after one of them has vetoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterVeto {
    /// None of them.
    Stop,
    /// All of them, the first failure standing.
    RunAll,
}

/// A family of daemons and its events.
#[derive(Debug)]
pub(crate) struct Convention {
    /// The drivers it claims; empty for the one that takes what is left.
    pub(crate) drivers: &'static [&'static str],
    pub(crate) after_veto: AfterVeto,
    pub(super) rules: fn(driver: &str, operation: &str) -> Option<Operation>,
}

impl Convention {
    /// What is known of an operation. One that is not known is a plain start operation: its hooks can veto.
    pub(crate) fn operation(&self, driver: &str, operation: &str) -> Operation {
        (self.rules)(driver, operation).unwrap_or(const { Operation::start("-") })
    }
}
