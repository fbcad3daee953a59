//! Tests that need a process of their own: they count its descriptors, change its signals, or take its resources away.

use std::process::Command;

use super::program::tell;

const ALONE: &str = "HOOKVISOR_TEST_ALONE";
/// Longer than any of them takes, in seconds.
const PATIENCE: u32 = 300;

/// Runs the body in a new process, where no other test runs. `name` is the test's own path.
pub(crate) fn alone(name: &str, body: impl FnOnce()) {
    alone_under(name, |test| test, body);
}

/// The same, with the process's command as `prepare` makes it of the test's own.
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
    // What it has to say beside its result: figures, or that it could not be set up here.
    for line in String::from_utf8_lossy(&test.stderr).lines() {
        tell(line);
    }
}

/// From now on the process has that long; one that hangs is killed, and so its test fails.
pub(crate) fn be_patient() {
    nix::unistd::alarm::set(PATIENCE);
}

/// Set in an emulated machine, which has nothing to build with and takes many times longer for everything.
pub(crate) const EMULATED: &str = "HOOKVISOR_TEST_EMULATED";

pub(crate) fn is_emulated() -> bool {
    std::env::var_os(EMULATED).is_some()
}
