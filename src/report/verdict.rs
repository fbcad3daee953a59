//! The answer to a start.

use std::fmt;

use super::{Decision, Report};

/// The answer to a start. Check it before you start the guest.
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
    /// A hook failed or could not be run.
    Vetoed(Veto),
}

impl Verdict {
    pub(crate) fn of(report: Report) -> Self {
        match report.decision {
            Decision::Vetoed => Self::Vetoed(Veto(Box::new(report))),
            Decision::Proceed | Decision::Notified => Self::Proceed(Box::new(report)),
        }
    }

    /// The report, for both answers.
    #[must_use]
    pub fn report(&self) -> &Report {
        match self {
            Self::Proceed(report) => report,
            Self::Vetoed(veto) => veto.report(),
        }
    }

    /// Converts it for `?`: the report of an allowed start, or the [`Veto`] as an error.
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

/// The error of a vetoed start. Its text is the text report, also when `main` returns it.
#[derive(Clone, thiserror::Error)]
#[error("{0}")]
pub struct Veto(Box<Report>);

impl fmt::Debug for Veto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Veto {
    /// The report.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// The report, owned.
    #[must_use]
    pub fn into_report(self) -> Report {
        *self.0
    }
}
