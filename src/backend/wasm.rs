//! Hooks that are WebAssembly: WASI preview 1 modules and WASI 0.2 components. Each call gets a new instance.
//!
//! The engine is created when the first such hook is loaded. A directory of native hooks never creates one.

mod block_on;
mod broker;
pub(crate) mod cache;
mod call;
mod compile;
mod engine;
mod epoch;
mod error;
mod files;
mod grants;
mod interface;
mod memory;
mod paths;
mod precompiled;
mod preview_1;
mod private;
mod request;
mod sandbox;
mod stamp;
mod store;
mod streams;
mod strings;

use std::sync::{Arc, Mutex, PoisonError};

use bytesize::ByteSize;

use self::cache::Cache;
use self::call::WasmHook;
use self::compile::ModuleFile;
use self::error::refused;
use self::sandbox::Sandbox;
use crate::backend::{Backend, Calls, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::{self, Settings};
use crate::hook::trust::Trust;
use crate::limits::Limits;

/// The start of the name by which a component of WASI 0.3 exports its program.
const RUN_0_3: &[u8] = b"wasi:cli/run@0.3.";
/// wasmtime's WASI 0.3 is experimental and gets no security fixes.
const NO_WASI_0_3: &str = "it is a component of WASI 0.3, and hookvisor runs WASI 0.2: build it for that (in Rust, for \
                           wasm32-wasip2)";

/// The back-end for WebAssembly.
pub(crate) struct Wasm {
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    cache: Option<Cache>,
    calls: Calls,
    /// Runs the commands that guests ask for.
    launcher: Arc<dyn Program>,
    trust: Trust,
}

impl Wasm {
    pub(crate) fn new(launcher: Arc<dyn Program>, trust: Trust, cache: Option<Cache>, calls: Calls) -> Self {
        Self { sandbox: Mutex::default(), cache, calls, launcher, trust }
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
                "its size of {size} is over the limit for a module, {limit}: build it optimised and stripped"
            )));
        }
        grants::check(settings, self.trust)?;
        let cache = self.cache.as_ref();
        let module = ModuleFile::new(&file, cache)?;
        if let Some(expected) = &settings.sha256 {
            module.check(expected)?;
        }
        let memory = settings.memory.map_or(limits.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX));
        let sandbox = self.sandbox(limits)?;
        // The layer follows the magic number and the version. It is 1 for a component and 0 for a module.
        let program = if file.head.get(6) == Some(&1) {
            let compiled = compile::get(&sandbox.engine, self.calls, cache, &module);
            let linked = compiled.and_then(|component| sandbox.link_component(&component, memory, limits));
            linked.map_err(|why| if module.holds(RUN_0_3) { refused(NO_WASI_0_3) } else { why })?
        } else {
            if !settings.connections.is_empty() {
                let why = "its settings have `connect`, which only a component can use: build it for wasm32-wasip2";
                return Err(refused(why));
            }
            sandbox.link_module(&compile::get(&sandbox.engine, self.calls, cache, &module)?, memory, limits)?
        };
        Ok(Box::new(WasmHook {
            sandbox,
            program,
            memory,
            settings: Arc::new(settings.clone()),
            sha256: module.sha256(),
            settings_file: settings::file_name(&file.path).into(),
            launcher: Arc::clone(&self.launcher),
            trust: self.trust,
        }))
    }
}
