//! Reuses process numbers.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::skip;

/// Starts a process that leads its own group under a number that has just become free. Reports a skip if that is
/// impossible.
pub(crate) fn stranger_with(number: &str) -> Option<Child> {
    let wanted: u32 = number.parse().unwrap();
    // Another process may get the number first, or the next try the number after it.
    for _ in 0..1000 {
        if fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).is_err() {
            skip("a number that passes to a stranger", "it needs root and /proc/sys/kernel/ns_last_pid");
            return None;
        }
        let mut child = Command::new("sleep").arg("3600").process_group(0).spawn().unwrap();
        if child.id() == wanted {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    skip("a number that passes to a stranger", "another process was given the number each time");
    None
}
