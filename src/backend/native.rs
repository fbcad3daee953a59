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

use std::ffi::OsString;
use std::sync::Arc;

use self::confine::Confinement;
#[cfg(feature = "wasm")]
pub(crate) use self::confine::directory_in_memory;
use self::launcher::Launcher;
use crate::backend::{Backend, Call, Completion, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
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
        let confined = settings.confine == Some(true);
        if !confined {
            settings.refuse_for_unconfined(&file.path)?;
        }
        self.launcher.check(&file.path, &file.head)?;
        let confinement =
            confined.then(|| self.launcher.confinement(&file.path, settings, self.state.clone())).transpose()?;
        Ok(Box::new(NativeHook { launcher: Arc::clone(&self.launcher), confinement }))
    }
}

/// A native hook. Each call opens and checks its file again.
struct NativeHook {
    launcher: Arc<Launcher>,
    confinement: Option<Confinement>,
}

impl Program for NativeHook {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        self.launcher.run_hook(call, self.confinement.as_ref())
    }
}
