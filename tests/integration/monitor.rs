//! `mode = "monitor"`: a hook runs and is reported, but cannot veto.

use hookvisor::{Decision, Event, Mode};

use crate::support::{DRIVER, Hooks, event};

#[test]
fn a_monitored_hook_is_reported_but_cannot_veto() {
    let hooks = Hooks::new()
        .script("test.d/10-new", "echo 'no owner' >&2; exit 3")
        .script("test.d/20-other", "exit 0")
        .script("test.d/30-hangs", "sleep 600");
    hooks.file("test.d/10-new.toml", "mode = 'monitor'\n", 0o644);
    hooks.file("test.d/30-hangs.toml", "mode = 'monitor'\ntimeout = '100ms'\n", 0o644);
    let report = hooks.runtime().run(&event("web1", "start"));
    assert_eq!((report.decision, report.exit_status(), report.failures().count()), (Decision::Proceed, 0, 0));
    let of = |hook: usize| (report.hooks[hook].mode, report.hooks[hook].would_veto);
    assert_eq!([of(0), of(1), of(2)], [(Mode::Monitor, true), (Mode::Enforce, false), (Mode::Monitor, true)]);
    let path = hooks.path().display();
    let expected = format!(
        "Hook script would have vetoed: Hook script {path}/test.d/10-new test failed with error code 3: no owner\n\
         Hook script would have vetoed: Hook script {path}/test.d/30-hangs test timed out after 100ms"
    );
    assert_eq!(report.to_string(), expected);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
    assert_eq!((&json["hooks"][0]["mode"], &json["hooks"][0]["verdict"]), (&"monitor".into(), &"would-veto".into()));
    assert!(json["hooks"][1].get("mode").is_none() && json["hooks"][1].get("verdict").is_none());
}

#[test]
fn a_monitored_hook_that_cannot_be_run_vetoes_nothing_but_settings_that_do_not_parse_do() {
    let hooks = Hooks::new();
    hooks.file(DRIVER, "no interpreter named", 0o755);
    hooks.file("test.toml", "mode = 'monitor'\n", 0o644);
    assert_eq!(hooks.runtime().run(&event("web1", "start")).decision, Decision::Proceed);
    hooks.file("test.toml", "mode = 'watch'\n", 0o644);
    assert_eq!(hooks.runtime().run(&event("web1", "start")).decision, Decision::Vetoed);
}

#[test]
fn a_monitored_filter_leaves_the_document_as_it_was() {
    let hooks = Hooks::new().script("qemu.d/10-a", "echo '<changed/>'").script("qemu.d/20-b", "cat");
    hooks.file("qemu.d/10-a.toml", "mode = 'monitor'\n", 0o644);
    let restore = Event::new("qemu", "web1", "restore").unwrap().with_document("<domain/>");
    let report = hooks.runtime().run(&restore);
    assert_eq!((report.decision, report.document.as_deref()), (Decision::Proceed, Some(&b"<domain/>"[..])));
}

#[test]
fn run_monitor_applies_to_every_hook_and_the_record_says_would_veto() {
    let hooks = Hooks::new().script(DRIVER, "exit 3");
    let record = hooks.path().join(".history").display().to_string();
    let ran = hooks.call(&["run", "--monitor", "--record", &record, DRIVER, "web1", "start"]);
    let said =
        "Hook script would have vetoed: Hook script DIR/test failed with error code 3 and wrote nothing to stderr\n";
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (0, "", said));
    let history = ["history", "--record", &record, "--decision", "would-veto"];
    let shown = hooks.ran(crate::support::program::hookvisor().args(history)).stdout;
    assert!(shown.lines().next().unwrap().contains("proceed") && shown.contains(said.trim_end()), "{shown}");
    assert!(hooks.call(&["list"]).stdout.contains("DIR/test; timeout"));
    hooks.file("test.toml", "mode = 'monitor'\n", 0o644);
    assert!(hooks.call(&["list"]).stdout.contains("DIR/test; monitor mode: failures do not veto"));
}
