//! Other processes, as a test sees them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Longer than anything takes here, and short enough to be waited for when it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until it is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a file holds, once it ends in a newline.
pub(crate) fn line_of(file: &Path) -> String {
    let mut line = String::new();
    wait_until(&file.display().to_string(), || {
        line = fs::read_to_string(file).unwrap_or_default();
        line.ends_with('\n')
    });
    line.trim_end().to_owned()
}

/// Whether it runs; one that has ended may still have to be reaped by whoever it belongs to now.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

pub(crate) fn wait_for_the_end_of(pid: &str) {
    wait_until(&format!("the end of {pid}"), || !is_alive(pid));
}

/// The living children of a process whose command line holds these words.
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
