//! A hooks directory that changes while it is read.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hookvisor::{Runtime, RuntimeBuilder};

use super::{Until, allowed, as_nobody, vetoed};
use crate::support::alone::alone;
use crate::support::{Hooks, event, wait_until};

pub(super) fn builder(hooks: &Hooks) -> RuntimeBuilder {
    let builder = Runtime::builder(hooks.path().join("hooks"));
    #[cfg(feature = "wasm")]
    let builder = builder.cache(hookvisor::Cache::open(hooks.path().join(".cache")).unwrap());
    builder
}

#[test]
fn a_removed_directory_vetoes_until_it_is_back() {
    let hooks = Hooks::new();
    hooks.file("hooks/test", "#!/bin/sh\nexit 0\n", 0o755);
    let (at, gone) = (hooks.path().join("hooks"), hooks.path().join("gone"));
    let runtime = builder(&hooks).build().unwrap();
    fs::rename(&at, &gone).unwrap();
    assert!(runtime.reload().unwrap_err().to_string().starts_with("there is no hooks directory "));
    let said = "could not be run: the file has been removed: put it back, or reload the hooks";
    assert_eq!(vetoed(&runtime, "web1"), said);
    fs::write(&at, "in its place").unwrap();
    assert!(runtime.reload().unwrap_err().to_string().contains(" is not a directory: "));
    vetoed(&runtime, "web1");
    fs::remove_file(&at).unwrap();
    fs::rename(&gone, &at).unwrap();
    allowed(&runtime, "web1");
    runtime.reload().unwrap();
    allowed(&runtime, "web1");
}

#[test]
fn a_directory_that_keeps_changing_is_reported_and_the_old_hooks_stay() {
    let hooks = Hooks::new();
    // Enough entries to make reading slow.
    for number in 100..500 {
        hooks.file(&format!("hooks/test.d/{number}"), "#!/bin/sh\nexit 3\n", 0o755);
    }
    let runtime = builder(&hooks).build().unwrap();
    let (done, changes) = (AtomicBool::new(false), hooks.path().join("hooks/.changes"));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                fs::write(&changes, "").unwrap();
                fs::remove_file(&changes).unwrap();
            }
        });
        let _until = Until(&done);
        let mut said = None;
        wait_until("a reload meets with a change each time", || {
            said = runtime.reload().err();
            said.is_some()
        });
        let expected = "keeps changing while it is read: try again later";
        assert!(said.unwrap().to_string().ends_with(expected));
    });
    assert_eq!(runtime.run(&event("web1", "start")).exit_status(), 3);
    runtime.reload().unwrap();
}

#[test]
fn a_directory_that_cannot_be_searched_is_not_empty() {
    alone("faults::directory::a_directory_that_cannot_be_searched_is_not_empty", || {
        let places = ["hooks/test", "hooks/test.d/10", "hooks/test.d/web1/start/-/10"];
        let hooks: Vec<Hooks> = places
            .iter()
            .map(|place| {
                let hooks = Hooks::new();
                hooks.file(place, "#!/bin/sh\nexit 0\n", 0o755);
                let closed = hooks
                    .path()
                    .join(place.split_inclusive('/').take(place.matches('/').count().min(2)).collect::<String>());
                fs::set_permissions(closed, fs::Permissions::from_mode(0o744)).unwrap();
                hooks
            })
            .collect();
        as_nobody(|| {
            for (hooks, place) in hooks.iter().zip(places) {
                let runtime = Runtime::open(hooks.path().join("hooks")).unwrap();
                let said = vetoed(&runtime, "web1");
                assert_eq!(
                    said, "could not be run: it could not be examined: Permission denied (os error 13)",
                    "{place}"
                );
            }
        });
    });
}
