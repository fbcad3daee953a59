//! What the handles of a runtime share: its options and its hooks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::hooks::{Hook, HookSet, Loaded};
use super::load::Loader;
use super::{mistakes, parallel};
use crate::backend::{Backend, Calls};
use crate::cancel::Cancel;
use crate::convention::Conventions;
use crate::event::Event;
use crate::hook::discovery::{self, DirectoryStamp, Findings, Found, LoadError};
use crate::hook::file;
use crate::hook::first;
use crate::hook::skipped::Skipped;
use crate::hook::trust::Trust;
use crate::hook::walk::OneLook;
use crate::limits::Limits;
use crate::printable::printable_line;
use crate::record::Record;
use crate::semaphore::Semaphore;

/// How often a reload reads a directory that keeps changing. The pause before each retry grows by this step.
const RELOAD_TRIES: u32 = 10;
const RELOAD_PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Shared {
    /// The process that built it.
    pub(super) process: u32,
    pub(super) directory: PathBuf,
    pub(super) limits: Limits,
    pub(super) driver_limits: BTreeMap<String, Limits>,
    pub(super) only_driver: Option<String>,
    pub(super) known_drivers: Vec<String>,
    pub(super) require_hooks: bool,
    /// Why every start is refused.
    pub(super) refused: Option<String>,
    pub(super) conventions: Conventions,
    pub(super) first: Vec<(String, PathBuf)>,
    pub(super) calls: Calls,
    pub(super) cancels: Vec<Cancel>,
    /// Bounds how many hooks run at once (`max_in_flight`).
    pub(super) slots: Option<Semaphore>,
    pub(super) trust: Trust,
    pub(super) confine_all: bool,
    pub(super) backends: Vec<Box<dyn Backend>>,
    pub(super) hooks: RwLock<Arc<HookSet>>,
    pub(super) record: Option<Record>,
    /// Held during a reload. With two concurrent reloads, the later one's hooks stay.
    pub(super) reloading: Mutex<()>,
}

impl Shared {
    pub(super) fn reload(&self) -> Result<(), LoadError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        for attempt in 1..=RELOAD_TRIES {
            if let Some(set) = self.load()? {
                log_what_will_not_run(&set);
                *self.hooks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
                return Ok(());
            }
            std::thread::sleep(RELOAD_PAUSE * attempt);
        }
        Err(LoadError::Changing { path: self.directory.clone() })
    }

    /// Loads the hooks directory. `None` if it changed meanwhile: the result could mix the old and the new contents.
    fn load(&self) -> Result<Option<HookSet>, LoadError> {
        let _one_look = OneLook::begin();
        let only = self.only_driver.as_deref();
        let mut findings = match discovery::find(&self.directory, only, self.trust) {
            Err(_) if self.refused.is_some() => Findings::default(),
            found => found?,
        };
        first::find(&self.first, only, self.trust, &mut findings);
        let mut found = Vec::new();
        for (driver, hooks) in findings.drivers {
            found.extend(hooks.into_iter().map(|hook| (driver.clone(), hook)));
        }
        let load = |(driver, found): (String, Found)| {
            let limits = self.limits_of(&driver);
            let (backends, trust, confine_all) = (&self.backends, self.trust, self.confine_all);
            let calls = self.calls;
            let loader = Loader { backends, limits, trust, grants: trust, confine_all, learns: false, calls };
            let hook = loader.load_found(found).map(|hook| hook.with_known_operations(self.conventions.of(&driver)));
            (driver, hook)
        };
        let loaded: Vec<(String, Result<Hook, Skipped>)> = match self.calls {
            Calls::One => found.into_iter().map(load).collect(),
            Calls::Many => parallel::in_parallel(found, load),
        };
        let mut set = HookSet { strays: findings.strays, dispatched: findings.dispatched, ..HookSet::default() };
        for (driver, hook) in loaded {
            match hook {
                Ok(hook) => {
                    set.until = set.until.into_iter().chain(hook.disabled_until).min();
                    set.drivers.entry(driver).or_default().push(hook);
                }
                Err(stray) => set.strays.push(stray),
            }
        }
        mistakes::find(&self.directory, &mut set, &self.conventions, &self.known_drivers);
        Ok(findings.directories.iter().all(DirectoryStamp::is_unchanged).then_some(set))
    }

    /// The hooks for a call that begins now. Reloads first if a hook's disabled time is over. If the reload fails, that hook
    /// cannot be run.
    pub(super) fn hooks_now(&self) -> Arc<HookSet> {
        if self.hooks().until.is_some_and(|until| until <= SystemTime::now()) {
            let _ = self.reload();
        }
        self.hooks()
    }

    /// Why no event can run in this process. Check this before taking any lock: a thread that the fork lacks may hold
    /// it.
    pub(super) fn forked(&self) -> Option<String> {
        let builder = self.process;
        (builder != process::id()).then(|| {
            format!("the runtime belongs to process {builder}, and this process is a fork of it: build one here, after the fork")
        })
    }

    /// Why an event is refused before any hook is called.
    pub(super) fn refusal(&self, event: &Event, hooks: &HookSet) -> Option<String> {
        let driver = event.driver();
        if self.refused.is_some() {
            return self.refused.clone();
        }
        if let Some(only) = self.only_driver.as_ref().filter(|only| *only != driver) {
            return Some(format!("only the hooks of driver {only} are loaded, not those of {driver}"));
        }
        if !self.known_drivers.is_empty() && !self.known_drivers.iter().any(|known| known == driver) {
            let known = self.known_drivers.join(", ");
            return Some(format!("driver {driver} is not one of the known drivers ({known})"));
        }
        if let Err(why) = self.conventions.check(driver, event.operation()) {
            return Some(why.to_string());
        }
        if self.require_hooks && hooks.of_driver(driver).is_empty() {
            let directory = self.directory.display();
            return Some(format!("there are no hooks for driver {driver} in {directory}, and hooks are required"));
        }
        None
    }

    /// The limits for a driver's hooks whose settings have none.
    pub(super) fn limits_of(&self, driver: &str) -> &Limits {
        self.driver_limits.get(driver).unwrap_or(&self.limits)
    }

    pub(super) fn hooks(&self) -> Arc<HookSet> {
        Arc::clone(&self.hooks.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn log_what_will_not_run(set: &HookSet) {
    for hook in set.drivers.values().flatten() {
        let path = hook.path.display();
        match &hook.loaded {
            Loaded::Ready(_) => tracing::debug!(target: "hookvisor::loaded", "hook {path} is loaded"),
            Loaded::Broken(why) => {
                let why = printable_line(&why.to_string());
                tracing::warn!(target: "hookvisor::broken", "hook {path} cannot be run and fails when it is called: {why}");
            }
            // Masked on purpose, so this is no warning.
            Loaded::Skipped(why) if file::is_mask(&hook.path) => tracing::debug!("hook {path} is skipped: {why}"),
            Loaded::Skipped(why) => tracing::warn!("hook {path} is skipped: {why}"),
        }
    }
    for mistake in &set.mistakes {
        tracing::warn!("{} {}", mistake.path.display(), mistake.reason);
    }
    for stray in set.strays.iter().chain(&set.dispatched) {
        tracing::info!("{} {}", stray.path.display(), stray.reason);
    }
}
