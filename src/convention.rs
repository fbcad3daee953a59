//! How a family of daemons names its events: pure data.
//!
//! A convention says which operations a driver has, which stage each belongs to, and what is to happen after a veto. A
//! new one is a file beside these and one line in [`of_driver`].

mod generic;
mod libvirt;

pub use self::libvirt::LIBVIRT_DRIVERS;

use crate::document::Format;
use crate::event::Stage;

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
    const fn start(sub_operation: &'static str) -> Self {
        Self { stage: Stage::Start, filter: None, sub_operation }
    }

    const fn filter(sub_operation: &'static str, format: Format) -> Self {
        Self { stage: Stage::Start, filter: Some(format), sub_operation }
    }

    const fn shutdown(sub_operation: &'static str) -> Self {
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
    rules: fn(driver: &str, operation: &str) -> Option<Operation>,
}

impl Convention {
    /// What is known of an operation. One that is not known is a plain start operation: its hooks can veto.
    pub(crate) fn operation(&self, driver: &str, operation: &str) -> Operation {
        (self.rules)(driver, operation).unwrap_or(const { Operation::start("-") })
    }
}

/// The convention that claims this driver.
pub(crate) fn of_driver(driver: &str) -> &'static Convention {
    let claims = |c: &&&'static Convention| c.drivers.contains(&driver);
    [&libvirt::LIBVIRT].iter().find(claims).copied().unwrap_or(&generic::GENERIC)
}
