//! A guest's request costs the host no more than it costs the guest.

use std::fs;
use std::thread;

use bytes::Bytes;
use hookvisor::{Event, Report};

use crate::support::alone::alone;
use crate::support::guests::{wasm_component_probe, wasm_for, wasm_probe};
use crate::support::leftovers::peak_kib_of;
use crate::support::{DRIVER, Hooks, event, stderr};

/// A guest's own limit of 64 MiB, and a copy of the largest request.
const PEAK_KIB: u64 = (64 + 16) << 10;

/// Runs an event in a hook that was called before, and measures the peak memory of the call.
fn peak(hooks: &Hooks, warm_up: &Event, event: &Event) -> (Report, u64) {
    let runtime = hooks.runtime();
    let _ = runtime.run(warm_up);
    let mut report = None;
    let peak = peak_kib_of(|| report = Some(runtime.run(event)));
    (report.unwrap(), peak)
}

#[test]
fn an_oversized_command_request_is_refused_before_it_is_copied() {
    alone("amplification::an_oversized_command_request_is_refused_before_it_is_copied", || {
        for target in ["wasm32-wasip1", "wasm32-wasip2"] {
            let hooks = Hooks::new().copy("qemu.d/10-sdk.wasm", &wasm_for("sdk", target));
            hooks.file("qemu.d/10-sdk.toml", "[[command]]\nprogram = '/bin/sh'\nargs = ['*']\n", 0o644);
            let with = |extra: &str| Event::new("qemu", "web1", "start").unwrap().with_extra(extra).unwrap();
            for (step, said, note) in [
                ("long=12000000", "an argument has 12000000 bytes", "an argument has 12000000 bytes"),
                ("long=131072", "an argument has 131072 bytes", "an argument has 131072 bytes"),
                ("long-name=5000000", "the program name has 5000000 bytes", "the program name has 5000000 bytes"),
                ("long-name=4096", "the program name has 4096 bytes", "the program name has 4096 bytes"),
                ("many=1000000", "there are too many arguments", "there are too many arguments"),
            ] {
                let (report, peak) = peak(&hooks, &with("status=0"), &with(step));
                let words = stderr(&report);
                assert!(words.starts_with("refused: ") && words.contains(said), "{target} {step}: {words}");
                assert!(report.hooks[0].notes[0].contains(note), "{target} {step}: {report}");
                assert!(peak < PEAK_KIB, "{target} {step}: {peak} KiB");
            }
            // The longest argument that a program can take is matched like any other.
            let report = hooks.runtime().run(&with("long=131071"));
            assert!(stderr(&report).contains("settings do not list this command"), "{target}: {report}");
            assert!(report.hooks[0].notes[0].len() < 2000, "{target}: {report}");
        }
    });
}

#[test]
fn the_document_of_many_calls_is_in_memory_once() {
    alone("amplification::the_document_of_many_calls_is_in_memory_once", || {
        const CALLS: usize = 8;
        const DOCUMENT_KIB: u64 = 32 << 10;
        let hooks =
            Hooks::new().copy("test.d/10-module", wasm_probe()).copy("test.d/20-component", wasm_component_probe());
        // No hook reads its stdin, and all of them run at the same time.
        let hooks = hooks.script("test.d/30-native", "sleep 0.3");
        let runtime = hooks.runtime();
        let document = Bytes::from(vec![b'x'; usize::try_from(DOCUMENT_KIB << 10).unwrap()]);
        let start =
            || assert_eq!(runtime.run(&event("sleep=300", "start").with_document(document.clone())).exit_status(), 0);
        start();
        let peak = peak_kib_of(|| {
            thread::scope(|scope| {
                for _ in 0..CALLS {
                    scope.spawn(start);
                }
            });
        });
        assert!(peak < DOCUMENT_KIB, "{peak} KiB");
    });
}

#[test]
fn an_oversized_path_is_refused_before_it_is_copied() {
    alone("amplification::an_oversized_path_is_refused_before_it_is_copied", || {
        for probe in [wasm_probe(), wasm_component_probe()] {
            let hooks = Hooks::new().copy(DRIVER, probe);
            let granted = tempfile::tempdir().unwrap();
            fs::write(granted.path().join("file"), "").unwrap();
            let host = granted.path().display();
            let settings = format!("[[dir]]\nhost = '{host}'\nguest = '/granted'\naccess = 'read-write'\n");
            hooks.file("test.toml", settings, 0o644);
            for length in [12_000_000, 5000] {
                let step = event(&format!("long-path={length}"), "start");
                let (report, peak) = peak(&hooks, &event("exit=0", "start"), &step);
                assert_eq!((report.exit_status(), stderr(&report)), (0, String::new()), "{report}");
                assert!(peak < PEAK_KIB, "{}: {length}: {peak} KiB", probe.display());
            }
        }
    });
}
