//! Shared by the tests: hooks directories, guests built from source, and checks for what a call leaves behind.

pub(crate) mod alone;
#[cfg(feature = "wasm")]
pub(crate) mod capi;
pub(crate) mod daemon;
#[cfg(feature = "wasm")]
pub(crate) mod guests;
pub(crate) mod leftovers;
#[cfg(feature = "wasm")]
pub(crate) mod libvirt;
pub(crate) mod log;
pub(crate) mod numbers;
pub(crate) mod old_kernel;
pub(crate) mod processes;
pub(crate) mod program;
pub(crate) mod recorder;
mod skipping;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use self::skipping::{needs_root, skip};

use hookvisor::{Event, Limits, Report, Runtime, RuntimeBuilder};
use tempfile::TempDir;

/// The driver for tests where it does not matter. It has the generic convention.
pub(crate) const DRIVER: &str = "test";

/// A hooks directory that is built step by step and removed with the test.
pub(crate) struct Hooks {
    directory: TempDir,
}

impl Hooks {
    pub(crate) fn new() -> Self {
        let directory = TempDir::with_prefix("hooks-").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A file, with its parent directories.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A shell hook.
    pub(crate) fn script(self, name: &str, body: &str) -> Self {
        self.file(name, format!("#!/bin/sh\n{body}\n"), 0o755);
        self
    }

    /// A hook that is a copy of an executable file.
    #[cfg(feature = "wasm")]
    pub(crate) fn copy(self, name: &str, of: &Path) -> Self {
        self.file(name, fs::read(of).unwrap(), 0o755);
        self
    }

    /// A builder for a runtime with these hooks. All tests share compiled code.
    pub(crate) fn builder(&self) -> RuntimeBuilder {
        let builder = Runtime::builder(self.path());
        #[cfg(feature = "wasm")]
        let builder = builder.cache(hookvisor::Cache::open(concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")).unwrap());
        builder
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.builder().build().unwrap()
    }

    /// A runtime whose hooks time out soon and have a grace period too long to go unnoticed.
    pub(crate) fn impatient_runtime(&self) -> Runtime {
        self.builder().limits(impatient()).build().unwrap()
    }
}

pub(crate) fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.timeout = if alone::is_emulated() { Duration::from_secs(3) } else { Duration::from_millis(300) };
    limits.grace = Duration::from_secs(30);
    limits
}

/// An event of the test driver.
pub(crate) fn event(object: &str, operation: &str) -> Event {
    Event::new(DRIVER, object, operation).unwrap()
}

/// Runs one start event of a directory of hooks.
pub(crate) fn start(hooks: &Hooks) -> Report {
    hooks.runtime().run(&event("web1", "start"))
}

/// The stderr of the first hook in a report.
pub(crate) fn stderr(report: &Report) -> String {
    String::from_utf8_lossy(&report.hooks[0].stderr).into_owned()
}

/// Waits for something that another process or thread does soon.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
