//! Whether a process group still runs once its leader has ended.
//!
//! The kernel has no event for that, and a leader that has not been reaped still counts as a member for kill(2). So /proc is
//! searched, rarely enough that the search takes a small part of the time.

use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::stat::Stat;

/// The shortest pause between two searches.
const PAUSE: Duration = Duration::from_millis(10);
/// How many times longer the pause is than the search before it.
const PART: u32 = 10;

/// A look at a group from time to time.
pub(super) struct Watch {
    group: Pid,
    /// The end of the pause.
    next: Instant,
    ended: bool,
}

impl Watch {
    pub(super) fn of(group: Pid) -> Self {
        Self { group, next: Instant::now(), ended: false }
    }

    /// Whether no member runs any more, as of the last search.
    pub(super) fn has_ended(&mut self) -> bool {
        let began = Instant::now();
        if !self.ended && began >= self.next {
            self.ended = has_ended(self.group);
            let now = Instant::now();
            self.next = now + (PART * now.duration_since(began)).max(PAUSE);
        }
        self.ended
    }

    pub(super) fn look_again_in(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

/// Without /proc, nobody knows: then the group has its grace.
fn has_ended(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let mut numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut seen_any = false;
    let is_member = |number| {
        Stat::of(Pid::from_raw(number)).is_some_and(|stat| {
            seen_any = true;
            stat.runs && stat.group == group
        })
    };
    !numbers.any(is_member) && seen_any
}
