//! What a supervisor does next, as a function of what it sees: no clock, no process.

use std::time::{Duration, Instant};

use crate::limits::Expired;

/// How long a process may take to end after SIGKILL before the caller goes on without it.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(2);

/// How far a call is. A moment that is `None` is further away than the clock can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The hook runs and has time left.
    Running,
    /// Its process group has been asked to end, and is killed at that moment.
    Terminating { kill_at: Option<Instant> },
    /// Its process group has been killed, and is given up at that moment.
    Killed { give_up_at: Option<Instant> },
    /// It has exited. Its background processes may hold its streams until that moment.
    Exited { leave_at: Option<Instant> },
}

/// What a supervisor sees at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) now: Instant,
    /// The hook's own process has ended.
    pub(super) exited: bool,
    /// Nobody holds the hook's stdout or stderr any more.
    pub(super) streams_closed: bool,
    /// The time is up, or the call is cancelled.
    pub(super) expired: Option<Expired>,
    /// The host wants no grace.
    pub(super) at_once: bool,
    /// No process of the hook's group runs any more. It matters once the hook has exited while terminating.
    pub(super) group_ended: bool,
}

/// How long a call's phases may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) grace: Duration,
    pub(super) leak_wait: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Sleep until something happens, or until that moment.
    Wait { until: Option<Instant> },
    /// Ask the process group to end, for this reason.
    Terminate(Expired),
    /// Kill the process group.
    Kill,
    /// Make the report.
    Finish,
}

impl Phase {
    /// Takes one step: the next phase, and what to do. After anything but [`Act::Wait`], the next step is due at once.
    pub(super) fn step(self, seen: &Seen, waits: Waits) -> (Self, Act) {
        let now = seen.now;
        let exited = Self::Exited { leave_at: now.checked_add(waits.leak_wait) };
        match self {
            Self::Running if seen.exited => exited.step(seen, waits),
            Self::Running => match seen.expired {
                None => (self, Act::Wait { until: None }),
                Some(expired) => (Self::Terminating { kill_at: now.checked_add(waits.grace) }, Act::Terminate(expired)),
            },
            // A leader that has ended is not reaped before its group is killed: so the group's number cannot pass to
            // somebody else. The rest of the group has its grace all the same.
            Self::Terminating { kill_at } => {
                let group_ended = seen.exited && seen.group_ended;
                if group_ended || seen.at_once || kill_at.is_some_and(|at| now >= at) {
                    (Self::Killed { give_up_at: now.checked_add(KILL_WAIT) }, Act::Kill)
                } else {
                    (self, Act::Wait { until: kill_at })
                }
            }
            Self::Killed { .. } if seen.exited => exited.step(seen, waits),
            Self::Killed { give_up_at } if give_up_at.is_some_and(|at| now >= at) => (self, Act::Finish),
            Self::Killed { give_up_at } => (self, Act::Wait { until: give_up_at }),
            Self::Exited { leave_at } if seen.streams_closed || leave_at.is_some_and(|at| now >= at) => {
                (self, Act::Finish)
            }
            Self::Exited { leave_at } => (self, Act::Wait { until: leave_at }),
        }
    }
}

#[cfg(test)]
mod tests;
