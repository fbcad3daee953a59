//! Loaded hooks.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::backend::Program;
use crate::convention::rules::Convention;
use crate::event::Event;
use crate::hook::digest::FileDigest;
use crate::hook::error::LaunchError;
use crate::hook::kind::Kind;
use crate::hook::scope::Scope;
use crate::hook::settings::{self, Settings};
use crate::hook::skipped::Skipped;

/// The result of loading a hook file.
pub(crate) enum Loaded {
    Ready(Box<dyn Program>),
    /// It cannot be run, so it vetoes every start that it would have been called for.
    Broken(LaunchError),
    /// It is not called.
    Skipped(String),
}

/// A hook's file, as it was found and loaded.
pub(crate) struct Hook {
    pub(crate) path: Arc<Path>,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) settings: Settings,
    pub(crate) loaded: Loaded,
    pub(crate) digest: FileDigest,
    /// Notes for the report of each call.
    pub(crate) notes: Vec<String>,
    /// When it is enabled again.
    pub(crate) disabled_until: Option<SystemTime>,
}

impl Hook {
    /// Refuses settings that restrict the hook to an unknown operation of its driver.
    pub(crate) fn with_known_operations(mut self, convention: &Convention) -> Self {
        let keys = [("operations", &self.settings.operations), ("not_operations", &self.settings.not_operations)];
        let unknown = keys.into_iter().find_map(|(key, names)| {
            let error = names.iter().flatten().find_map(|operation| convention.check(operation).err())?;
            Some((key, error))
        });
        if let (Loaded::Ready(_), Some((key, error))) = (&self.loaded, unknown) {
            let file = settings::file_name(&self.path);
            self.loaded = Loaded::Broken(LaunchError::Refused(format!("`{key}` in {}: {error}", file.display())));
            // It vetoes all events, since the intended ones are unknown.
            (self.settings.operations, self.settings.not_operations) = (None, None);
        }
        self
    }

    /// The SHA-256 of the code that a call would run now, if it can be read.
    pub(crate) fn sha256(&self) -> Option<String> {
        let loaded = match &self.loaded {
            Loaded::Ready(program) => program.sha256(),
            Loaded::Broken(_) | Loaded::Skipped(_) => None,
        };
        loaded.or_else(|| self.digest.of(&self.path))
    }

    /// Whether it was disabled until a time that has passed.
    pub(crate) fn is_overdue(&self) -> bool {
        self.disabled_until.is_some_and(|until| until <= SystemTime::now())
    }
}

/// All hooks of a directory, by driver, each driver's in the order in which they are called.
#[derive(Default)]
pub(crate) struct HookSet {
    pub(crate) drivers: BTreeMap<String, Vec<Hook>>,
    /// Files that are never called.
    pub(crate) strays: Vec<Skipped>,
    /// Files that look like hooks but are never called, or not for the apparent event.
    pub(crate) mistakes: Vec<Skipped>,
    /// Directories whose hooks another hook runs.
    pub(crate) dispatched: Vec<Skipped>,
    /// When the next disabled hook is enabled again.
    pub(crate) until: Option<SystemTime>,
}

impl HookSet {
    /// All hooks of a driver.
    pub(crate) fn of_driver(&self, driver: &str) -> &[Hook] {
        self.drivers.get(driver).map_or(&[], Vec::as_slice)
    }

    /// Whether a hook is missing from the cache, which this build cannot compile.
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    pub(crate) fn lack_compiled_code(&self) -> bool {
        let is_missing = |hook: &Hook| matches!(hook.loaded, Loaded::Broken(LaunchError::NotCompiled(_)));
        self.drivers.values().flatten().any(is_missing)
    }

    /// The hooks for this event, in order.
    pub(crate) fn of_event(&self, event: &Event) -> impl Iterator<Item = &Hook> {
        self.of_driver(event.driver()).iter().filter(|hook| hook.scope.includes(event) && hook.settings.apply_to(event))
    }
}
