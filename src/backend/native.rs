//! Native hooks: executable scripts and binaries, run as processes.
//!
//! [`launcher`] starts them and [`supervise`] runs them to their end. Below these, [`spawn`] creates a process,
//! [`process`] represents a running one, and [`kernel`] has the system calls.

mod confine;
pub(crate) mod detach;
mod error;
mod group;
mod guard;
mod kernel;
mod launcher;
mod phase;
mod pipe_holders;
mod pipes;
mod process;
mod shebang;
mod sigpipe;
mod spawn;
mod stat;
mod supervise;
mod watch;

use std::ffi::OsString;
use std::sync::Arc;

use self::confine::Confinement;
#[cfg(feature = "compiler")]
pub(crate) use self::confine::compute_only;
#[cfg(feature = "wasm")]
pub(crate) use self::confine::directory_in_memory;
pub use self::kernel::is_ignored;
use self::launcher::Launcher;
use self::watch::Monitored;
use crate::backend::{Backend, Call, Completion, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::{Confine, Settings};
use crate::hook::state::StateRoot;
use crate::hook::trust::Trust;
use crate::limits::Limits;

/// The back-end for processes.
pub(crate) struct Native {
    launcher: Arc<Launcher>,
    state: StateRoot,
}

impl Native {
    /// Copies the environment for all hooks from the host's current one. `path` replaces its `PATH`.
    pub(crate) fn new(trust: Trust, end_with_host: bool, path: Option<OsString>) -> Self {
        let launcher = Arc::new(Launcher::new(trust, end_with_host, path));
        Self { launcher, state: StateRoot::default() }
    }

    /// Where hooks keep their own files.
    pub(crate) fn with_state(self, state: StateRoot) -> Self {
        Self { state, ..self }
    }

    #[cfg(feature = "wasm")]
    pub(crate) fn state(&self) -> StateRoot {
        self.state.clone()
    }

    /// Runs any program like a native hook, for the commands of sandboxed hooks.
    #[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "only sandboxed hooks have commands run for them"))]
    pub(crate) fn launcher(&self) -> Arc<dyn Program> {
        Arc::<Launcher>::clone(&self.launcher)
    }
}

impl Backend for Native {
    fn kind(&self) -> Kind {
        Kind::Native
    }

    fn load(&self, file: HookFile, settings: &Settings, _limits: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        let confine = settings.confine.unwrap_or(Confine::No);
        if confine == Confine::No {
            settings.refuse_for_unconfined(&file.path)?;
        }
        self.launcher.check(&file.path, &file.head)?;
        let held = match confine {
            Confine::No => Held::Unconfined,
            Confine::Yes => Held::Confined(self.launcher.confinement(&file.path, settings, self.state.clone())?),
            Confine::Monitor => Held::Monitored(self.launcher.monitored(&file.path, settings, &self.state)?),
        };
        Ok(Box::new(NativeHook { launcher: Arc::clone(&self.launcher), held }))
    }
}

/// A native hook. Each call opens and checks its file again.
struct NativeHook {
    launcher: Arc<Launcher>,
    held: Held,
}

/// What a native hook is held to.
enum Held {
    Unconfined,
    Confined(Confinement),
    Monitored(Monitored),
}

impl Program for NativeHook {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        let env = match &self.held {
            Held::Monitored(monitored) => monitored.environment(call)?,
            Held::Unconfined | Held::Confined(_) => None,
        };
        let call = &Call { env: env.as_deref().unwrap_or(call.env), ..call.clone() };
        match (&call.watch, &self.held) {
            (Some(watch), _) => self.launcher.run_watched(call, watch),
            (None, Held::Unconfined) => self.launcher.run_hook(call, None),
            (None, Held::Confined(confinement)) => self.launcher.run_hook(call, Some(confinement)),
            (None, Held::Monitored(monitored)) => self.launcher.run_monitored(call, monitored),
        }
    }
}
