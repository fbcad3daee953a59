//! Tests that need a process of their own: they count its descriptors, or change its signals.

use std::process::Command;

const ALONE: &str = "HOOKVISOR_TEST_ALONE";

/// Runs the body in a new process, where no other test runs. `name` is the test's own path.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let test = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(
        test.status.success() && said.contains("1 passed"),
        "{name}, alone:\n{said}\n{}",
        String::from_utf8_lossy(&test.stderr)
    );
}
