//! A host that lacks a resource, or that interferes with its children or directories.
//!
//! In each case, a start is vetoed with one clear sentence or succeeds. It never hangs, never proceeds without asking,
//! and leaves nothing behind. Afterwards, the same runtime works as before.

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

/// Longer than any of these calls takes, even on a slow machine.
const TOO_LONG: Duration = Duration::from_secs(30);
/// A user without other processes.
const NOBODY: u32 = 65534;

/// The result of a start during a fault.
enum Became {
    Allowed,
    /// The text report, without the hook's path.
    Vetoed(String),
}

/// Runs the start of `object`, and checks what must hold in every case.
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

/// The report of the first failed hook.
fn sentence(report: &Report) -> String {
    report.failures().next().map(|hook| hook.termination.to_string()).unwrap_or_default()
}

/// Like [`start`], where only a proceed is right.
fn allowed(runtime: &Runtime, object: &str) {
    if let Became::Vetoed(said) = start(runtime, object) {
        unreachable!("{object}: {said}");
    }
}

/// Like [`start`], where only a veto is right.
fn vetoed(runtime: &Runtime, object: &str) -> String {
    match start(runtime, object) {
        Became::Allowed => unreachable!("{object} was allowed"),
        Became::Vetoed(said) => said,
    }
}

/// Signals on drop, and so also after a panic, that it is over.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs the body as a user without other processes, for limits that do not apply to root. Reports a skip if that is not
/// possible.
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
