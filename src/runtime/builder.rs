//! Builds runtimes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, RwLock};

use super::Runtime;
use super::backends::{Cache, Compiler, backends};
use super::explain::Explanation;
use super::shared::Shared;
use crate::backend::native::Native;
#[cfg(feature = "wasm")]
use crate::backend::unloaded::Unloaded;
use crate::backend::{Backend, Calls};
use crate::cancel::Cancel;
use crate::convention::Conventions;
use crate::convention::rules::Convention;
use crate::event::Event;
use crate::hook::discovery::LoadError;
use crate::hook::state::StateRoot;
use crate::hook::trust::Trust;
use crate::hook::untrusted::Untrusted;
use crate::limits::Limits;
use crate::record::Record;
use crate::semaphore::Semaphore;

/// Configures and builds a [`Runtime`].
///
/// ```no_run
/// use std::num::NonZeroUsize;
/// use std::time::{Duration, SystemTime};
///
/// use hookvisor::{Cancel, Limits, Runtime};
///
/// let cancel = Cancel::new();
/// let mut limits = Limits::default();
/// limits.timeout = Duration::from_secs(30);
/// let runtime = Runtime::builder("/etc/mydaemon/hooks")
///     .limits(limits)
///     .cancel(&cancel)
///     .max_in_flight(NonZeroUsize::new(32).unwrap())
///     .build()?;
/// # drop(runtime);
/// # Ok::<(), hookvisor::LoadError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct RuntimeBuilder {
    pub(super) directory: PathBuf,
    pub(super) limits: Limits,
    pub(super) driver_limits: BTreeMap<String, Limits>,
    pub(super) cache: Option<Cache>,
    pub(super) compiler: Option<Compiler>,
    pub(super) only_driver: Option<String>,
    pub(super) known_drivers: Vec<String>,
    pub(super) require_hooks: bool,
    pub(super) refused: Option<String>,
    pub(super) conventions: Vec<Convention>,
    pub(super) any_operation: bool,
    pub(super) first: Vec<(String, PathBuf)>,
    pub(super) cancels: Vec<Cancel>,
    pub(super) max_in_flight: Option<NonZeroUsize>,
    pub(super) end_with_host: bool,
    pub(super) search_path: Option<OsString>,
    pub(super) confine_all: bool,
    pub(super) state: StateRoot,
    pub(super) calls: Calls,
    pub(super) record: Option<Record>,
}

impl RuntimeBuilder {
    /// Finds, checks and compiles the hooks.
    ///
    /// A hook that cannot be run is not an error here. It vetoes every start that it is called for.
    ///
    /// # Errors
    /// [`LoadError`] if the hooks directory cannot be read, is writable by others or keeps changing, or if a convention is
    /// invalid.
    pub fn build(mut self) -> Result<Runtime, LoadError> {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, self.end_with_host, self.search_path.take());
        let native = native.with_state(self.state.clone());
        let (cache, compiler) = (self.cache.take(), self.compiler.take());
        let backends = backends(native, trust, cache, compiler, self.calls, &self.cancels);
        self.build_with(trust, backends)
    }

    /// Everything in the hooks directory that users other than root could change, with one command that fixes it. For a
    /// user other than root, nothing is wrong.
    ///
    /// [`build`](Self::build) reports only faults on the path to the hooks directory, or to each hook. This checks all
    /// files, also in untrusted directories, so it may take longer.
    #[must_use]
    pub fn untrusted(&self) -> Option<Untrusted> {
        let directory = std::path::absolute(&self.directory).ok()?;
        Untrusted::find(&directory, &self.first, Trust::of_this_process())
    }

    /// Explains an event without running it: which hooks would be called, with which rights, and why the others would not.
    /// Nothing is run or compiled, so a module that fails to compile is not detected.
    ///
    /// # Errors
    /// The same as [`build`](Self::build).
    pub fn explain(mut self, event: &Event) -> Result<Explanation, LoadError> {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, false, self.search_path.take());
        let backends: Vec<Box<dyn Backend>> = vec![
            #[cfg(feature = "wasm")]
            Box::new(Unloaded),
            Box::new(native),
        ];
        let runtime = self.build_with(trust, backends)?;
        let shared = &*runtime.0;
        let convention = shared.conventions.of(event.driver());
        let event = event.under(convention);
        let refused = shared.conventions.check(event.driver(), event.operation()).err().map(|why| why.to_string());
        Ok(Explanation::new(&shared.directory, &shared.hooks(), &event, &shared.limits, convention.after_veto, refused))
    }

    fn build_with(self, trust: Trust, backends: Vec<Box<dyn Backend>>) -> Result<Runtime, LoadError> {
        // Hooks run in /, and reports need paths that are valid from anywhere.
        let directory = std::path::absolute(&self.directory).map_err(|error| LoadError::new(&self.directory, error))?;
        let conventions = Conventions::new(self.conventions, self.any_operation)?;
        let runtime = Runtime(Arc::new(Shared {
            process: process::id(),
            directory,
            limits: self.limits,
            driver_limits: self.driver_limits,
            only_driver: self.only_driver,
            known_drivers: self.known_drivers,
            require_hooks: self.require_hooks,
            refused: self.refused,
            conventions,
            first: self.first,
            calls: self.calls,
            cancels: self.cancels,
            slots: self.max_in_flight.map(|hooks| Semaphore::new(hooks.get())),
            trust,
            confine_all: self.confine_all,
            backends,
            hooks: RwLock::default(),
            record: self.record,
            reloading: Mutex::default(),
        }));
        runtime.reload()?;
        Ok(runtime)
    }
}

impl Runtime {
    /// Builds a runtime for the hooks in `directory`, with the default limits.
    ///
    /// # Errors
    /// The same as [`RuntimeBuilder::build`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LoadError> {
        Self::builder(directory).build()
    }

    /// Configures a runtime for the hooks in `directory`.
    pub fn builder(directory: impl Into<PathBuf>) -> RuntimeBuilder {
        RuntimeBuilder {
            directory: directory.into(),
            limits: Limits::default(),
            driver_limits: BTreeMap::new(),
            cache: None,
            compiler: None,
            only_driver: None,
            known_drivers: Vec::new(),
            require_hooks: false,
            refused: None,
            conventions: Vec::new(),
            any_operation: false,
            first: Vec::new(),
            cancels: Vec::new(),
            max_in_flight: None,
            end_with_host: false,
            search_path: None,
            confine_all: false,
            state: StateRoot::default(),
            calls: Calls::Many,
            record: None,
        }
    }
}
