//! Reads `/proc/<pid>/stat`: the processes of a group, and their start times.

use std::fs;

use nix::unistd::Pid;

/// The state of a process in /proc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Whether it is running. A zombie has ended and waits to be reaped.
    pub(super) runs: bool,
    pub(super) group: Pid,
    /// Its start time in clock ticks since boot.
    pub(super) started: u64,
}

impl Stat {
    /// Reads it. `None` if there is no such process, or it is hidden from this user.
    pub(super) fn of(process: Pid) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
    }

    /// proc(5): pid, name in parentheses, state, parent, group, session, …. The start time is field 22.
    fn parse(line: &str) -> Option<Self> {
        // The name may contain parentheses and spaces.
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(16)?.parse().ok()?;
        Some(Self { runs: !matches!(state, "Z" | "X"), group: Pid::from_raw(group), started })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let rest = "S 1 42 40 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 10 11";
        let expected = Stat { runs: true, group: Pid::from_raw(42), started: 98765 };
        for name in ["sh", "a b", ") Z 1 2", "(("] {
            assert_eq!(Stat::parse(&format!("41 ({name}) {rest}\n")), Some(expected), "{name}");
        }
        let zombie = Stat::parse(&format!("41 (sh) {}", rest.replacen('S', "Z", 1)));
        assert_eq!(zombie, Some(Stat { runs: false, ..expected }));
        assert_eq!(Stat::parse("41 (sh"), None);
        assert_eq!(Stat::parse("41 (sh) S 1"), None);
    }

    #[test]
    fn this_process_runs_and_an_unused_number_has_no_process() {
        assert!(Stat::of(nix::unistd::getpid()).is_some_and(|stat| stat.runs && stat.group == nix::unistd::getpgrp()));
        assert_eq!(Stat::of(Pid::from_raw(i32::MAX)), None);
    }
}
