//! A host that is out of what a call needs, or that does what hosts do to their children and their directories.
//!
//! In each case a start is vetoed with one clear sentence or goes right; it never hangs, never proceeds unasked, and leaves
//! nothing behind; and once the fault is over, the same runtime is as good as before.

mod children;
#[cfg(feature = "wasm")]
mod clocks;
mod directory;
mod old_kernel;
mod resources;
#[cfg(feature = "wasm")]
mod sandbox;
mod stopped;
#[cfg(feature = "wasm")]
mod swapped;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hookvisor::{Decision, Report, Runtime};

use crate::support::{event, needs_root};

/// Longer than any of these calls may take, on a slow machine.
const TOO_LONG: Duration = Duration::from_secs(30);
/// The user that has next to nothing.
const NOBODY: u32 = 65534;

/// What became of a start while something is amiss.
enum Became {
    Allowed,
    /// The text report, without the hook's path.
    Vetoed(String),
}

/// Asks for the start of `object`, and sees to what holds in every case.
fn start(runtime: &Runtime, object: &str) -> Became {
    let began = Instant::now();
    let report = runtime.run(&event(object, "start"));
    assert!(began.elapsed() < TOO_LONG, "{:?}: {report}", began.elapsed());
    let said = sentence(&report);
    match report.decision {
        Decision::Proceed => {
            assert!(report.hooks.iter().all(|hook| hook.termination.is_success()), "{report:?}");
            Became::Allowed
        }
        _ => {
            assert_eq!(said.lines().count(), 1, "{said}");
            Became::Vetoed(said)
        }
    }
}

/// What is said of the first hook that failed.
fn sentence(report: &Report) -> String {
    report.failures().next().map(|hook| hook.termination.to_string()).unwrap_or_default()
}

/// As [`start`], where nothing else will do.
fn allowed(runtime: &Runtime, object: &str) {
    if let Became::Vetoed(said) = start(runtime, object) {
        unreachable!("{object}: {said}");
    }
}

/// As [`start`], where nothing else will do.
fn vetoed(runtime: &Runtime, object: &str) -> String {
    match start(runtime, object) {
        Became::Allowed => unreachable!("{object} was allowed"),
        Became::Vetoed(said) => said,
    }
}

/// Says at its end, also that by a panic, that it is over.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the body with the rights of a user who has no other process, for limits that do not bind root; says so where that
/// cannot be.
fn as_nobody(body: impl FnOnce()) {
    if !needs_root("limits that do not bind root") {
        return;
    }
    let become_user = |user: u32| {
        nix::unistd::setresgid(user.into(), user.into(), 0.into()).unwrap();
        nix::unistd::setresuid(user.into(), user.into(), 0.into()).unwrap();
    };
    become_user(NOBODY);
    body();
    nix::unistd::setresuid(0.into(), 0.into(), 0.into()).unwrap();
    become_user(0);
}
