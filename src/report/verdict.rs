//! The answer to a start.

use std::fmt;

use super::{Decision, Report};

/// The answer to a start. It has to be looked at: going on without is what hooks exist to prevent.
///
/// ```
/// # fn start(runtime: &hookvisor::Runtime, event: &hookvisor::Event) -> Result<(), hookvisor::Veto> {
/// let report = runtime.start(event).into_result()?;
/// // … start the guest, with `report.document` if a filter changed it
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a hook may have vetoed the start"]
pub enum Verdict {
    /// Every hook agreed.
    Proceed(Box<Report>),
    /// A hook refused, or could not be asked.
    Vetoed(Veto),
}

impl Verdict {
    pub(crate) fn of(report: Report) -> Self {
        match report.decision {
            Decision::Vetoed => Self::Vetoed(Veto(Box::new(report))),
            Decision::Proceed | Decision::Notified => Self::Proceed(Box::new(report)),
        }
    }

    /// The report, whichever way it went.
    #[must_use]
    pub fn report(&self) -> &Report {
        match self {
            Self::Proceed(report) => report,
            Self::Vetoed(veto) => veto.report(),
        }
    }

    /// For `?`: the report of a start that may go on, or the [`Veto`] as an error.
    ///
    /// # Errors
    /// [`Veto`] if the start was vetoed.
    pub fn into_result(self) -> Result<Report, Veto> {
        match self {
            Self::Proceed(report) => Ok(*report),
            Self::Vetoed(veto) => Err(veto),
        }
    }
}

/// A start that must not go on. As an error, it reads as the text report, also where a `main` returns it.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
pub struct Veto(Box<Report>);

impl fmt::Debug for Veto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Veto {
    /// What the hooks said.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// What the hooks said, owned.
    #[must_use]
    pub fn into_report(self) -> Report {
        *self.0
    }
}
