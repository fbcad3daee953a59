//! Running one hook's file by itself.

use std::path::PathBuf;

use bytes::Bytes;

use super::call::{self, CallOptions};
use super::hooks::{Hook, Loaded};
use super::load::Loader;
use super::{Cache, Compiler, Native, backends};
use crate::backend::Calls;
use crate::cancel::Cancel;
use crate::hook::error::LaunchError;
use crate::hook::scope::Scope;
use crate::hook::trust::Trust;
use crate::limits::Limits;
use crate::report::HookReport;

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
    compiler: Option<Compiler>,
    cancels: Vec<Cancel>,
    trust_grants: bool,
    confine_all: bool,
}

impl Exec {
    /// Will run this file.
    pub fn new(hook: impl Into<PathBuf>) -> Self {
        Self {
            hook: hook.into(),
            limits: Limits::default(),
            cache: None,
            compiler: None,
            cancels: Vec::new(),
            trust_grants: false,
            confine_all: false,
        }
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

    /// Compiles a WebAssembly hook by this program, in a process of its own. By default it is compiled in this process.
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Holds a native hook to what its settings grant, also where they do not say `confine = true`.
    pub fn confine_all(mut self, confine: bool) -> Self {
        self.confine_all = confine;
        self
    }

    /// Ends the hook when this is cancelled. More than one may be given.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// Uses the grants in the hook's settings although others than root could have written them, or the hook.
    ///
    /// By default, [`run`](Self::run) ignores such grants and notes that in the report. A downloaded module with a settings
    /// file beside it could otherwise run any program.
    pub fn trust_grants(mut self) -> Self {
        self.trust_grants = true;
        self
    }

    /// Checks whether the hook can be run, without running it.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self) -> Result<(), LaunchError> {
        match self.load().loaded {
            Loaded::Broken(why) => Err(why),
            Loaded::Ready(_) | Loaded::Skipped(_) => Ok(()),
        }
    }

    fn load(&self) -> Hook {
        let trust = Trust::of_this_process();
        let native = Native::new(trust, false, self.confine_all, None);
        let backends = backends(native, trust, self.cache.clone(), self.compiler.clone(), Calls::One, &self.cancels);
        let grants = if self.trust_grants { trust } else { Trust::in_root_alone() };
        let loader = Loader { backends: &backends, limits: &self.limits, trust, grants };
        let path = std::path::absolute(&self.hook).unwrap_or_else(|_| self.hook.clone());
        let mut hook = loader.load(path, Scope::default());
        if let Loaded::Skipped(why) = hook.loaded {
            hook.loaded = Loaded::Broken(LaunchError::Refused(why));
        }
        hook
    }

    /// Runs it with any arguments, and blocks until it has ended. Everything that can go wrong is in the report. Both
    /// streams are kept, as far as the limits allow.
    #[must_use = "the hook may have failed"]
    pub fn run(self, arguments: &[&str], stdin: impl Into<Bytes>) -> HookReport {
        let mut hook = self.load();
        // A guest would take what is before the NUL for the whole argument, where a process cannot be started at all.
        if let Some(argument) = arguments.iter().find(|argument| argument.contains('\0')) {
            let why = format!("the argument {argument:?} contains a NUL byte, which no hook can be given");
            hook.loaded = Loaded::Broken(LaunchError::Refused(why));
        }
        let options = CallOptions::new(&self.limits, self.cancels);
        call::hook(&hook, arguments, stdin.into(), &options, self.limits.stdout)
    }
}
