//! Which processes hold a pipe open: for the note that names the background process that a hook has left running.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// How many are named.
const NAMED: usize = 3;
/// How long the search may take: the caller's hook has ended, and a machine may have many processes.
const SEARCH: Duration = Duration::from_millis(500);

/// The processes, other than this one, that have the pipe open, as `sleep (pid 1234)`: those that are found soon. Only root
/// sees the processes of other users, so the list may be empty.
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
            Ok(name) => format!("{} (pid {pid})", name.trim_end()),
            Err(_) => format!("pid {pid}"),
        })
        .collect()
}

fn holds(process: &Path, pipe: &Path) -> bool {
    fs::read_dir(process.join("fd"))
        .is_ok_and(|fds| fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|open| open == pipe)))
}
