//! Messages while a hook runs, since somebody waits for its guest.

use std::time::Duration;

use hookvisor::Decision;
use tracing_subscriber::fmt;

use crate::support::log::Log;
use crate::support::{DRIVER, Hooks, event, impatient};

/// The log of one event whose hooks are all slow.
fn logged(hooks: &Hooks, steps: &str, slow: Duration) -> String {
    let mut limits = impatient();
    limits.slow = slow;
    let runtime = hooks.builder().limits(limits).build().unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = fmt().without_time().with_ansi(false).with_writer(move || writer.clone()).finish();
    let report = tracing::subscriber::with_default(subscriber, || runtime.run(&event(steps, "start")));
    assert_eq!(report.decision, Decision::Vetoed);
    let log = log.text();
    // The text after the spans.
    let slow = log.lines().filter_map(|line| line.split_once(" hookvisor::slow: "));
    slow.map(|(_, said)| format!("{said}\n")).collect::<String>().replace(&hooks.path().display().to_string(), "DIR")
}

/// A hook is mentioned once, whether it writes much, is busy, or sleeps until its timeout.
fn is_mentioned_once(hooks: &Hooks, steps: &str) {
    assert_eq!(
        logged(hooks, steps, Duration::from_nanos(1)),
        "hook DIR/test is still running after 1ns (its limit is 300ms)\n",
        "{steps}"
    );
    assert_eq!(logged(hooks, steps, Duration::from_secs(10)), "", "{steps}: its time is up before it is slow");
}

#[test]
fn a_slow_process_is_mentioned_once_while_it_runs() {
    let talks = "echo one >&2; echo two >&2; head -c 10000000 /dev/zero >&2; exec sleep 3600";
    for body in [talks, "while :; do :; done"] {
        is_mentioned_once(&Hooks::new().script(DRIVER, body), "-");
    }
}

#[cfg(feature = "wasm")]
#[test]
fn a_slow_module_is_mentioned_once_while_it_runs() {
    let hooks = Hooks::new().copy(DRIVER, crate::support::guests::wasm_probe());
    for steps in ["stderr=one;stderr=two;flood-stderr=10000000;sleep=3600000", "spin"] {
        is_mentioned_once(&hooks, steps);
    }
}
