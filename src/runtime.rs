//! The runtime: which hooks an event has, and what their ends mean. It knows nothing of pipes or WebAssembly.

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
use crate::hook::discovery::{self, DirectoryStamp, Found, LoadError};
use crate::hook::file;
use crate::hook::first;
use crate::hook::skipped::Skipped;
use crate::hook::trust::Trust;
use crate::limits::Limits;
use crate::observe;
use crate::record::Record;
use crate::semaphore::Semaphore;

/// How often a directory that is being changed is read, and how much longer each time it is left alone before the next.
const RELOAD_TRIES: u32 = 10;
const RELOAD_PAUSE: Duration = Duration::from_millis(5);

/// Runs the hooks of a directory.
///
/// Hooks are found, checked and (WebAssembly) compiled when the runtime is built; a change is seen after
/// [`reload`](Runtime::reload), but for the text of a script, which the system reads when it runs it.
///
/// It is a handle: clones are the same runtime, and cheap. It serves many threads at once: calls do not wait for each other,
/// unless there is a [bound](RuntimeBuilder::max_in_flight) on them. Every call blocks its thread until the hooks have
/// ended, which they do within their [`Limits`]. From async code, use the methods that end in `_async` (feature `async`), or
/// call it where blocking is allowed. Called from inside an async task all the same, it does not panic.
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
    directory: PathBuf,
    limits: Limits,
    driver_limits: BTreeMap<String, Limits>,
    only_driver: Option<String>,
    known_drivers: Vec<String>,
    require_hooks: bool,
    conventions: Conventions,
    first: Vec<(String, PathBuf)>,
    calls: Calls,
    cancels: Vec<Cancel>,
    /// The bound on hooks under way, if there is one.
    slots: Option<Semaphore>,
    trust: Trust,
    backends: Vec<Box<dyn Backend>>,
    hooks: RwLock<Arc<HookSet>>,
    record: Option<Record>,
    /// Held while hooks are reloaded, so that of two reloads the later one's set stays.
    reloading: Mutex<()>,
}

/// Makes a [`Runtime`].
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
    conventions: Vec<Convention>,
    any_operation: bool,
    first: Vec<(String, PathBuf)>,
    cancels: Vec<Cancel>,
    max_in_flight: Option<NonZeroUsize>,
    end_with_host: bool,
    search_path: Option<OsString>,
    confine_all: bool,
    calls: Calls,
    record: Option<Record>,
}

/// Builds without WebAssembly have neither.
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
enum Cache {}
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
enum Compiler {}

impl RuntimeBuilder {
    /// Sets the limits for hooks that have none of their own. The defaults are those of [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limits for the hooks of one driver, instead of those of [`limits`](Self::limits).
    pub fn limits_for(mut self, driver: impl Into<String>, limits: Limits) -> Self {
        self.driver_limits.insert(driver.into(), limits);
        self
    }

    /// Keeps the compiled form of WebAssembly hooks there, so that the next runtime need not compile them. By default
    /// nothing is kept.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Compiles WebAssembly hooks by this program, in a process of its own. By default they are compiled in this process.
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Loads the hooks of this driver alone. A start event of another driver is vetoed.
    pub fn only_driver(mut self, driver: impl Into<String>) -> Self {
        self.only_driver = Some(driver.into());
        self
    }

    /// Sets which drivers there are. A start event of any other driver is vetoed, so that a misspelt name does not pass without
    /// a hook. By default every name is a driver's.
    pub fn known_drivers<D: Into<String>>(mut self, drivers: impl IntoIterator<Item = D>) -> Self {
        self.known_drivers = drivers.into_iter().map(Into::into).collect();
        self
    }

    /// Vetoes a start event if its driver has no hooks at all. By default it proceeds.
    pub fn require_hooks(mut self) -> Self {
        self.require_hooks = true;
        self
    }

    /// Sets what the operations of a driver mean. More than one may be given, for a driver each; for a driver that has a
    /// built-in convention, this one holds instead.
    pub fn convention(mut self, convention: Convention) -> Self {
        self.conventions.push(convention);
        self
    }

    /// Calls hooks also for operations that a closed convention does not list, as start operations. For a caller that knows the
    /// daemon's operations better than this library: the daemon itself, which may be newer.
    pub fn any_operation(mut self) -> Self {
        self.any_operation = true;
        self
    }

    /// Runs what is at `path` before the driver's hooks in the hooks directory: one hook, or a directory of them, whose
    /// own directories are passed over. Where there is nothing, nothing is run. May be given more than once; the paths
    /// keep their order.
    pub fn run_first(mut self, driver: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.first.push((driver.into(), path.into()));
        self
    }

    /// Ends the hooks of every call of this runtime when that is cancelled. More than one may be given.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// Lets no more than so many hooks run at once, over all events; by default there is no bound. (Of sandboxed hooks no more
    /// than 128 run at once, whatever is set here.)
    ///
    /// A hook that has to wait for its turn waits no longer than its own time limit, which begins anew once it is called; if
    /// its turn does not come, it fails. Turns are given in the order of the asking.
    pub fn max_in_flight(mut self, hooks: NonZeroUsize) -> Self {
        self.max_in_flight = Some(hooks);
        self
    }

    /// Has native hooks end with this process, also where that is killed (SIGKILL) or crashes: whatever is then left of a hook
    /// that was under way, and of what it has started in its process group, is killed at once. By default they go on by
    /// themselves. (Sandboxed hooks are part of this process.) It holds for the commands that are run for sandboxed hooks, too.
    ///
    /// With the first such hook, the runtime starts one process to see to it, a small `/bin/sh`, which ends with the last
    /// handle of the runtime. It is a child of this process, so do not wait there until no child is left. One that somebody ends is
    /// replaced; where none can be started, no native hook is, and a start is vetoed. What a hook has moved to another process
    /// group or session, or left behind after its own end, goes on. A process that the host forks without executing another
    /// program counts as the host.
    pub fn end_with_host(mut self) -> Self {
        self.end_with_host = true;
        self
    }

    /// Records each event there: the decision, and what came of each hook. By default nothing is recorded.
    pub fn record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Sets the `PATH` of native hooks, where their interpreters are looked for, too. By default it is this process's.
    pub fn search_path(mut self, path: impl Into<OsString>) -> Self {
        self.search_path = Some(path.into());
        self
    }

    /// Holds every native hook to what its settings grant, as `confine = true` in its settings does. A hook that this system
    /// cannot confine is not run.
    pub fn confine_all(mut self, confine: bool) -> Self {
        self.confine_all = confine;
        self
    }

    /// Makes a runtime for a process that runs one event and ends: nothing is kept ready for the next call, so that the
    /// first comes sooner. Further calls work all the same, and take longer.
    pub fn for_one_event(mut self) -> Self {
        self.calls = Calls::One;
        self
    }

    /// Finds, checks and compiles the hooks.
    ///
    /// A hook that cannot be run does not fail this: it vetoes the starts that it would have been asked about.
    ///
    /// # Errors
    /// [`LoadError`] if the hooks directory cannot be read, others may write to it, or it is being changed all the time; or if
    /// a convention cannot be used.
    pub fn build(mut self) -> Result<Runtime, LoadError> {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, self.end_with_host, self.confine_all, self.search_path.take());
        let (cache, compiler) = (self.cache.take(), self.compiler.take());
        let backends = backends(native, trust, cache, compiler, self.calls, &self.cancels);
        self.build_with(trust, backends)
    }

    /// What an event would come to: which hooks it reaches, with which rights, and which it does not, and why. Nothing is run or
    /// compiled, so a module that does not compile is taken for one that does.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn explain(mut self, event: &Event) -> Result<Explanation, LoadError> {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, false, self.confine_all, self.search_path.take());
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
        // Hooks run in /, and reports name them for a person who is somewhere else.
        let directory = std::path::absolute(&self.directory).map_err(|error| LoadError::new(&self.directory, error))?;
        let conventions = Conventions::new(self.conventions, self.any_operation)?;
        let runtime = Runtime(Arc::new(Shared {
            directory,
            limits: self.limits,
            driver_limits: self.driver_limits,
            only_driver: self.only_driver,
            known_drivers: self.known_drivers,
            require_hooks: self.require_hooks,
            conventions,
            first: self.first,
            calls: self.calls,
            cancels: self.cancels,
            slots: self.max_in_flight.map(|hooks| Semaphore::new(hooks.get())),
            trust,
            backends,
            hooks: RwLock::default(),
            record: self.record,
            reloading: Mutex::default(),
        }));
        runtime.reload()?;
        Ok(runtime)
    }
}

/// The back-ends of this build, one for each kind of hook.
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
            Native::new(Trust::not_enforced(), false, false, None).launcher(),
            trust,
            Options { cache, compiler, calls, cancels: cancels.to_vec() },
        )),
        Box::new(native),
    ]
}

impl Runtime {
    /// A runtime for the hooks in `directory`, with the default limits.
    ///
    /// # Errors
    /// As [`RuntimeBuilder::build`].
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, LoadError> {
        Self::builder(directory).build()
    }

    /// Sets up a runtime for the hooks in `directory`.
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
            conventions: Vec::new(),
            any_operation: false,
            first: Vec::new(),
            cancels: Vec::new(),
            max_in_flight: None,
            end_with_host: false,
            search_path: None,
            confine_all: false,
            calls: Calls::Many,
            record: None,
        }
    }

    /// Looks for hooks again. Calls that are under way end with the hooks that they began with.
    ///
    /// It may be called from any thread, and at any time: an event is run with all of the new hooks or with all of the old.
    ///
    /// ```no_run
    /// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
    /// // On SIGHUP:
    /// if let Err(error) = runtime.reload() {
    ///     eprintln!("the hooks are what they were: {error}");
    /// }
    /// # Ok::<(), hookvisor::LoadError>(())
    /// ```
    ///
    /// # Errors
    /// As [`RuntimeBuilder::build`]; the hooks are then what they were before.
    pub fn reload(&self) -> Result<(), LoadError> {
        let reloaded = self.0.reload();
        observe::reloaded(reloaded.is_ok());
        reloaded
    }

    /// Whether a hook is not in the cache, so that only a build with a compiler can run it.
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    #[must_use]
    pub fn lacks_compiled_code(&self) -> bool {
        let is_missing =
            |hook: &Hook| matches!(hook.loaded, Loaded::Broken(crate::hook::error::LaunchError::NotCompiled(_)));
        self.0.hooks().drivers.values().flatten().any(is_missing)
    }

    /// The limits for hooks that have none of their own.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// What was found in the hooks directory, and what will happen with it.
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
        Inventory::new(&self.0.directory, &self.0.hooks(), |driver| self.0.limits_of(driver))
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

    /// What is in the hooks directory. `None` if that was changed meanwhile, so that what was found may be a part of what was
    /// there before and a part of what is there now.
    fn load(&self) -> Result<Option<HookSet>, LoadError> {
        let only = self.only_driver.as_deref();
        let mut findings = discovery::find(&self.directory, only, self.trust)?;
        first::find(&self.first, only, self.trust, &mut findings);
        let mut found = Vec::new();
        for (driver, hooks) in findings.drivers {
            found.extend(hooks.into_iter().map(|hook| (driver.clone(), hook)));
        }
        let load = |(driver, found): (String, Found)| {
            let limits = self.limits_of(&driver);
            let loader = Loader { backends: &self.backends, limits, trust: self.trust, grants: self.trust };
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

    /// The hooks for a call that begins now. A hook that was disabled until a time that is over is loaded first; if that fails,
    /// it is one that cannot be run.
    fn hooks_now(&self) -> Arc<HookSet> {
        if self.hooks().until.is_some_and(|until| until <= SystemTime::now()) {
            let _ = self.reload();
        }
        self.hooks()
    }

    /// Why an event is refused before a hook is called: nothing could be asked that an administrator would expect to be.
    fn refusal(&self, event: &Event, hooks: &HookSet) -> Option<String> {
        let driver = event.driver();
        if let Some(only) = self.only_driver.as_ref().filter(|only| *only != driver) {
            return Some(format!("only the hooks of driver {only} are loaded, and not those of {driver}"));
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

    /// The limits for a driver's hooks that have none of their own.
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
                tracing::warn!(target: "hookvisor::broken", "hook {path} cannot be run, and fails where it is called: {why}");
            }
            // That was said by whoever made the link.
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
