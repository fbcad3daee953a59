//! `mode = "monitor"`: a hook runs and is reported, but cannot veto.

use hookvisor::{Decision, Event, Mode};

use crate::support::{DRIVER, Hooks, event, skip};

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

/// A hook that writes a file and runs a program, with settings that grant nothing.
fn monitored(settings: &str) -> Hooks {
    let hooks = Hooks::new();
    std::fs::create_dir(hooks.path().join("state")).unwrap();
    let state = hooks.path().join("state").display().to_string();
    let hooks = hooks.script("qemu.d/10-hook", &format!("echo $1 > {state}/file; uname -r > /dev/null; exit 0"));
    hooks.file("qemu.d/10-hook.toml", settings, 0o644);
    hooks
}

fn prepared(hooks: &Hooks, builder: hookvisor::RuntimeBuilder) -> hookvisor::Report {
    let report = builder.build().unwrap().run(&hookvisor::Event::new("qemu", "web1", "prepare").unwrap());
    assert_eq!(std::fs::read_to_string(hooks.path().join("state/file")).unwrap(), "web1\n", "{report}");
    report
}

#[test]
fn what_would_be_refused_is_told_with_the_lines_that_allow_it() {
    if !crate::learn::can_watch() {
        return;
    }
    let hooks = monitored("confine = 'monitor'\n");
    let report = prepared(&hooks, hooks.builder());
    assert_eq!(report.exit_status(), 0, "{report}");
    let notes = &report.hooks[0].notes;
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("confined, it could not write "), "{notes:?}");
    assert!(notes[1].starts_with("it asked for a command that its settings do not list; "), "{notes:?}");
    let lines: String = notes.iter().map(|note| format!("{}\n", note.split_once('\n').unwrap().1)).collect();
    hooks.file("qemu.d/10-hook.toml", format!("confine = 'monitor'\n{lines}"), 0o644);
    let report = prepared(&hooks, hooks.builder());
    assert_eq!((report.exit_status(), report.hooks[0].notes.len()), (0, 0), "{:?}", report.hooks[0].notes);
    hooks.file("qemu.d/10-hook.toml", format!("confine = true\n{lines}"), 0o644);
    if let Some(reason) = hooks.runtime().inventory().hooks[0].reason.clone() {
        return skip("monitor", &format!("no hook can be confined here: {reason}"));
    }
    let report = prepared(&hooks, hooks.builder());
    assert_eq!((report.exit_status(), report.hooks[0].notes.len()), (0, 0), "{report}");
}

#[test]
fn without_strace_the_hook_runs_and_a_note_says_that_nothing_is_known() {
    let hooks = monitored("confine = 'monitor'\n");
    let report = prepared(&hooks, hooks.builder().search_path("/nonexistent"));
    let note = "hookvisor could not watch what `confine = true` would refuse: strace is not installed: run `apt install strace`";
    assert_eq!(report.hooks[0].notes, [note]);
    assert_eq!(report.exit_status(), 0, "{report}");
}

#[test]
fn a_monitored_hook_ends_as_it_would_and_is_not_held_up_by_what_it_leaves_running() {
    if !crate::learn::can_watch() {
        return;
    }
    let hooks =
        Hooks::new().script("qemu.d/10-hook", "(exec sleep 60 < /dev/null > /dev/null 2>&1) & echo no >&2; exit 3");
    hooks.file("qemu.d/10-hook.toml", "confine = 'monitor'\ntimeout = '60s'\n", 0o644);
    let report = hooks.runtime().run(&hookvisor::Event::new("qemu", "web1", "prepare").unwrap());
    assert_eq!(report.hooks[0].termination, hookvisor::Termination::Exited(3), "{report}");
    assert!(report.hooks[0].duration < std::time::Duration::from_secs(30), "{report}");
}

#[test]
fn nothing_is_monitored_where_everything_is_confined() {
    let hooks = monitored("confine = 'monitor'\n");
    let runtime = hooks.builder().confine_all(true).build().unwrap();
    let reason = runtime.inventory().hooks[0].reason.clone().unwrap();
    assert!(reason.contains("`confine = \"monitor\"`, and every hook is confined here"), "{reason}");
}
