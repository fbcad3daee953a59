//! Hooks that are processes: executable scripts and binaries.
//!
//! [`launcher`] starts them and [`supervise`] runs them to their end. Below: [`spawn`] makes a process, [`process`] is one
//! that runs, [`kernel`] has the system calls.

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

use self::launcher::Launcher;
use crate::backend::{Backend, Call, Completion, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
use crate::hook::trust::Trust;
use crate::limits::Limits;

/// The back-end for processes.
pub(crate) struct Native {
    launcher: Arc<Launcher>,
}

impl Native {
    /// Takes the environment of all hooks from the host's, as it is now, but for a `PATH` of their own.
    pub(crate) fn new(trust: Trust, end_with_host: bool, path: Option<OsString>) -> Self {
        Self { launcher: Arc::new(Launcher::new(trust, end_with_host, path)) }
    }

    /// What runs any program as a native hook is run: for the commands of sandboxed hooks.
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
        settings.refuse_for_native(&file.path)?;
        self.launcher.check(&file.path, &file.head)?;
        Ok(Box::new(NativeHook(Arc::clone(&self.launcher))))
    }
}

/// A native hook. Its file is opened and checked anew at each call.
struct NativeHook(Arc<Launcher>);

impl Program for NativeHook {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        self.0.run(call)
    }
}
