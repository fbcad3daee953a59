//! One behaviour, both kinds of hook, the native one also confined: the same report.

use std::time::{Duration, Instant};

use hookvisor::{Decision, Event, Limits, Report, Runtime, Termination};
use serde_json::Value;

use crate::support::alone::{alone, is_emulated};
use crate::support::guests::{native_probe, wasm_probe};
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event, impatient};

/// The probe's steps, and the expected report.
struct Case {
    steps: &'static str,
    document: usize,
    expected: Expected,
}

enum Expected {
    /// The text report after the hook's path and driver. Empty on success.
    Same(String),
    /// Texts that differ by design. The exit status is the same.
    Crash { status: u8, native: &'static str, wasm: &'static str },
}

fn case(steps: &'static str, expected: &str) -> Case {
    Case { steps, document: 0, expected: Expected::Same(expected.to_owned()) }
}

fn read_case(document: usize) -> Case {
    let sum = document_of(document).iter().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
    let said = format!("failed with error code 1: read {document} bytes, {sum:016x}");
    Case { steps: "read;exit=1", document, expected: Expected::Same(said) }
}

fn document_of(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251).to_le_bytes()[0]).collect()
}

fn table() -> Vec<Case> {
    let flood = |bytes: usize| {
        let kept = "x".repeat(32 << 10);
        format!("failed with error code 1: {kept}\n[… {} bytes left out …]\n{kept}", bytes - (64 << 10))
    };
    let timed_out = Termination::TimedOut { after: impatient().timeout, of_call: false }.to_string();
    // An emulated machine is slower.
    let (large, flooded, flood_stdout, flood_stderr) = if is_emulated() {
        (1_000_000, 4 << 20, "flood-stdout=4194304;exit=0", "flood-stderr=4194304;exit=1")
    } else {
        (50_000_000, 256 << 20, "flood-stdout=268435456;exit=0", "flood-stderr=268435456;exit=1")
    };
    vec![
        case("exit=0", ""),
        case("", ""),
        case("exit=1", "failed with error code 1 and wrote nothing to stderr"),
        case("exit=7", "failed with error code 7 and wrote nothing to stderr"),
        case("exit=125", "failed with error code 125 and wrote nothing to stderr"),
        case("exit=126", "failed with error code 126 and wrote nothing to stderr"),
        case("exit=127", "failed with error code 127 and wrote nothing to stderr"),
        case("exit=137", "failed with error code 137 and wrote nothing to stderr"),
        case("exit=200", "failed with error code 200 and wrote nothing to stderr"),
        case("exit=255", "failed with error code 255 and wrote nothing to stderr"),
        case("stderr=only a remark\\n", ""),
        case(
            "stderr=Could not find required XYZZY\\n;exit=1",
            "failed with error code 1: Could not find required XYZZY",
        ),
        case("stderr=no newline at the end;exit=2", "failed with error code 2: no newline at the end"),
        case("stderr=one\\ntwo\\n\\nfour\\n;exit=3", "failed with error code 3: one\ntwo\n\nfour"),
        case("stderr=in ;stderr=two writes\\n;exit=1", "failed with error code 1: in two writes"),
        case("stderr-hex=62ff6164c30a;exit=1", "failed with error code 1: b\u{fffd}ad\u{fffd}"),
        case("stderr-hex=61006200;exit=1", "failed with error code 1: a\0b\0"),
        case("stdout=nobody reads this\\n;exit=0", ""),
        case(flood_stdout, ""),
        case("flood-stdout=20000000;stderr=after the flood\\n;exit=1", "failed with error code 1: after the flood"),
        Case { expected: Expected::Same(flood(flooded)), ..case(flood_stderr, "") },
        Case { expected: Expected::Same(flood((64 << 10) + 1)), ..case("flood-stderr=65537;exit=1", "") },
        read_case(0),
        read_case(1),
        read_case(65_537),
        read_case(large),
        Case { document: large, ..case("exit=0", "") },
        Case { document: large, ..case("stderr=not read\\n;exit=1", "failed with error code 1: not read") },
        case("spin", &timed_out),
        case("sleep=3600000", &timed_out),
        case("stderr=first this\\n;sleep=3600000", &format!("{timed_out}: first this")),
        case("sleep=10;exit=4", "failed with error code 4 and wrote nothing to stderr"),
        Case {
            expected: Expected::Crash {
                status: 134,
                native: "killed by signal 6 (SIGABRT): said before",
                wasm: "trapped: wasm `unreachable` instruction executed in",
            },
            ..case("stderr=said before\\n;crash", "")
        },
    ]
}

/// A runtime for each way to run the probe: as a process, as a confined one, and as WebAssembly.
fn runtimes(hooks: &[Hooks; 2], limits: &Limits) -> [Runtime; 3] {
    let [native, wasm] = hooks.each_ref().map(|hooks| hooks.builder().limits(limits.clone()));
    [native, hooks[0].builder().limits(limits.clone()).confine_all(true), wasm].map(|builder| builder.build().unwrap())
}

fn patient() -> Limits {
    let mut limits = impatient();
    // Reading 50 MB takes long in an unoptimised build. Steps that should time out do so by themselves.
    limits.timeout = Duration::from_secs(60);
    limits
}

fn probes() -> [Hooks; 2] {
    [native_probe(), wasm_probe()].map(|probe| Hooks::new().copy(DRIVER, probe))
}

/// The report without its declared differences: path, kind and duration.
fn comparable(report: &Report) -> Value {
    let mut json: Value = serde_json::from_str(&report.to_json()).unwrap();
    for hook in json["hooks"].as_array_mut().unwrap() {
        let name = hook["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        hook["path"] = name.into();
        for differs in ["kind", "duration_us"] {
            hook[differs] = Value::Null;
        }
    }
    json
}

/// The text report after the hook's path and driver.
fn said(report: &Report) -> String {
    let text = report.to_string();
    match text.split_once(&format!("/{DRIVER} ")) {
        Some((_, said)) => said.to_owned(),
        None => text,
    }
}

#[test]
fn both_kinds_give_the_same_report_and_leave_nothing_behind() {
    alone("parity::both_kinds_give_the_same_report_and_leave_nothing_behind", || {
        let hooks = probes();
        let patient = runtimes(&hooks, &patient());
        let impatient = runtimes(&hooks, &impatient());
        let before = Leftovers::before();
        let mut cases = 0;
        for Case { steps, document, expected } in table() {
            let runs_out = matches!(&expected, Expected::Same(said) if said.starts_with("timed out"));
            let runtimes = if runs_out { &impatient } else { &patient };
            for (operation, decision) in [("start", Decision::Vetoed), ("stopped", Decision::Notified)] {
                let event = event(steps, operation).with_document(document_of(document));
                let [native, confined, wasm] = runtimes.each_ref().map(|runtime| {
                    let began = Instant::now();
                    let report = runtime.run(&event);
                    // The grace period is half a minute, so a hook that neither SIGTERM nor the timeout ended would be
                    // noticed.
                    assert!(
                        !runs_out || began.elapsed() < Duration::from_secs(20),
                        "{steps} took {:?}",
                        began.elapsed()
                    );
                    Leftovers::assert_none_since(&before, steps);
                    report
                });
                assert_eq!(comparable(&confined), comparable(&native), "confined, {operation} {steps}");
                assert_eq!(said(&confined), said(&native), "confined, {operation} {steps}");
                let failed = native.exit_status() != 0;
                let decision = if failed || operation == "stopped" { decision } else { Decision::Proceed };
                match &expected {
                    Expected::Same(expected) => {
                        assert_eq!(said(&native), *expected, "{operation} {steps}");
                        assert_eq!(comparable(&wasm), comparable(&native), "{operation} {steps}");
                    }
                    Expected::Crash { status, native: by_signal, wasm: by_trap } => {
                        assert_eq!(said(&native), *by_signal, "{operation} {steps}");
                        assert!(said(&wasm).starts_with(by_trap), "{operation} {steps}: {}", said(&wasm));
                        assert!(said(&wasm).contains("probe::main") && said(&wasm).ends_with(": said before"));
                        assert_eq!([native.exit_status(), wasm.exit_status()], [*status; 2], "{operation} {steps}");
                    }
                }
                assert_eq!([native.decision, wasm.decision], [decision; 2], "{operation} {steps}");
            }
            cases += 1;
        }
        assert!(cases >= 25, "the table has shrunk to {cases} cases");
    });
}

#[test]
fn arguments_arrive_as_they_are() {
    let hooks = probes();
    let runtimes = runtimes(&hooks, &patient());
    for [sub_operation, extra] in [["-", "-"], ["", ""], ["two words", " a "], ["--", "-x"], ["ünï√", "'\"$(x)\\*"]]
    {
        let event = Event::new(DRIVER, "arguments;exit=1", "start").unwrap();
        let event = event.with_sub_operation(sub_operation).unwrap().with_extra(extra).unwrap();
        let reports = runtimes.each_ref().map(|runtime| runtime.run(&event));
        let expected = format!("failed with error code 1: {:?}", event.arguments());
        assert_eq!(reports.each_ref().map(said), [0; 3].map(|_| expected.clone()));
        let [native, confined, wasm] = reports.each_ref().map(comparable);
        assert_eq!([&confined, &wasm], [&native; 2]);
    }
}

/// Three hooks of one event, of which the second and third fail, in a directory of each kind and in a mixed one.
fn three_hooks() -> Vec<Hooks> {
    let (native, wasm) = (native_probe(), wasm_probe());
    [[native, native, native], [wasm, wasm, wasm], [native, wasm, native], [wasm, native, wasm]]
        .map(|[first, second, third]| {
            // The libvirt convention, and the generic one.
            ["qemu", DRIVER].into_iter().fold(Hooks::new(), |hooks, driver| {
                hooks
                    .copy(&format!("{driver}.d/10@exit=0"), first)
                    .copy(&format!("{driver}.d/20@stderr=no;exit=7"), second)
                    .copy(&format!("{driver}.d/30@stderr=nor I;exit=9"), third)
            })
        })
        .into()
}

#[test]
fn the_first_failure_stands_and_later_hooks_run_as_the_convention_says() {
    let hooks = three_hooks();
    for (hooks, confine) in hooks.iter().flat_map(|hooks| [(hooks, false), (hooks, true)]) {
        let runtime = hooks.builder().confine_all(confine).build().unwrap();
        let run = |driver, operation| {
            let report = runtime.run(&Event::new(driver, "web1", operation).unwrap());
            let statuses: Vec<u8> = report.hooks.iter().map(|hook| hook.termination.exit_status()).collect();
            (report.decision, report.exit_status(), statuses, report.skipped.len())
        };
        // After a veto no hook runs, except in libvirt's convention, where each hook gets matching pairs of events.
        assert_eq!(run(DRIVER, "start"), (Decision::Vetoed, 7, vec![0, 7], 1));
        assert_eq!(run("qemu", "start"), (Decision::Vetoed, 7, vec![0, 7, 9], 0));
        // After a stop, all hooks run.
        assert_eq!(run(DRIVER, "stopped"), (Decision::Notified, 7, vec![0, 7, 9], 0));
        assert_eq!(run("qemu", "release"), (Decision::Notified, 7, vec![0, 7, 9], 0));
    }
}

#[test]
fn what_cannot_be_launched_vetoes_and_is_reported() {
    let broken: [&[u8]; 2] = [b"", b"\0asm\x01\0\0\0garbage"];
    for content in broken {
        let hooks = Hooks::new();
        hooks.file(DRIVER, content, 0o755);
        let runtime = hooks.runtime();
        let [start, stopped] = ["start", "stopped"].map(|operation| runtime.run(&event("web1", operation)));
        assert_eq!([start.decision, stopped.decision], [Decision::Vetoed, Decision::Notified]);
        for report in [start, stopped] {
            assert_eq!(report.exit_status(), 126);
            assert!(said(&report).starts_with("could not be run: it is "), "{report}");
        }
    }
}

#[test]
fn a_filter_hands_the_document_from_hook_to_hook() {
    let [native, wasm] = [native_probe(), wasm_probe()];
    for (first, second, confine) in [(native, wasm, false), (wasm, native, false), (native, wasm, true)] {
        let runtime = |hooks: &Hooks| hooks.builder().confine_all(confine).build().unwrap();
        let rewrite = Hooks::new()
            .copy("qemu.d/10@cat;stdout=<!--first-->", first)
            .copy("qemu.d/20@exit=0", second)
            .copy("qemu.d/30@cat;stdout=<!--third-->", second);
        let migrate = Event::new("qemu", "web1", "migrate").unwrap().with_document("<domain/>");
        let report = runtime(&rewrite).run(&migrate);
        assert_eq!(
            (report.decision, report.document.as_deref()),
            (Decision::Proceed, Some(&b"<domain/><!--first--><!--third-->"[..]))
        );

        let too_much = Hooks::new().copy("qemu.d/10@flood-stdout=8388609", first).copy("qemu.d/20@exit=0", second);
        let report = runtime(&too_much).run(&migrate);
        assert_eq!((report.decision, report.exit_status(), report.document.as_ref()), (Decision::Vetoed, 1, None));
        assert!(
            report
                .to_string()
                .ends_with("qemu was refused: it wrote a document of 8388609 bytes: the limit is 8388608 bytes"),
            "{report}"
        );

        let garbage =
            Hooks::new().copy("qemu.d/10@stdout=no XML;stderr=as asked\\n", first).copy("qemu.d/20@cat", second);
        let report = runtime(&garbage).run(&migrate);
        assert_eq!((report.decision, report.exit_status(), report.document.as_ref()), (Decision::Vetoed, 1, None));
        let refused = "qemu was refused: its output is not XML: unknown token at 1:1: as asked";
        assert!(report.to_string().ends_with(refused), "{report}");

        // For any other operation, stdout has no meaning.
        let start = Event::new("qemu", "web1", "start").unwrap().with_document("<domain/>");
        assert_eq!(runtime(&rewrite).run(&start).document, None);
    }
}
