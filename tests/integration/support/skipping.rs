//! Tests that cannot run on this machine. Each says so, and `.ci/run` counts and names them.

use std::fs::OpenOptions;
use std::io::Write;

use super::program::tell;

/// Where `.ci/run` finds the skipped tests, one per line.
const LIST: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped-tests");

/// Reports that a test or a part of it is skipped, and why.
pub(crate) fn skip(what: &str, why: &str) {
    let line = format!("SKIPPED {what}: {why}\n");
    tell(line.trim_end());
    // A single write at the end of the file, since tests run concurrently.
    let mut list = OpenOptions::new().append(true).create(true).open(LIST).unwrap();
    list.write_all(line.as_bytes()).unwrap();
}

/// Whether this is root; otherwise the test is skipped.
pub(crate) fn needs_root(test: &str) -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skip(test, "it needs root");
    }
    is_root
}
