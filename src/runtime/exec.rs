//! Runs a single hook file.

use std::path::PathBuf;

use bytes::Bytes;

use super::backends::{Cache, Compiler, backends};
use super::decide::{self, CallOptions};
use super::hooks::{Hook, Loaded};
use super::load::Loader;
use crate::backend::Calls;
use crate::backend::native::Native;
use crate::cancel::Cancel;
use crate::event::Event;
use crate::hook::error::LaunchError;
use crate::hook::scope::Scope;
use crate::hook::state::StateRoot;
use crate::hook::trust::Trust;
use crate::limits::Limits;
use crate::needs::{Needs, Watch};
use crate::report::HookReport;

/// Runs a single hook file, native or wasm, without a hooks directory.
///
/// The settings file next to the hook applies. The file needs its execute bit and is checked for trust, as in a hooks
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
    compiler: Option<Compiler>,
    cancels: Vec<Cancel>,
    trust_grants: bool,
    confine_all: bool,
    state: StateRoot,
    /// Set while the hook is learnt from.
    watch: Option<Watch>,
}

impl Exec {
    /// Prepares to run this file.
    pub fn new(hook: impl Into<PathBuf>) -> Self {
        Self {
            hook: hook.into(),
            limits: Limits::default(),
            cache: None,
            compiler: None,
            cancels: Vec::new(),
            trust_grants: false,
            confine_all: false,
            state: StateRoot::default(),
            watch: None,
        }
    }

    /// Sets the limits. The hook's settings take precedence.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the cache for the compiled form of a WebAssembly hook. By default, there is no cache.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Compiles a WebAssembly hook with this program, in a separate process. By default, this process compiles it.
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Confines a native hook to what its settings grant, even without `confine = true` in them.
    pub fn confine_all(mut self, confine: bool) -> Self {
        self.confine_all = confine;
        self
    }

    /// Sets the directory in which hooks with `state = true` have a directory each. The default is `/var/lib/hookvisor/state`.
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = StateRoot::at(directory);
        self
    }

    /// Ends the hook when `cancel` is cancelled. You can add several.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// Uses the grants in the hook's settings even if users other than root could have written them or the hook.
    ///
    /// By default, [`run`](Self::run) ignores such grants and adds a note to the report. Otherwise, a downloaded module with a
    /// settings file could run any program.
    pub fn trust_grants(mut self) -> Self {
        self.trust_grants = true;
        self
    }

    /// Checks whether the hook can be run, without running it.
    ///
    /// # Errors
    /// [`LaunchError`] says why it cannot.
    pub fn check(&self) -> Result<(), LaunchError> {
        let hook = self.load();
        match hook.loaded {
            Loaded::Broken(why) => Err(why),
            Loaded::Ready(_) | Loaded::Skipped(_) => hook.settings.environment(Trust::of_this_process).map(|_| ()),
        }
    }

    fn load(&self) -> Hook {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, false, None).with_state(self.state.clone());
        let calls = Calls::One;
        let backends = backends(native, trust, self.cache.clone(), self.compiler.clone(), calls, &self.cancels);
        let grants = if self.trust_grants { trust } else { Trust::in_root_alone() };
        let (limits, learns) = (&self.limits, self.watch.is_some());
        let confine_all = self.confine_all && !learns;
        let loader = Loader { backends: &backends, limits, trust, grants, confine_all, learns, calls };
        let path = std::path::absolute(&self.hook).unwrap_or_else(|_| self.hook.clone());
        let mut hook = loader.load(path, Scope::default());
        if let Loaded::Skipped(why) = hook.loaded {
            hook.loaded = Loaded::Broken(LaunchError::Refused(why));
        }
        hook
    }

    /// Runs the hook with these arguments and blocks until it has ended. The report contains every failure, and both stdout
    /// and stderr up to the limits.
    #[must_use = "the hook may have failed"]
    pub fn run(self, arguments: &[&str], stdin: impl Into<Bytes>) -> HookReport {
        let mut hook = self.load();
        // exec(3) rejects a NUL, while a wasm guest would silently truncate the argument.
        if let Some(argument) = arguments.iter().find(|argument| argument.contains('\0')) {
            let why = format!("the argument {argument:?} contains a NUL byte, which cannot be passed to a hook");
            hook.loaded = Loaded::Broken(LaunchError::Refused(why));
        }
        let mut options = CallOptions::new(&self.limits, self.cancels);
        options.watch = self.watch;
        decide::hook(&hook, arguments, stdin.into(), &options, self.limits.stdout)
    }

    /// Runs the hook for this event as [`run`](Self::run) does, but without its grants: it is allowed what it asks for, and what it used is
    /// returned. A native hook runs unconfined and is traced with strace. A WebAssembly hook sees the host's files and may run
    /// any command.
    #[must_use = "the hook may have failed"]
    pub fn learn(mut self, event: &Event) -> (HookReport, Needs) {
        let watch = self.watch.insert(Watch::default()).clone();
        let report = self.run(&event.arguments(), event.document().clone());
        (report, watch.take())
    }
}
