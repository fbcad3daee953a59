//! Whether a process group still has running members after its leader has ended.
//!
//! The kernel sends no event for that, and for kill(2) an unreaped leader still counts as a member. So /proc is
//! searched, rarely enough to take little time.

use std::fs;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::stat::Stat;

/// The shortest pause between two searches.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause, as a multiple of the duration of the last search.
const PART: u32 = 10;

/// Watches a group by searching from time to time.
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

    /// Whether no member was running at the last search.
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

/// Without /proc this is unknown, and the group keeps its grace period.
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
