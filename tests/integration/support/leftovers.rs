//! Checks that a call leaves nothing behind.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// The process's descriptors, threads and children.
#[derive(Debug)]
pub(crate) struct Leftovers {
    descriptors: Vec<String>,
    threads: Vec<String>,
    children: String,
}

/// Threads count by number: a new thread still has the name of its parent.
impl PartialEq for Leftovers {
    fn eq(&self, other: &Self) -> bool {
        (&self.descriptors, self.threads.len(), &self.children)
            == (&other.descriptors, other.threads.len(), &other.children)
    }
}

impl Leftovers {
    /// The state before a test, once everything from earlier has ended.
    pub(crate) fn before() -> Self {
        let mut seen = Self::now();
        loop {
            thread::sleep(Duration::from_millis(10));
            let now = Self::now();
            if now == seen {
                return now;
            }
            seen = now;
        }
    }

    /// The current state.
    pub(crate) fn now() -> Self {
        let mut descriptors: Vec<String> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
            .map(|target| target.display().to_string())
            // The directory that is being read.
            .filter(|target| !target.starts_with("/proc/"))
            .collect();
        descriptors.sort();
        let (mut threads, mut children) = (Vec::new(), String::new());
        for task in fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            // A thread may end between the two steps.
            threads.extend(fs::read_to_string(task.join("comm")));
            children += &fs::read_to_string(task.join("children")).unwrap_or_default();
        }
        threads.sort();
        Self { descriptors, threads, children }
    }

    /// Ignores descriptors of that target.
    pub(crate) fn forget_descriptor(&mut self, target: &str) {
        self.descriptors.retain(|descriptor| descriptor != target);
    }

    /// Fails if the state differs from before. The system may need a moment to remove a joined thread.
    pub(crate) fn assert_none_since(before: &Self, what: &str) {
        let began = Instant::now();
        while Self::now() != *before && began.elapsed() < Duration::from_secs(2) {
            thread::yield_now();
        }
        assert_eq!(&Self::now(), before, "after {what}");
    }
}

/// The resident memory of the process.
pub(crate) fn resident_kib() -> u64 {
    status_kib("VmRSS:")
}

/// The growth of the process's peak memory while the body runs.
#[cfg(feature = "compiler")]
pub(crate) fn peak_kib_of(body: impl FnOnce()) -> u64 {
    // Resets the peak (proc(5)).
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = resident_kib();
    body();
    status_kib("VmHWM:").saturating_sub(before)
}

fn status_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
