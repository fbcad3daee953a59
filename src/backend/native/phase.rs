//! Decides what a supervisor does next. A pure function: no clock, no process.

use std::time::{Duration, Instant};

use crate::limits::Expired;

/// How long to wait for a process after SIGKILL before the call ends without it.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(2);

/// The state of a call. `None` for a time means later than the clock can count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The hook is running, and its time is not up.
    Running,
    /// Its process group got SIGTERM, and gets SIGKILL at that time.
    Terminating { kill_at: Option<Instant> },
    /// Its process group got SIGKILL. At that time, the call ends without it.
    Killed { give_up_at: Option<Instant> },
    /// It has exited. Until that time, its background processes may hold its streams.
    Exited { leave_at: Option<Instant> },
}

/// The observed state at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) now: Instant,
    /// The hook's own process has ended.
    pub(super) exited: bool,
    /// No process holds the hook's stdout or stderr.
    pub(super) streams_closed: bool,
    /// The time is up, or the call is cancelled.
    pub(super) expired: Option<Expired>,
    /// The host wants no grace period.
    pub(super) at_once: bool,
    /// No process of the hook's group is running. Matters only if the hook has exited while it is being terminated.
    pub(super) group_ended: bool,
}

/// How long the phases of a call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    pub(super) grace: Duration,
    pub(super) leak_wait: Duration,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Sleep until something happens, or until that time.
    Wait { until: Option<Instant> },
    /// Terminate the process group, for this reason.
    Terminate(Expired),
    /// Kill the process group.
    Kill,
    /// Finish the call.
    Finish,
}

impl Phase {
    /// Takes one step: the next phase, and what to do. After anything but [`Act::Wait`], take the next step at once.
    pub(super) fn step(self, seen: &Seen, waits: Waits) -> (Self, Act) {
        let now = seen.now;
        let exited = Self::Exited { leave_at: now.checked_add(waits.leak_wait) };
        match self {
            Self::Running if seen.exited => exited.step(seen, waits),
            Self::Running => match seen.expired {
                None => (self, Act::Wait { until: None }),
                Some(expired) => (Self::Terminating { kill_at: now.checked_add(waits.grace) }, Act::Terminate(expired)),
            },
            // An ended leader is not reaped before its group is killed, so that no other process gets the group's
            // number. The rest of the group keeps its grace period.
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
