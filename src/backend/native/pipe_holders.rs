//! Finds the processes that hold a pipe open, for the note about background processes.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::printable::printable_line;

/// The maximum number of named processes.
const NAMED: usize = 3;
/// The limit for the search, since the hook has ended and a machine may have many processes.
const SEARCH: Duration = Duration::from_millis(500);

/// Other processes that have the pipe open, as `sleep (pid 1234)`, if found in time. Only root sees other users'
/// processes, so the list may be empty.
pub(super) fn of_pipe(pipe: BorrowedFd<'_>) -> Vec<String> {
    let until = Instant::now() + SEARCH;
    let Ok(pipe) = fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd())) else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let others = processes.flatten().take_while(|_| Instant::now() < until).filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != std::process::id() && holds(&entry.path(), &pipe)).then_some(pid)
    });
    others
        .take(NAMED)
        .map(|pid| match fs::read_to_string(format!("/proc/{pid}/comm")) {
            // A process chooses its name.
            Ok(name) => format!("{} (pid {pid})", printable_line(name.trim_end())),
            Err(_) => format!("pid {pid}"),
        })
        .collect()
}

fn holds(process: &Path, pipe: &Path) -> bool {
    fs::read_dir(process.join("fd"))
        .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|open| open == pipe)))
}
