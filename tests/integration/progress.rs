//! What is said while a hook is still running, because somebody is waiting for its guest.

use std::time::Duration;

use hookvisor::Decision;
use tracing_subscriber::fmt;

use crate::support::log::Log;
use crate::support::{DRIVER, Hooks, event, impatient};

/// What is logged while one event's hooks run, all of which are slow at once.
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
    // After the spans that it comes within.
    let slow = log.lines().filter_map(|line| line.split_once(" hookvisor::slow: "));
    slow.map(|(_, said)| format!("{said}\n")).collect::<String>().replace(&hooks.path().display().to_string(), "DIR")
}

/// Whether it has much to say, is busy or sleeps until its time is up: a hook is mentioned once.
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
