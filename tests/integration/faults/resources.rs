//! A host without free processes or descriptors.

use std::fs::File;

use hookvisor::Cancel;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{Became, allowed, as_nobody, start, vetoed};
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event};

/// Lowers a limit while the body runs.
pub(super) fn limited<T>(resource: Resource, to: u64, body: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, to, hard).unwrap();
    let result = body();
    setrlimit(resource, soft, hard).unwrap();
    result
}

const NO_PROCESS: &str = "could not be run: could not create a process: no more processes or threads are allowed here \
                          (`ulimit -u`, or the limit of its cgroup)";

#[test]
fn without_processes_a_start_is_vetoed_until_there_are_some() {
    alone("faults::resources::without_processes_a_start_is_vetoed_until_there_are_some", || {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        let runtime = hooks.runtime();
        let before = Leftovers::now();
        as_nobody(|| {
            allowed(&runtime, "web1");
            for _ in 0..20 {
                limited(Resource::RLIMIT_NPROC, 0, || assert_eq!(vetoed(&runtime, "web1"), NO_PROCESS));
                allowed(&runtime, "web1");
            }
        });
        Leftovers::assert_none_since(&before, "a lack of processes");
    });
}

fn all_descriptors() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

/// Leaves this many free descriptors while the body runs. The body may keep or return some.
fn with_descriptors<T>(number: usize, body: impl FnOnce() -> T) -> T {
    limited(Resource::RLIMIT_NOFILE, 96, || {
        let mut hoard = all_descriptors();
        hoard.truncate(hoard.len().checked_sub(number).unwrap());
        body()
    })
}

/// Every kind of hook in this build, with what uses descriptors: a cancellation and a granted directory.
fn of_each_kind() -> Vec<(&'static str, Hooks)> {
    let native = Hooks::new().script(DRIVER, "read -r document; exit 0");
    #[cfg(feature = "wasm")]
    let wasm = {
        let hooks = Hooks::new().copy(DRIVER, crate::support::guests::wasm_probe());
        let grant = |name| format!("[[dir]]\nhost = '{}'\nguest = '/{name}'\n", hooks.path().display());
        hooks.file("test.toml", ["a", "b", "c"].map(grant).concat(), 0o644);
        hooks
    };
    vec![
        ("native", native),
        #[cfg(feature = "wasm")]
        ("wasm", wasm),
    ]
}

const NO_DESCRIPTOR: &str = "Too many open files";

/// wasmtime does not report the reason if it cannot prepare a module's memory.
fn is_clear(said: &str) -> bool {
    said.contains(NO_DESCRIPTOR)
        || said.ends_with("could not prepare the initial image of its memory: cannot create a memfd")
}

#[test]
fn a_call_that_lacks_any_one_descriptor_vetoes() {
    alone("faults::resources::a_call_that_lacks_any_one_descriptor_vetoes", || {
        for (kind, hooks) in of_each_kind() {
            let runtime = hooks.runtime();
            allowed(&runtime, "exit=0");
            let before = Leftovers::now();
            let allowed_with: Vec<bool> = (0..=16)
                .map(|number| {
                    let report = with_descriptors(number, || {
                        let start = event("exit=0", "start").with_document("document\n");
                        let report = runtime.call(&start).cancel(&Cancel::new()).run();
                        assert_eq!(all_descriptors().len(), number, "a descriptor is left behind");
                        report
                    });
                    let said = super::sentence(&report);
                    let status = report.exit_status();
                    assert!(
                        status == 0 || said.contains(NO_DESCRIPTOR) && said.lines().count() == 1,
                        "{number}: {said}"
                    );
                    assert!([0, 125, 126].contains(&status), "{number}: {report}");
                    status == 0
                })
                .collect();
            // With more descriptors it gets further, and finally succeeds.
            assert!(allowed_with.is_sorted() && !allowed_with[0] && allowed_with[16], "{kind}: {allowed_with:?}");
            allowed(&runtime, "exit=0");
            Leftovers::assert_none_since(&before, kind);
        }
    });
}

#[test]
fn a_load_that_lacks_any_one_descriptor_never_skips_a_hook() {
    alone("faults::resources::a_load_that_lacks_any_one_descriptor_never_skips_a_hook", || {
        for (kind, hooks) in of_each_kind() {
            let at_first = Leftovers::now();
            let runtime = hooks.runtime();
            let before = Leftovers::now();
            for number in 0..=16 {
                match with_descriptors(number, || runtime.reload()) {
                    // The hooks that were loaded before stay.
                    Err(error) => assert!(error.to_string().contains(NO_DESCRIPTOR), "{number}: {error}"),
                    Ok(()) => {
                        if let Became::Vetoed(said) = start(&runtime, "exit=0") {
                            assert!(is_clear(&said), "{kind} {number}: {said}");
                        }
                    }
                }
                runtime.reload().unwrap();
                allowed(&runtime, "exit=0");
                Leftovers::assert_none_since(&before, &format!("{kind}: a reload with {number} descriptors"));
            }
            drop(runtime);
            for number in 0..=24 {
                let builder = hooks.builder();
                match with_descriptors(number, || builder.build()) {
                    Err(error) => assert!(error.to_string().contains(NO_DESCRIPTOR), "{number}: {error}"),
                    Ok(runtime) => {
                        if let Became::Vetoed(said) = start(&runtime, "exit=0") {
                            assert!(is_clear(&said), "{kind} {number}: {said}");
                        }
                        // The same runtime.
                        runtime.reload().unwrap();
                        allowed(&runtime, "exit=0");
                    }
                }
                Leftovers::assert_none_since(&at_first, &format!("{kind}: a runtime made with {number} descriptors"));
            }
        }
    });
}
