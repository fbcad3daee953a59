//! A daemon's own conventions, from Rust and from hookvisor.toml.

use std::fs;
use std::path::Path;
use std::process::Command;

use hookvisor::{
    AfterVeto, Config, Convention, Decision, DocumentFormat, Event, LoadError, Operation, Report, Runtime, Stage,
    Termination,
};

use crate::support::Hooks;

fn vmm() -> Convention {
    Convention::new("vmm")
        .operation("create", Operation::start().sub_operation("begin"))
        .operation("configure", Operation::filter(DocumentFormat::Json))
        .operation("delete", Operation::shutdown().sub_operation("end"))
        .ended_by("delete")
        .closed()
}

const VMM: &str = "\
    [convention.vmm]\n\
    closed = true\n\
    ended_by = 'delete'\n\
    [convention.vmm.operations]\n\
    create = { stage = 'start', sub_operation = 'begin' }\n\
    configure = { stage = 'start', filter = 'json' }\n\
    delete = { stage = 'shutdown', sub_operation = 'end' }\n";

fn config(text: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookvisor.toml");
    fs::write(&file, text).unwrap();
    Config::read(&file).map_err(|error| error.why)
}

/// The same runtime described in Rust and in hookvisor.toml.
fn both(hooks: &Hooks) -> [Runtime; 2] {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookvisor.toml");
    fs::write(&file, format!("hooks = {:?}\n{VMM}", hooks.path())).unwrap();
    let of_toml = Config::read(&file).unwrap().runtime().build().unwrap();
    [Runtime::builder(hooks.path()).convention(vmm()).build().unwrap(), of_toml]
}

fn event(operation: &str) -> Event {
    Event::new("vmm", "web1", operation).unwrap().with_document("{\"memory\": 512}")
}

fn document(report: &Report) -> Option<&[u8]> {
    report.document.as_deref()
}

#[test]
fn its_operations_have_their_stage_and_sub_operation() {
    let hooks = Hooks::new().script("vmm", "echo \"$*\" >> \"$0.log.bak\"; exit 3");
    for runtime in both(&hooks) {
        let create = runtime.run(&event("create"));
        assert_eq!((create.stage, create.decision), (Stage::Start, Decision::Vetoed));
        let delete = runtime.run(&event("delete"));
        assert_eq!((delete.stage, delete.decision, delete.exit_status()), (Stage::Shutdown, Decision::Notified, 3));
        drop(runtime.run(&event("create").with_sub_operation("again").unwrap()));
        let log = hooks.path().join("vmm.log.bak");
        assert_eq!(fs::read_to_string(&log).unwrap(), "web1 create begin -\nweb1 delete end -\nweb1 create again -\n");
        fs::remove_file(log).unwrap();
    }
}

#[test]
fn a_filter_rewrites_json_and_nothing_else() {
    let hooks = Hooks::new()
        .script("vmm.d/10-more-memory", "[ $1 != web1 ] || sed s/512/1024/")
        .script("vmm.d/20-broken", "[ $1 != broken ] || echo '{\"memory\":'");
    for runtime in both(&hooks) {
        let configured = runtime.run(&event("configure"));
        assert_eq!((configured.decision, document(&configured)), (Decision::Proceed, Some(&b"{\"memory\": 1024}"[..])));
        let unchanged = runtime.run(&Event::new("vmm", "other", "configure").unwrap().with_document("{}"));
        assert_eq!((unchanged.decision, document(&unchanged)), (Decision::Proceed, None));
        let broken = runtime.run(&Event::new("vmm", "broken", "configure").unwrap().with_document("{}"));
        assert_eq!((broken.decision, document(&broken)), (Decision::Vetoed, None));
        assert!(broken.to_string().contains("was refused: its output is not JSON: "), "{broken}");
        // The operation is not a filter in the generic convention.
        assert!(!event("configure").is_filter());
    }
}

#[test]
fn a_closed_list_vetoes_unlisted_operations_and_calls_no_hook() {
    let hooks = Hooks::new().script("vmm", ": > \"$0.called.bak\"");
    for runtime in both(&hooks) {
        let report = runtime.start(&event("craete")).into_result().unwrap_err().into_report();
        let why = "driver vmm has no operation \"craete\": its operations are ";
        assert!(report.refused.as_ref().is_some_and(|refused| refused.starts_with(why)), "{report}");
        assert_eq!((report.exit_status(), report.hooks.len(), report.skipped.len()), (125, 0, 1));
        assert!(report.to_string().starts_with(&format!("Hook script execution failed: {why}")), "{report}");
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert!(json["refused"].as_str().unwrap().starts_with(why), "{json}");
        assert!(!hooks.path().join("vmm.called.bak").exists());
        // After a shutdown nothing can be prevented. The hooks are called, and the mistake is reported.
        let told = runtime.shutdown(&event("deleted"));
        assert_eq!((told.decision, told.exit_status(), told.hooks.len()), (Decision::Notified, 125, 1));
        fs::remove_file(hooks.path().join("vmm.called.bak")).unwrap();
    }
}

#[test]
fn a_veto_of_an_unknown_operation_needs_no_hook() {
    let hooks = Hooks::new();
    let runtime = hooks.runtime();
    for (driver, operation) in [("qemu", "prepair"), ("oci", "startContainer")] {
        let report = runtime.run(&Event::new(driver, "web1", operation).unwrap());
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 125), "{driver} {operation}");
    }
    // libvirt's hook is called for whatever libvirt asks, since libvirt may be newer. A refused operation stays
    // refused.
    let lenient = hooks.builder().any_operation().build().unwrap();
    let decision = |driver, operation| lenient.run(&Event::new(driver, "web1", operation).unwrap()).decision;
    assert_eq!(decision("qemu", "prepair"), Decision::Proceed);
    assert_eq!(decision("oci", "startContainer"), Decision::Vetoed);
    // An unknown driver has an open list.
    let open = runtime.run(&Event::new("vmm", "web1", "craete").unwrap());
    assert_eq!(open.decision, Decision::Proceed);
}

#[test]
fn a_guest_ends_by_the_convention_s_own_operation() {
    let hooks = Hooks::new().script("vmm", "echo \"$*\" >> \"$0.log.bak\"");
    for runtime in both(&hooks) {
        let guest = runtime.admit(&event("create")).unwrap();
        let report = guest.stopped();
        assert_eq!(
            (report.event.operation(), report.stage, report.refused.as_ref()),
            ("delete", Stage::Shutdown, None)
        );
    }
}

#[test]
fn hooks_after_a_veto_run_if_the_convention_says_so() {
    let hooks = Hooks::new().script("vmm.d/10-no", "exit 3").script("vmm.d/20-next", "exit 4");
    let run_all = vmm().after_veto(AfterVeto::RunAll);
    let called = |convention| {
        let runtime = Runtime::builder(hooks.path()).convention(convention).build().unwrap();
        let report = runtime.run(&event("create"));
        (report.exit_status(), report.hooks.len())
    };
    assert_eq!((called(vmm()), called(run_all)), ((3, 1), (3, 2)));
}

/// The book's lines for a vote: in monitor mode every hook runs, and the daemon decides.
#[test]
fn a_daemon_can_have_its_hooks_vote() {
    let agree = |hooks: &Hooks, votes: usize| {
        let report = hooks.runtime().call(&event("create")).monitor().run();
        let all_ran = report.hooks.iter().all(|hook| matches!(hook.termination, Termination::Exited(_)));
        let agreed = report.hooks.iter().filter(|hook| hook.termination.is_success()).count();
        report.decision == Decision::Proceed && all_ran && agreed >= votes
    };
    let hooks = Hooks::new().script("vmm.d/10-no", "exit 3").script("vmm.d/20-yes", ":").script("vmm.d/30-yes", ":");
    assert!(agree(&hooks, 2) && !agree(&hooks, 3));
    let hooks = hooks.script("vmm.d/40-killed", "kill -9 $$");
    assert!(!agree(&hooks, 2), "a hook that did not answer is not outvoted");
}

#[test]
fn a_convention_replaces_a_built_in_one() {
    let hooks = Hooks::new();
    let qemu = Convention::new("qemu")
        .operation("hibernate", Operation::shutdown())
        .operation("stopped", Operation::shutdown());
    let runtime = Runtime::builder(hooks.path()).convention(qemu).build().unwrap();
    let report = runtime.run(&Event::new("qemu", "web1", "hibernate").unwrap());
    assert_eq!((report.stage, report.decision), (Stage::Shutdown, Decision::Notified));
}

#[test]
fn the_document_of_a_filter_can_be_checked_by_the_host() {
    let hooks = Hooks::new().script("vmm", "echo less");
    let longer = DocumentFormat::custom(|document| match document.len() {
        0..10 => Err(format!("{} bytes are too few", document.len())),
        _ => Ok(()),
    });
    let convention = Convention::new("vmm").operation("configure", Operation::filter(longer));
    let runtime = Runtime::builder(hooks.path()).convention(convention).build().unwrap();
    let report = runtime.run(&event("configure"));
    assert!(report.to_string().ends_with("was refused: 5 bytes are too few"), "{report}");
}

#[test]
fn an_invalid_convention_is_refused_with_its_place() {
    let hooks = Hooks::new();
    let why = |convention| {
        let error = Runtime::builder(hooks.path()).convention(convention).build().unwrap_err();
        assert!(matches!(error, LoadError::Convention(_)));
        error.to_string()
    };
    let end = "`ended_by` is \"stopped\", which is not one of its shutdown operations: add that operation, or name another one";
    assert_eq!(
        why(Convention::new("vmm").operation("start", Operation::start()).closed()),
        format!("the convention of driver \"vmm\": {end}")
    );
    assert_eq!(
        why(vmm().operation("a\nb", Operation::start())),
        "the convention of driver \"vmm\": the operation \"a\\nb\" needs a name of one line"
    );

    let why = |text: &str| config(text).map(drop).unwrap_err();
    assert!(why("[convention.vmm]\nopen = true").starts_with("line 2: unknown field `open`, expected one of"));
    assert_eq!(
        why("[convention.vmm.operations]\ncreate = 'begin'"),
        "line 2: an operation is \"start\", \"shutdown\", or a table such as { stage = \"start\", filter = \"json\", sub_operation = \"begin\" }"
    );
    assert_eq!(
        why("[convention.vmm.operations]\nstopped = 'shutdown'\ngone = { stage = 'shutdown', filter = 'xml' }"),
        "[convention.vmm] gone: a filter needs stage = \"start\", since nothing can be changed after a shutdown"
    );
    assert_eq!(
        why("[convention.vmm]\nclosed = true\noperations = { create = 'start' }"),
        format!("the convention of driver \"vmm\": {end}")
    );
}

#[test]
fn the_example_in_rust_and_in_toml_says_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("examples/convention.toml")).unwrap();
    let source = fs::read_to_string(root.join("examples/convention.rs")).unwrap();
    let (_, source) = source.split_once("    let convention = ").unwrap();
    let (source, _) = source.split_once(".build()").unwrap();
    assert!(text.lines().count() <= 20 && source.lines().count() <= 20, "a convention takes twenty lines");
    let of_toml = config(&text).unwrap();
    assert_eq!(of_toml.hooks, Path::new("/etc/vmm/hooks"));
    let said = format!("{:?}", of_toml.conventions);

    let hooks = Hooks::new()
        .script("vmm", "case $2 in configure) sed s/512/1024/ ;; delete) echo \"$(cat)\" >&2; exit 1 ;; esac");
    let mut example = Command::new(env!("CARGO"));
    example.current_dir(root).args(["run", "--quiet", "--example", "convention", "--"]).arg(hooks.path());
    let output = example.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).replace(&hooks.path().display().to_string(), "DIR");
    let failed = "Hook script execution failed: Hook script DIR/vmm failed with error code 1: {\"memory\": 1024}";
    assert_eq!(printed, format!("{{\"memory\": 1024}}\n{failed}"));

    let in_rust = Convention::new("vmm")
        .operation("configure", Operation::filter(DocumentFormat::Json))
        .operation("create", Operation::start())
        .operation("delete", Operation::shutdown())
        .ended_by("delete")
        .closed();
    assert_eq!(said, format!("{:?}", [in_rust]));
}
