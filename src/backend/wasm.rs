//! Hooks that are WebAssembly: WASI preview 1 modules and WASI 0.2 components. Each call gets a new instance.
//!
//! The engine is created when the first such hook is loaded. A directory of native hooks never creates one.

mod block_on;
pub(crate) mod cache;
mod call;
mod commands;
mod compile;
pub(crate) mod compiler;
mod context;
mod directories;
mod ending;
mod engine;
mod epoch;
mod error;
mod files;
mod grants;
mod interface;
mod large_pages;
mod listing;
mod memory;
mod paths;
mod precompiled;
mod preview_1;
mod private_file;
mod procfs;
mod request;
mod root;
mod root_rights;
mod sandbox;
mod scratch;
mod secrets;
mod stamp;
mod store;
mod streams;
mod strings;
mod unix;

use std::sync::{Arc, Mutex, PoisonError};

use bytesize::ByteSize;

use self::cache::Cache;
use self::call::WasmHook;
use self::compile::{CodeSource, ModuleFile};
use self::compiler::{Compilation, Compiler};
use self::error::refused;
use self::sandbox::Sandbox;
use crate::backend::{self, Backend, Calls, Program};
use crate::cancel::Cancel;
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::grants::Address;
use crate::hook::settings::{self, Settings};
use crate::hook::state::StateRoot;
use crate::hook::trust::Trust;
use crate::limits::Limits;

/// How a runtime prepares WebAssembly hooks.
pub(crate) struct Options {
    pub(crate) cache: Option<Cache>,
    pub(crate) compiler: Option<Compiler>,
    pub(crate) calls: Calls,
    /// Interrupts the compiler.
    pub(crate) cancels: Vec<Cancel>,
    pub(crate) state: StateRoot,
}

/// The back-end for WebAssembly.
pub(crate) struct Wasm {
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    cache: Option<Cache>,
    calls: Calls,
    compilation: Compilation,
    /// Runs the guests' commands.
    launcher: Arc<dyn Program>,
    trust: Trust,
    state: StateRoot,
}

impl Wasm {
    /// `own_launcher` runs this program itself, whoever owns its file.
    pub(crate) fn new(
        launcher: Arc<dyn Program>,
        own_launcher: Arc<dyn Program>,
        trust: Trust,
        options: Options,
    ) -> Self {
        let Options { cache, compiler, calls, cancels, state } = options;
        let compilation = Compilation::new(compiler, Arc::clone(&launcher), own_launcher, cancels);
        Self { sandbox: Mutex::default(), cache, calls, compilation, launcher, trust, state }
    }

    /// The shared sandbox, created at first use. The next load tries again after a failure.
    fn sandbox(&self, limits: &Limits) -> Result<Arc<Sandbox>, LaunchError> {
        let mut sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sandbox {
            Some(made) => Ok(Arc::clone(made)),
            None => Ok(Arc::clone(sandbox.insert(Arc::new(Sandbox::new(limits, self.calls)?)))),
        }
    }
}

impl Backend for Wasm {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    fn load(&self, file: HookFile, settings: &Settings, limits: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        if file.size > limits.module_size {
            let (size, limit) = (ByteSize(file.size), ByteSize(limits.module_size));
            return Err(refused(format!(
                "its size is {size}, but the limit for a module is {limit}: build it optimised and stripped"
            )));
        }
        backend::grants::check(settings, Kind::Wasm, self.trust)?;
        grants::check(settings, self.trust)?;
        let cache = self.cache.as_ref();
        let module = ModuleFile::new(&file, cache)?;
        if let Some(expected) = &settings.sha256 {
            module.check(expected)?;
        }
        let memory = settings.memory.map_or(limits.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX));
        let sandbox = self.sandbox(limits)?;
        let code = CodeSource { calls: self.calls, cache, compilation: &self.compilation, limits };
        // The layer follows the magic number and the version. It is 1 for a component and 0 for a module.
        let program = if file.head.get(6) == Some(&1) {
            sandbox.link_component(&code.load(&sandbox, &module)?, memory, limits)?
        } else {
            let mut addresses = settings.connections.iter().map(|granted| &granted.to);
            if let Some(to) = addresses.find(|to| !matches!(to, Address::Unix(_))) {
                return Err(refused(format!(
                    "its settings have `connect` to {to}, which only a component can use: build it for wasm32-wasip2"
                )));
            }
            sandbox.link_module(&code.load(&sandbox, &module)?, memory, limits)?
        };
        Ok(Box::new(WasmHook {
            sandbox,
            names_files: program.can_name_files(),
            program,
            memory,
            settings: Arc::new(settings.clone()),
            sha256: module.sha256(),
            settings_file: settings::file_name(&file.path).into(),
            launcher: Arc::clone(&self.launcher),
            trust: self.trust,
            state: self.state.clone(),
        }))
    }
}
