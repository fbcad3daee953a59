//! Tests that need their own process: they count its descriptors, change its signals, or limit its resources.

use std::process::Command;

use super::program::tell;

const ALONE: &str = "HOOKVISOR_TEST_ALONE";
/// Longer than any of them takes, in seconds.
const PATIENCE: u32 = 300;

/// Runs the body in a new process without other tests. `name` is the test's own path.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    alone_under(name, |test| test, body);
}

/// The same, with a command that `prepare` makes from the test's own.
pub(crate) fn alone_under(name: &str, prepare: impl FnOnce(Command) -> Command, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        be_patient();
        return body();
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
    let test = prepare(test).output().unwrap();
    let said = String::from_utf8_lossy(&test.stdout);
    assert!(
        test.status.success() && said.contains("1 passed"),
        "{name}, alone ({}):\n{said}\n{}",
        test.status,
        String::from_utf8_lossy(&test.stderr)
    );
    // Further output: figures, or that the test could not be set up here.
    for line in String::from_utf8_lossy(&test.stderr).lines() {
        tell(line);
    }
}

/// Gives the process this long from now. A hanging one is killed, which fails its test.
pub(crate) fn be_patient() {
    nix::unistd::alarm::set(PATIENCE);
}

/// Set in an emulated machine, which has no compiler and is many times slower.
pub(crate) const EMULATED: &str = "HOOKVISOR_TEST_EMULATED";

pub(crate) fn is_emulated() -> bool {
    std::env::var_os(EMULATED).is_some()
}
