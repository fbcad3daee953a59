//! What a sandboxed hook finds in its granted directories.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use hookvisor::{Limits, Report};
use tempfile::TempDir;

use crate::support::alone::alone;
use crate::support::guests::{wasm_component_probe, wasm_probe};
use crate::support::leftovers::peak_kib_of;
use crate::support::{DRIVER, Hooks, event, stderr};

/// The probe as a module and as a component, with these settings.
fn probes(settings: &str) -> [Hooks; 2] {
    [wasm_probe(), wasm_component_probe()].map(|probe| {
        let hooks = Hooks::new().copy(DRIVER, probe);
        hooks.file("test.toml", settings, 0o644);
        hooks
    })
}

fn granted(host: &Path) -> String {
    format!("[[dir]]\nhost = '{}'\nguest = '/granted'\naccess = 'read-write'\n", host.display())
}

fn run(hooks: &Hooks, steps: &str) -> Report {
    hooks.runtime().run(&event(steps, "start"))
}

/// A directory with this many files.
fn directory_of(files: usize) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for at in 0..files {
        fs::write(directory.path().join(format!("file-{at}")), "").unwrap();
    }
    directory
}

#[test]
fn a_listing_has_every_entry_once() {
    let directory = tempfile::tempdir().unwrap();
    // Names of all lengths, so that one ends exactly at the end of the guest's buffer and others do not fit.
    let mut names: Vec<String> =
        (1..=255).map(|length| format!("{length:x<length$}")).map(|name| name[..].into()).collect();
    names.extend((0..300).map(|at| format!("{at}-file")));
    names.iter().for_each(|name| fs::write(directory.path().join(name), "").unwrap());
    names.sort();
    names.dedup();
    for hooks in probes(&granted(directory.path())) {
        let report = run(&hooks, "list=/granted;exit=1");
        assert_eq!(stderr(&report), format!("{}\n", names.join(" ")), "{report}");
    }
    for hooks in probes(&granted(directory.path())) {
        fs::create_dir_all(directory.path().join("below/deep")).unwrap();
        (0..50).for_each(|at| fs::write(directory.path().join(format!("below/deep/{at}")), "").unwrap());
        let report = run(&hooks, "remove-all=/granted/below");
        assert_eq!(report.exit_status(), 0, "{report}");
        assert!(!directory.path().join("below").exists());
    }
}

#[test]
fn a_long_directory_costs_the_host_no_more_than_its_length() {
    alone("granted_files::a_long_directory_costs_the_host_no_more_than_its_length", || {
        let slow = std::env::var_os("HOOKVISOR_SLOW_TESTS").is_some();
        let files = if slow { 300_000 } else { 20_000 };
        let directory = directory_of(files);
        for hooks in probes(&granted(directory.path())) {
            let mut limits = Limits::default();
            limits.timeout = Duration::from_secs(140);
            let runtime = hooks.builder().limits(limits).build().unwrap();
            let _ = runtime.run(&event("exit=0", "start"));
            let mut report = None;
            let peak = peak_kib_of(|| report = Some(runtime.run(&event("count=/granted;exit=1", "start"))));
            let report = report.unwrap();
            assert_eq!(stderr(&report), format!("{files} entries\n"), "{report}");
            assert!(peak < 16 << 10, "{peak} KiB");
        }
    });
}

#[test]
fn files_of_processes_are_never_accessible() {
    let grants = "[[dir]]\nhost = '/proc'\naccess = 'read-write'\n[[dir]]\nhost = '/'\nguest = '/host'\n";
    for hooks in probes(grants) {
        let own = std::process::id();
        for path in [
            "/proc/self/environ",
            "/proc/self/mem",
            "/proc/thread-self/environ",
            "/proc/self/task",
            "/proc/self",
            "/proc/self/root/etc/passwd",
            "/proc/1/environ",
            &format!("/proc/{own}/environ"),
            &format!("/proc/{own}/fd"),
            "/host/proc/self/environ",
            &format!("/host/proc/{own}/mem"),
        ] {
            let report = run(&hooks, &format!("open={path}"));
            // A component has one status for all failures.
            assert!([4, 1].contains(&report.exit_status()), "{path}: {report}");
            let report = run(&hooks, &format!("write={path}:x"));
            assert!([5, 1].contains(&report.exit_status()), "{path}: {report}");
        }
        for path in ["/proc/sys/kernel/ostype", "/host/proc/sys/kernel/ostype"] {
            assert_eq!(stderr(&run(&hooks, &format!("show={path};exit=1"))), "Linux\n");
        }
        assert_eq!(run(&hooks, "open=/proc/meminfo").exit_status(), 0);
    }
    for host in ["/proc/self", "/proc/1", "/proc/thread-self/fd"] {
        let [hooks, _] = probes(&format!("[[dir]]\nhost = '{host}'\n"));
        let reason = hooks.runtime().inventory().hooks[0].reason.clone();
        let expected = format!(
            "its settings grant the directory {host}, which belongs to a process: hooks cannot access processes"
        );
        assert_eq!(reason, Some(expected));
    }
}

#[test]
fn reading_a_blocking_file_fails_at_once() {
    for hooks in probes("[[dir]]\nhost = '/proc'\n") {
        let began = Instant::now();
        // It ends with an error after the last kernel message, or at once without permission to read them.
        let report = run(&hooks, "show=/proc/kmsg;exit=1");
        assert_eq!(report.exit_status(), 1, "{report}");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    }
}

#[test]
fn check_warns_of_grants_that_open_more_than_they_seem_to() {
    for (host, opens) in [
        ("/proc", Some("/proc (the kernel's settings)")),
        ("/sys/kernel/security", Some("/sys/kernel/security (the policies of security modules)")),
        ("/sys", Some("/sys/kernel/security (the policies of security modules)")),
        ("/dev", Some("/dev (the shared memory of other programs)")),
        ("/usr", None),
    ] {
        if !Path::new(host).exists() {
            continue;
        }
        let [hooks, _] = probes(&format!("[[dir]]\nhost = '{host}'\n"));
        let warnings = hooks.runtime().inventory().hooks[0].warnings.clone();
        let expected = opens
            .map(|opens| format!("its grant of {host} opens {opens}: grant only the directory that the hook needs"));
        assert_eq!(warnings, expected.clone().into_iter().collect::<Vec<_>>());
        let ran = hooks.call(&["check"]);
        assert_eq!(ran.status, 0, "a warning is no failure: {}", ran.stdout);
        assert_eq!(
            expected.is_some_and(|warning| ran.stdout.contains(&format!("warning: DIR/test: {warning}"))),
            opens.is_some()
        );
    }
}
