//! How a hook's call ended.

use std::fmt;
use std::time::Duration;

use crate::hook::error::LaunchError;
use crate::limits::Expired;

/// How a hook's call ended.
///
/// ```
/// use hookvisor::Termination;
///
/// let killed = Termination::Signaled { signal: 9, name: "SIGKILL".to_owned() };
/// assert_eq!((killed.exit_status(), killed.name(), killed.is_success()), (137, "signaled", false));
/// assert_eq!(killed.to_string(), "killed by signal 9 (SIGKILL)");
/// ```
///
/// Exit statuses follow the POSIX shell, timeout(1) and abort(3).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Termination {
    /// It exited with this status: `WEXITSTATUS` of a process, or the argument of WASI's `proc_exit`.
    Exited(u8),
    /// A signal killed it.
    Signaled {
        /// The signal's number (`WTERMSIG`).
        signal: i32,
        /// Its name, such as `SIGKILL`.
        name: String,
    },
    /// It timed out and was stopped.
    TimedOut {
        /// The timeout.
        after: Duration,
        /// Whether this was the limit of the whole call ([`within`](crate::Invocation::within)) and not the hook's own.
        of_call: bool,
    },
    /// A wasm trap ended it: the trap's name and the guest's functions, innermost first.
    Trapped(String),
    /// It never ran.
    NotLaunched(LaunchError),
    /// It exited with 0, but what it wrote cannot be used.
    Rejected(String),
    /// It ran, but its exit status is unavailable.
    Lost(String),
    /// It was stopped, or not called at all, because of a [`Cancel`](crate::Cancel).
    Cancelled,
}

impl Termination {
    /// The exit status as a shell reports it: the hook's own; 128 + the signal's number; 124 for a timeout; 134 for a trap;
    /// 127, 126 or 125 for a hook that did not run.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Exited(status) => *status,
            Self::Signaled { signal, .. } => u8::try_from(128 + signal).unwrap_or(u8::MAX),
            Self::TimedOut { .. } => 124,
            Self::Trapped(_) => 134,
            Self::NotLaunched(error) => error.exit_status(),
            Self::Rejected(_) => 1,
            Self::Lost(_) | Self::Cancelled => 125,
        }
    }

    /// Whether the hook exited with 0. Nothing else is a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exited(0)
    }

    /// The stable name in the JSON form.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Exited(_) => "exited",
            Self::Signaled { .. } => "signaled",
            Self::TimedOut { .. } => "timed-out",
            Self::Trapped(_) => "trapped",
            Self::NotLaunched(_) => "not-launched",
            Self::Rejected(_) => "rejected",
            Self::Lost(_) => "lost",
            Self::Cancelled => "cancelled",
        }
    }
}

/// The part of the report's sentence after the hook's name.
impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "failed with error code {status}"),
            Self::Signaled { signal, name } => write!(f, "killed by signal {signal} ({name})"),
            Self::TimedOut { after, of_call: false } => {
                write!(f, "timed out after {}", humantime::format_duration(*after))
            }
            Self::TimedOut { after, of_call: true } => {
                write!(f, "was stopped: the call's limit of {} was used up", humantime::format_duration(*after))
            }
            Self::Trapped(what) => write!(f, "trapped: {what}"),
            Self::NotLaunched(error) => write!(f, "could not be run: {error}"),
            Self::Rejected(why) => write!(f, "was refused: {why}"),
            Self::Lost(why) => write!(f, "ended, but its exit status is unavailable: {why}"),
            Self::Cancelled => f.write_str("was interrupted"),
        }
    }
}

impl From<Expired> for Termination {
    fn from(expired: Expired) -> Self {
        match expired {
            Expired::TimedOut { after } => Self::TimedOut { after, of_call: false },
            Expired::Cancelled => Self::Cancelled,
        }
    }
}
