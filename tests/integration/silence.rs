//! No start proceeds unasked: what was not loaded, not found or not understood vetoes, or is found by `check`.

use hookvisor::{Cancel, Decision, Event, Runtime};

use crate::support::program::Ran;
use crate::support::{Hooks, event};

fn event_of(driver: &str) -> Event {
    Event::new(driver, "web1", "start").unwrap()
}

/// The decision and the reason for it.
fn refused(runtime: &Runtime, event: &Event) -> (Decision, u8, String) {
    let report = runtime.run(event);
    (report.decision, report.exit_status(), report.refused.unwrap_or_default())
}

#[test]
fn a_driver_whose_hooks_were_not_loaded_vetoes() {
    let hooks = Hooks::new().script("a", "exit 0").script("b", "exit 1");
    let runtime = hooks.builder().only_driver("a").build().unwrap();
    assert_eq!(refused(&runtime, &event_of("a")).0, Decision::Proceed);
    let why = "only the hooks of driver a are loaded, and not those of b".to_owned();
    assert_eq!(refused(&runtime, &event_of("b")), (Decision::Vetoed, 125, why));
}

#[test]
fn a_cancelled_start_is_vetoed_although_no_hook_is_there() {
    let cancel = Cancel::new();
    let runtime = Hooks::new().builder().cancel(&cancel).build().unwrap();
    assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Proceed);
    cancel.cancel();
    let why = "the host has cancelled the call".to_owned();
    assert_eq!(refused(&runtime, &event("web1", "start")), (Decision::Vetoed, 125, why));
    assert_eq!(runtime.run(&event("web1", "stopped")).decision, Decision::Notified);
}

#[test]
fn a_driver_that_is_not_known_or_has_no_hooks_vetoes_where_that_is_asked_for() {
    let hooks = Hooks::new().script("mydaemon", "exit 0");
    let known = hooks.builder().known_drivers(["mydaemon"]).build().unwrap();
    assert_eq!(refused(&known, &event_of("mydaemon")).0, Decision::Proceed);
    let why = "driver mydeamon is not one of the known drivers (mydaemon)".to_owned();
    assert_eq!(refused(&known, &event_of("mydeamon")), (Decision::Vetoed, 125, why));

    let required = hooks.builder().require_hooks().build().unwrap();
    assert_eq!(refused(&required, &event_of("mydaemon")).0, Decision::Proceed);
    let (decision, status, why) = refused(&required, &event_of("mydeamon"));
    assert_eq!((decision, status), (Decision::Vetoed, 125));
    assert!(why.starts_with("there are no hooks for driver mydeamon in "), "{why}");
}

/// A guest can be called `--help`: its hooks are asked all the same.
#[test]
fn no_word_of_an_event_is_taken_for_an_option() {
    let hooks = Hooks::new().script("qemu", "printf '<%s>' \"$@\" >&2; exit 9");
    for object in ["--help", "-h", "--hooks=/usr", "--timeout=1s", "--format=json", "--", "--version"] {
        let Ran { status, stderr, .. } = hooks.call(&["run", "qemu", object, "start", "begin", "-"]);
        assert_eq!(status, 9, "{object}: {stderr}");
        assert!(stderr.contains(&format!("<{object}><start><begin><->")), "{object}: {stderr}");
    }
    for argument in ["--help", "-h", "--cache=/tmp", "--", "--trust-grants"] {
        let Ran { status, stderr, .. } = hooks.exec("qemu", &[argument, "x"], "");
        assert_eq!(status, 9, "{argument}: {stderr}");
        assert!(stderr.contains(&format!("<{argument}><x>")), "{argument}: {stderr}");
    }
}
