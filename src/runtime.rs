//! The runtime: selects the hooks of an event and decides from their results. Pipes and WebAssembly are the back-ends' part.

pub(crate) mod call;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod guest;
mod hooks;
pub(crate) mod inventory;
mod load;
mod mistakes;
#[cfg(feature = "async")]
mod nonblocking;
mod parallel;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use self::hooks::{Hook, HookSet, Loaded};
use self::inventory::Inventory;
use self::load::Loader;

use self::explain::Explanation;
use crate::backend::native::Native;
#[cfg(feature = "wasm")]
use crate::backend::unloaded::Unloaded;
#[cfg(feature = "wasm")]
use crate::backend::wasm::{Options, Wasm, cache::Cache, compiler::Compiler};
use crate::backend::{Backend, Calls};
use crate::cancel::Cancel;
use crate::convention::Conventions;
use crate::convention::rules::Convention;
use crate::event::Event;
use crate::hook::discovery::{self, DirectoryStamp, Findings, Found, LoadError};
use crate::hook::file;
use crate::hook::first;
use crate::hook::skipped::Skipped;
use crate::hook::state::StateRoot;
use crate::hook::trust::Trust;
use crate::hook::untrusted::Untrusted;
use crate::limits::Limits;
use crate::observe;
use crate::printable::printable_line;
use crate::record::Record;
use crate::semaphore::Semaphore;

/// How often a reload reads a directory that keeps changing. The pause before each retry grows by this step.
const RELOAD_TRIES: u32 = 10;
const RELOAD_PAUSE: Duration = Duration::from_millis(5);

/// Runs the hooks of a directory.
///
/// Building the runtime finds and checks the hooks and compiles WebAssembly modules. Later changes take effect after
/// [`reload`](Runtime::reload). An edit to a script takes effect at its next call.
///
/// `Runtime` is a handle: a clone is cheap and refers to the same runtime. Many threads can use it at once. Calls do not wait
/// for each other unless [`max_in_flight`](RuntimeBuilder::max_in_flight) is set. Every call blocks its thread until the
/// hooks have ended; [`Limits`] bounds that time. In async code, use the `_async` methods (feature `async`) or a thread that
/// may block. A blocking call inside an async task does not panic.
///
/// A runtime belongs to the process that built it. In a fork it refuses every event, because the fork lacks the threads that end
/// hooks in time. Build another one there: after daemonizing, not before.
///
/// ```no_run
/// use hookvisor::{Event, Runtime, Verdict};
///
/// let runtime = Runtime::open("/etc/mydaemon/hooks")?;
/// let start = Event::new("mydaemon", "web1", "start")?.with_document("{\"memory\": 512}");
/// match runtime.start(&start) {
///     Verdict::Proceed(_) => { /* start the guest */ }
///     Verdict::Vetoed(veto) => eprintln!("{veto}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

struct Shared {
    /// The process that built it.
    process: u32,
    directory: PathBuf,
    limits: Limits,
    driver_limits: BTreeMap<String, Limits>,
    only_driver: Option<String>,
    known_drivers: Vec<String>,
    require_hooks: bool,
    /// Why every start is refused.
    refused: Option<String>,
    conventions: Conventions,
    first: Vec<(String, PathBuf)>,
    calls: Calls,
    cancels: Vec<Cancel>,
    /// Bounds how many hooks run at once (`max_in_flight`).
    slots: Option<Semaphore>,
    trust: Trust,
    confine_all: bool,
    backends: Vec<Box<dyn Backend>>,
    hooks: RwLock<Arc<HookSet>>,
    record: Option<Record>,
    /// Held during a reload. With two concurrent reloads, the later one's hooks stay.
    reloading: Mutex<()>,
}

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
    directory: PathBuf,
    limits: Limits,
    driver_limits: BTreeMap<String, Limits>,
    cache: Option<Cache>,
    compiler: Option<Compiler>,
    only_driver: Option<String>,
    known_drivers: Vec<String>,
    require_hooks: bool,
    refused: Option<String>,
    conventions: Vec<Convention>,
    any_operation: bool,
    first: Vec<(String, PathBuf)>,
    cancels: Vec<Cancel>,
    max_in_flight: Option<NonZeroUsize>,
    end_with_host: bool,
    search_path: Option<OsString>,
    confine_all: bool,
    state: StateRoot,
    calls: Calls,
    record: Option<Record>,
}

/// Never constructed: builds without the feature `wasm` have no cache and no compiler.
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
enum Cache {}
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
enum Compiler {}

impl RuntimeBuilder {
    /// Sets the limits for hooks whose settings have none. The default is [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limits for the hooks of one driver. They replace [`limits`](Self::limits).
    pub fn limits_for(mut self, driver: impl Into<String>, limits: Limits) -> Self {
        self.driver_limits.insert(driver.into(), limits);
        self
    }

    /// Sets the cache for compiled WebAssembly hooks. A later runtime loads them from there instead of compiling them. By
    /// default, there is no cache.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Compiles WebAssembly hooks with this program, in a separate process. By default, this process compiles them.
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Loads only the hooks of this driver. A start event of any other driver is vetoed.
    pub fn only_driver(mut self, driver: impl Into<String>) -> Self {
        self.only_driver = Some(driver.into());
        self
    }

    /// Sets the known drivers. A start event of any other driver is vetoed, which catches misspelt names. By default, every
    /// name is accepted.
    pub fn known_drivers<D: Into<String>>(mut self, drivers: impl IntoIterator<Item = D>) -> Self {
        self.known_drivers = drivers.into_iter().map(Into::into).collect();
        self
    }

    /// Vetoes a start event if its driver has no hooks. By default, it proceeds.
    pub fn require_hooks(mut self) -> Self {
        self.require_hooks = true;
        self
    }

    /// Vetoes every start for this reason, such as a configuration that cannot be read. No start hook is called. Shutdown hooks
    /// are, as far as they are found: a hooks directory that cannot be read is not an error then.
    ///
    /// A guest that [runs already](Event::guest_is_running) is not vetoed. The reason is in each report and in the
    /// [record](Self::record).
    pub fn refuse_starts(mut self, why: impl Into<String>) -> Self {
        self.refused = Some(why.into());
        self
    }

    /// Adds a convention: it defines the operations of one driver. It replaces the driver's built-in convention. Call this once
    /// per driver.
    pub fn convention(mut self, convention: Convention) -> Self {
        self.conventions.push(convention);
        self
    }

    /// Accepts operations that a closed convention does not list, and treats them as start operations. Use this inside the
    /// daemon itself, which may be newer than this library.
    pub fn any_operation(mut self) -> Self {
        self.any_operation = true;
        self
    }

    /// Runs the hooks at `path` before the driver's hooks in the hooks directory. `path` is one hook or a directory of hooks;
    /// subdirectories are ignored. A path that does not exist is ignored. Call this once per path; the order is kept.
    pub fn run_first(mut self, driver: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.first.push((driver.into(), path.into()));
        self
    }

    /// Ends the hooks of all calls of this runtime when `cancel` is cancelled. You can add several.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// Limits how many hooks run at once, over all events. By default, there is no limit. At most 128 sandboxed hooks run at
    /// once in any case.
    ///
    /// A hook waits for a free slot for at most its own timeout, then fails. The timeout starts again when the hook is called.
    /// Waiting hooks get slots in the order in which they asked.
    pub fn max_in_flight(mut self, hooks: NonZeroUsize) -> Self {
        self.max_in_flight = Some(hooks);
        self
    }

    /// Kills running native hooks when this process ends, even by SIGKILL or a crash. The hook's whole process group is killed.
    /// By default, native hooks keep running. This also applies to commands that run for sandboxed hooks. Sandboxed hooks
    /// themselves are part of this process.
    ///
    /// The runtime starts one guardian process, a small `/bin/sh`, before the first such hook. The guardian ends with the last
    /// handle of the runtime, and is replaced if it is killed. It is a child of this process: do not wait until no child is
    /// left. If it cannot be started, native hooks cannot run and starts are vetoed.
    ///
    /// Not killed: processes that left the hook's process group or session, and processes that outlived their hook. A process
    /// that the host forks without executing another program counts as the host.
    pub fn end_with_host(mut self) -> Self {
        self.end_with_host = true;
        self
    }

    /// Writes each event to `record`: the decision and the result of each hook. By default, nothing is recorded.
    pub fn record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Sets the `PATH` of native hooks. Their interpreters are looked up in it too. The default is this process's `PATH`.
    pub fn search_path(mut self, path: impl Into<OsString>) -> Self {
        self.search_path = Some(path.into());
        self
    }

    /// Confines every native hook to what its settings grant, like `confine = true` in its settings. A hook that this system
    /// cannot confine does not run.
    pub fn confine_all(mut self, confine: bool) -> Self {
        self.confine_all = confine;
        self
    }

    /// Sets the directory in which hooks with `state = true` have a directory each. The default is `/var/lib/hookvisor/state`.
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = StateRoot::at(directory);
        self
    }

    /// Optimizes for a process that runs one event and exits: faster start-up, slower later calls.
    pub fn for_one_event(mut self) -> Self {
        self.calls = Calls::One;
        self
    }

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

/// The back-ends that this build supports, one per kind of hook.
fn backends(
    native: Native,
    trust: Trust,
    cache: Option<Cache>,
    compiler: Option<Compiler>,
    calls: Calls,
    cancels: &[Cancel],
) -> Vec<Box<dyn Backend>> {
    #[cfg(not(feature = "wasm"))]
    let _ = (trust, cache, compiler, calls, cancels);
    vec![
        #[cfg(feature = "wasm")]
        Box::new(Wasm::new(
            native.launcher(),
            Native::new(Trust::not_enforced(), false, None).launcher(),
            trust,
            Options { cache, compiler, calls, cancels: cancels.to_vec(), state: native.state() },
        )),
        Box::new(native),
    ]
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

    /// Reloads the hooks from the directory. Running calls finish with the hooks that they started with.
    ///
    /// It can be called from any thread at any time. An event runs either with the old set of hooks or with the new one, never
    /// with a mix.
    ///
    /// ```no_run
    /// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
    /// // On SIGHUP:
    /// if let Err(error) = runtime.reload() {
    ///     eprintln!("reload failed, the old hooks stay: {error}");
    /// }
    /// # Ok::<(), hookvisor::LoadError>(())
    /// ```
    ///
    /// # Errors
    /// The same as [`RuntimeBuilder::build`]. On an error, the old hooks stay in use.
    pub fn reload(&self) -> Result<(), LoadError> {
        let reloaded = self.0.reload();
        observe::reloaded(reloaded.is_ok());
        reloaded
    }

    /// Whether a hook is missing from the cache. Only a build with a compiler can run such a hook.
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    #[must_use]
    pub fn lacks_compiled_code(&self) -> bool {
        let is_missing =
            |hook: &Hook| matches!(hook.loaded, Loaded::Broken(crate::hook::error::LaunchError::NotCompiled(_)));
        self.0.hooks().drivers.values().flatten().any(is_missing)
    }

    /// The limits for hooks whose settings have none.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Lists the contents of the hooks directory and how each file is treated.
    ///
    /// ```no_run
    /// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
    /// for hook in runtime.inventory().hooks {
    ///     println!("{} {}: {}", hook.driver, hook.path.display(), hook.reason.unwrap_or("will be called".into()));
    /// }
    /// # Ok::<(), hookvisor::LoadError>(())
    /// ```
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let shared = &*self.0;
        let is_known = |driver: &str| mistakes::is_known(driver, &shared.conventions, &shared.known_drivers);
        Inventory::new(&shared.directory, &shared.hooks(), |driver| shared.limits_of(driver), is_known)
    }

    /// The known driver that this name is probably a typo of; `None` for a known driver. The known drivers are those of
    /// [`known_drivers`](RuntimeBuilder::known_drivers) and those with a [`Convention`].
    #[must_use]
    pub fn similar_driver(&self, name: &str) -> Option<&str> {
        mistakes::similar_driver(name, &self.0.conventions, &self.0.known_drivers)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("directory", &self.0.directory).finish_non_exhaustive()
    }
}

impl Shared {
    fn reload(&self) -> Result<(), LoadError> {
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
            let loader = Loader { backends, limits, trust, grants: trust, confine_all, learns: false };
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
    fn hooks_now(&self) -> Arc<HookSet> {
        if self.hooks().until.is_some_and(|until| until <= SystemTime::now()) {
            let _ = self.reload();
        }
        self.hooks()
    }

    /// Why no event can run in this process. Check this before taking any lock: a thread that the fork lacks may hold
    /// it.
    fn forked(&self) -> Option<String> {
        let builder = self.process;
        (builder != process::id()).then(|| {
            format!("the runtime belongs to process {builder}, and this process is a fork of it: build one here, after the fork")
        })
    }

    /// Why an event is refused before any hook is called.
    fn refusal(&self, event: &Event, hooks: &HookSet) -> Option<String> {
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
    fn limits_of(&self, driver: &str) -> &Limits {
        self.driver_limits.get(driver).unwrap_or(&self.limits)
    }

    fn hooks(&self) -> Arc<HookSet> {
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
