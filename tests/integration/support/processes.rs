//! Other processes, as seen by a test.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes here, and short enough to wait for on a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The content of a file, once it ends with a newline.
pub(crate) fn line_of(file: &Path) -> String {
    let mut line = String::new();
    wait_until(&file.display().to_string(), || {
        line = fs::read_to_string(file).unwrap_or_default();
        line.ends_with('\n')
    });
    line.trim_end().to_owned()
}

/// Whether it runs. An ended process may still have to be reaped by its parent.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(crate) fn wait_for_the_end_of(pid: &str) {
    wait_until(&format!("the end of {pid}"), || !is_alive(pid));
}

/// The running children of a process whose command line contains these words.
pub(crate) fn children(parent: u32, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let has_words = |pid: &&str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
        };
        found.extend(children.split_whitespace().filter(has_words).map(str::to_owned));
    }
    found.retain(|pid| is_alive(pid));
    found
}
