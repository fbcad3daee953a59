//! The runtime: which hooks an event has, and what their ends mean. It knows nothing of pipes or WebAssembly.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use crate::backend::native::Native;
#[cfg(feature = "wasm")]
use crate::backend::wasm::{Wasm, cache::Cache};
use crate::backend::{Backend, Call, Completion, End, LaunchError};
use crate::convention::{self, AfterVeto};
use crate::document::Format;
use crate::event::{Event, Stage};
use crate::hook::discovery::{self, LoadError};
use crate::hook::file;
use crate::hook::trust::Trust;
use crate::hook::{Hook, HookSet, Loader, Scope, State};
use crate::inventory::Inventory;
use crate::limits::{Deadline, Limits};
use crate::report::{Decision, HookReport, Report, Skipped, Termination, Verdict};

/// Runs the hooks of a directory.
///
/// Hooks are found, checked and (WebAssembly) compiled when the runtime is built; a change is seen after
/// [`reload`](Runtime::reload), but for the text of a script, which the system reads when it runs it.
///
/// One runtime serves many threads at once: calls do not wait for each other. Every call blocks its thread until the
/// hooks have ended, which they do within their [`Limits`]; from async code, call it where blocking is allowed
/// (`tokio::task::spawn_blocking`). Called from inside an async task all the same, it does not panic.
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
pub struct Runtime {
    directory: PathBuf,
    limits: Limits,
    only_driver: Option<String>,
    trust: Trust,
    backends: Vec<Box<dyn Backend>>,
    hooks: RwLock<Arc<HookSet>>,
    /// Held while hooks are reloaded, so that of two reloads the later one's set stays.
    reloading: Mutex<()>,
}

/// Makes a [`Runtime`].
#[derive(Debug, Clone)]
#[must_use]
pub struct RuntimeBuilder {
    directory: PathBuf,
    limits: Limits,
    cache: Option<Cache>,
    only_driver: Option<String>,
}

/// There is nothing to keep.
#[cfg(not(feature = "wasm"))]
type Cache = std::convert::Infallible;

impl RuntimeBuilder {
    /// Sets the limits for hooks that have none of their own. The defaults are those of [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps the compiled form of WebAssembly hooks there, so that the next runtime need not compile them. By default
    /// nothing is kept.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Loads the hooks of this driver alone. A process that runs the events of one need not look at the others'.
    pub fn only_driver(mut self, driver: impl Into<String>) -> Self {
        self.only_driver = Some(driver.into());
        self
    }

    /// Finds, checks and compiles the hooks.
    ///
    /// A hook that cannot be run does not fail this: it vetoes the starts that it would have been asked about.
    ///
    /// # Errors
    /// [`LoadError`] if the hooks directory cannot be read, or others may write to it.
    pub fn build(self) -> Result<Runtime, LoadError> {
        // Hooks run in /, and reports name them for a person who is somewhere else.
        let directory = std::path::absolute(&self.directory).map_err(|error| LoadError::new(&self.directory, error))?;
        let trust = Trust::of_this_process();
        let runtime = Runtime {
            directory,
            limits: self.limits,
            only_driver: self.only_driver,
            trust,
            backends: backends(trust, self.cache),
            hooks: RwLock::default(),
            reloading: Mutex::default(),
        };
        runtime.reload()?;
        Ok(runtime)
    }
}

/// All back-ends; the first that claims a file runs it.
fn backends(trust: Trust, cache: Option<Cache>) -> Vec<Box<dyn Backend>> {
    let native = Native::new(trust);
    #[cfg(not(feature = "wasm"))]
    let _ = cache;
    vec![
        #[cfg(feature = "wasm")]
        Box::new(Wasm::new(Arc::new(native.clone()), trust, cache)),
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
        RuntimeBuilder { directory: directory.into(), limits: Limits::default(), cache: None, only_driver: None }
    }

    /// Asks the hooks, before something is started, whether it may be.
    ///
    /// A hook that fails vetoes it, and so does whatever keeps one from running to its end. The event is run as one of
    /// the start stage, whatever its operation is called.
    pub fn start(&self, event: &Event) -> Verdict {
        Verdict::of(self.run_as(Stage::Start, event))
    }

    /// Tells the hooks that something has been stopped.
    ///
    /// This cannot fail, only report: every hook is called, whatever the others did. The event is run as one of the
    /// shutdown stage, whatever its operation is called.
    pub fn shutdown(&self, event: &Event) -> Report {
        self.run_as(Stage::Shutdown, event)
    }

    /// Runs an event in the stage that its driver's convention puts it in.
    #[must_use = "a hook may have vetoed the event"]
    pub fn run(&self, event: &Event) -> Report {
        self.run_as(event.stage(), event)
    }

    /// Looks for hooks again. Calls that are under way end with the hooks that they began with.
    ///
    /// # Errors
    /// As [`RuntimeBuilder::build`]; the hooks are then what they were before.
    pub fn reload(&self) -> Result<(), LoadError> {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = discovery::find(&self.directory, self.only_driver.as_deref(), self.trust)?;
        let loader = Loader { backends: &self.backends, limits: &self.limits, trust: self.trust };
        let load = |(driver, found): (String, Vec<_>)| {
            (driver, found.into_iter().map(|found| loader.load_found(found)).collect::<Vec<Hook>>())
        };
        let set = HookSet { drivers: findings.drivers.into_iter().map(load).collect(), strays: findings.strays };
        log_what_will_not_run(&set);
        *self.hooks.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        Ok(())
    }

    /// What was found in the hooks directory, and what will happen with it.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        Inventory::new(&self.directory, &self.hooks(), &self.limits)
    }

    fn hooks(&self) -> Arc<HookSet> {
        Arc::clone(&self.hooks.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The one place where stages mean something.
    fn run_as(&self, stage: Stage, event: &Event) -> Report {
        let hooks = self.hooks();
        let filter = event.filter_format().filter(|_| stage == Stage::Start);
        let stops = stage == Stage::Start && convention::of_driver(event.driver()).after_veto == AfterVeto::Stop;
        let mut report = Report {
            event: event.clone(),
            stage,
            decision: if stage == Stage::Start { Decision::Proceed } else { Decision::Notified },
            hooks: Vec::new(),
            skipped: Vec::new(),
            document: None,
        };
        for hook in hooks.of_event(event) {
            if let State::Skipped(reason) = &hook.state {
                report.skipped.push(Skipped { path: hook.path.to_path_buf(), reason: reason.clone() });
                continue;
            }
            if stops && report.decision == Decision::Vetoed {
                let reason = "it was not called: a hook before it vetoed".to_owned();
                report.skipped.push(Skipped { path: hook.path.to_path_buf(), reason });
                continue;
            }
            let stdin = report.document.clone().unwrap_or_else(|| event.document().clone());
            let keep_stdout = if filter.is_some() { self.limits.stdout } else { 0 };
            let mut ended = call(hook, &event.arguments(), stdin, &self.limits, keep_stdout);
            if let Some(document) = filter.and_then(|format| take_document(format, &mut ended)) {
                report.document = Some(document);
            }
            if !ended.termination.is_success() && stage == Stage::Start {
                report.decision = Decision::Vetoed;
            }
            log_call(event, &ended);
            report.hooks.push(ended);
        }
        if report.decision == Decision::Vetoed {
            report.document = None;
        }
        report
    }
}

/// Runs one hook's file, native or wasm, without a hooks directory.
///
/// The hook's own settings, beside its file, hold; its execute bit and the trust in its file are asked for as in a hooks
/// directory.
///
/// ```no_run
/// let ended = hookvisor::Exec::new("./20-policy.wasm").run(&["web1", "start", "begin", "-"], "<domain/>");
/// assert_eq!(ended.termination.exit_status(), 0);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Exec {
    hook: PathBuf,
    limits: Limits,
    cache: Option<Cache>,
}

impl Exec {
    /// Will run this file.
    pub fn new(hook: impl Into<PathBuf>) -> Self {
        Self { hook: hook.into(), limits: Limits::default(), cache: None }
    }

    /// Sets the limits that hold where the hook's settings have none.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Keeps the compiled form of a WebAssembly hook there. By default it is not kept.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Runs it with any arguments, and blocks until it has ended. Everything that can go wrong is in the report. Both
    /// streams are kept, as far as the limits allow.
    #[must_use = "the hook may have failed"]
    pub fn run(self, arguments: &[&str], stdin: impl Into<Bytes>) -> HookReport {
        let trust = Trust::of_this_process();
        let backends = backends(trust, self.cache);
        let loader = Loader { backends: &backends, limits: &self.limits, trust };
        let path = std::path::absolute(&self.hook).unwrap_or(self.hook);
        let mut hook = loader.load(path, Scope::default());
        if let State::Skipped(why) = hook.state {
            hook.state = State::Broken(LaunchError::Refused(why));
        }
        // A guest would take what is before the NUL for the whole argument, where a process cannot be started at all.
        if let Some(argument) = arguments.iter().find(|argument| argument.contains('\0')) {
            let why = format!("the argument {argument:?} contains a NUL byte, which no hook can be given");
            hook.state = State::Broken(LaunchError::Refused(why));
        }
        call(&hook, arguments, stdin.into(), &self.limits, self.limits.stdout)
    }
}

fn call(hook: &Hook, arguments: &[&str], stdin: Bytes, limits: &Limits, keep_stdout: usize) -> HookReport {
    let timeout = hook.settings.timeout.unwrap_or(limits.timeout);
    let deadline = Deadline::start(Arc::clone(&hook.path), timeout, limits.slow);
    let call = Call { path: &hook.path, arguments, stdin, env: &hook.settings.env, deadline, limits, keep_stdout };
    let outcome = match &hook.state {
        State::Ready(program) => program.run(&call),
        State::Broken(why) => Err(why.clone()),
        State::Skipped(why) => Err(LaunchError::Refused(why.clone())),
    };
    let duration = call.deadline.elapsed();
    let report = |termination| HookReport {
        path: hook.path.to_path_buf(),
        kind: hook.kind,
        termination,
        stderr: Vec::new(),
        stderr_dropped: 0,
        stdout: Bytes::new(),
        stdout_dropped: 0,
        duration,
        notes: Vec::new(),
    };
    match outcome {
        Err(why) => report(Termination::NotLaunched { status: why.exit_status(), why: why.to_string() }),
        Ok(Completion { end, stdout, stderr, notes }) => HookReport {
            stderr: stderr.shown(),
            stderr_dropped: stderr.dropped,
            stdout: stdout.bytes.into(),
            stdout_dropped: stdout.dropped,
            notes,
            ..report(termination(end, timeout))
        },
    }
}

fn termination(end: End, timeout: Duration) -> Termination {
    match end {
        End::Exited(status) => Termination::Exited(status),
        End::Signaled { signal, name } => Termination::Signaled { signal, name },
        End::TimedOut => Termination::TimedOut { after: timeout },
        End::Trapped(what) => Termination::Trapped(what),
        End::Lost(why) => Termination::Lost(why),
    }
}

/// What a filter's hook made of the document, if it changed it. A hook whose document cannot be used has failed.
fn take_document(format: Format, hook: &mut HookReport) -> Option<Bytes> {
    if !hook.termination.is_success() {
        return None;
    }
    let usable = if hook.stdout_dropped > 0 {
        let (kept, all) = (hook.stdout.len(), hook.stdout.len() as u64 + hook.stdout_dropped);
        Err(format!("it wrote a document of {all} bytes, of which no more than {kept} are taken"))
    } else if format.is_empty(&hook.stdout) {
        return None;
    } else {
        format.refuse(&hook.stdout)
    };
    match usable {
        Ok(()) => Some(hook.stdout.clone()),
        Err(why) => {
            hook.termination = Termination::Rejected(why);
            None
        }
    }
}

/// One line for each call, for the log that an administrator asks for.
fn log_call(event: &Event, ended: &HookReport) {
    let (driver, object, operation) = (event.driver(), event.object(), event.operation());
    let (hook, status) = (ended.path.display(), ended.termination.exit_status());
    let duration_us = u64::try_from(ended.duration.as_micros()).unwrap_or(u64::MAX);
    match ended.entry(Some(driver)) {
        None => tracing::info!(
            target: "hookvisor::call", driver, object, operation, %hook, status, duration_us,
            "Hook script {hook} {driver} succeeded"
        ),
        Some(entry) => tracing::warn!(
            target: "hookvisor::call", driver, object, operation, %hook, status, duration_us,
            "{}", String::from_utf8_lossy(&entry)
        ),
    }
}

fn log_what_will_not_run(set: &HookSet) {
    for hook in set.drivers.values().flatten() {
        let path = hook.path.display();
        match &hook.state {
            State::Ready(_) => tracing::debug!("hook {path} is loaded"),
            State::Broken(why) => {
                tracing::warn!(target: "hookvisor::broken", "hook {path} cannot be run, and fails where it is called: {why}");
            }
            // That was said by whoever made the link.
            State::Skipped(why) if file::is_mask(&hook.path) => tracing::debug!("hook {path} is skipped: {why}"),
            State::Skipped(why) => tracing::warn!("hook {path} is skipped: {why}"),
        }
    }
    for stray in &set.strays {
        tracing::info!("{} {}", stray.path.display(), stray.reason);
    }
}
