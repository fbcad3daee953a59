//! Finds the processes that hold a pipe open, for the note about background processes.

use std::fs::{self, DirEntry};
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
    search(Path::new("/proc"), &pipe, || Instant::now() >= until)
}

/// Searches the processes in this directory. It asks `is_over` before each process, and before each descriptor, since
/// one process can have a million of them.
fn search(processes: &Path, pipe: &Path, is_over: impl Fn() -> bool) -> Vec<String> {
    let Ok(entries) = fs::read_dir(processes) else { return Vec::new() };
    let others = entries.flatten().take_while(|_| !is_over()).filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        (pid != std::process::id() && holds(&entry.path(), pipe, &is_over)).then_some(pid)
    });
    others
        .take(NAMED)
        .map(|pid| match fs::read_to_string(processes.join(format!("{pid}/comm"))) {
            // A process chooses its name.
            Ok(name) => format!("{} (pid {pid})", printable_line(name.trim_end())),
            Err(_) => format!("pid {pid}"),
        })
        .collect()
}

fn holds(process: &Path, pipe: &Path, is_over: impl Fn() -> bool) -> bool {
    let is_pipe = |fd: DirEntry| fs::read_link(fd.path()).is_ok_and(|open| open == pipe);
    fs::read_dir(process.join("fd")).is_ok_and(|fds| fds.flatten().take_while(|_| !is_over()).any(is_pipe))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::os::unix::fs::symlink;

    use super::*;

    const PIPE: &str = "pipe:[1]";

    /// A directory like /proc, with a process that has this many descriptors, the last of which is the pipe.
    fn processes(descriptors: usize) -> std::io::Result<tempfile::TempDir> {
        let proc = tempfile::tempdir()?;
        let process = proc.path().join("4294967295");
        fs::create_dir_all(process.join("fd"))?;
        fs::write(process.join("comm"), "sleep\n")?;
        for descriptor in 1..descriptors {
            symlink("/dev/null", process.join(format!("fd/{descriptor}")))?;
        }
        symlink(PIPE, process.join("fd/0"))?;
        // What else is in /proc.
        fs::create_dir(proc.path().join("sys"))?;
        fs::write(proc.path().join("uptime"), "1 1")?;
        Ok(proc)
    }

    #[test]
    fn the_search_ends_in_time_also_within_one_process() -> std::io::Result<()> {
        const MANY: usize = 2000;
        for descriptors in [1, MANY] {
            let proc = processes(descriptors)?;
            assert_eq!(search(proc.path(), Path::new(PIPE), || false), ["sleep (pid 4294967295)"]);
            assert_eq!(search(proc.path(), Path::new("pipe:[2]"), || false), [""; 0]);
            assert_eq!(search(proc.path(), Path::new(PIPE), || true), [""; 0]);
        }
        // A clock that ends after ten looks at it.
        let proc = processes(MANY)?;
        let looks = Cell::new(0);
        let found = search(proc.path(), Path::new("pipe:[2]"), || {
            looks.set(looks.get() + 1);
            looks.get() > 10
        });
        // Once more for the next process.
        assert!(found.is_empty() && looks.get() <= 12, "{found:?} {looks:?}");
        Ok(())
    }
}
