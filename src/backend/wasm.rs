//! Hooks that are WebAssembly modules (WASI preview 1), each call in a fresh instance of its own.
//!
//! The engine is made when the first such hook is loaded; a directory of native hooks never makes one.

mod clock;
mod drive;
mod guest;
mod streams;

use std::sync::{Arc, OnceLock};

use wasmtime::{Engine, ExternType, InstancePre, Linker, Module};

use self::clock::Clock;
use self::guest::{Guest, HookExit};
use crate::backend::{Backend, Call, Completion, LaunchError, Program};
use crate::hook::file::HookFile;
use crate::hook::settings::Settings;
use crate::limits::Limits;
use crate::report::Kind;

/// The name under which preview 1 is imported.
const PREVIEW_1: &str = "wasi_snapshot_preview1";
/// The function that a command starts at.
const START: &str = "_start";
/// What the host's side of a call may use of the fiber's stack, beyond the guest's limit.
const HOST_STACK: usize = 1 << 20;

/// The back-end for WebAssembly.
#[derive(Default)]
pub(crate) struct Wasm {
    sandbox: OnceLock<Result<Arc<Sandbox>, LaunchError>>,
}

/// What all modules share: the engine that compiles them, what they may import, and the clock that interrupts them.
struct Sandbox {
    engine: Engine,
    linker: Linker<Guest>,
    clock: Clock,
}

/// A compiled module with its imports resolved.
struct WasmHook {
    sandbox: Arc<Sandbox>,
    instance: InstancePre<Guest>,
    memory: usize,
}

impl Backend for Wasm {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    fn claims(&self, head: &[u8]) -> bool {
        head.starts_with(b"\0asm")
    }

    fn load(&self, file: HookFile, settings: &Settings, limits: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        let refused = |why: String| LaunchError::Refused(why);
        if file.size > limits.module_size {
            let (size, limit) = (file.size, limits.module_size);
            return Err(refused(format!("its {size} bytes are more than the limit for a module, {limit}")));
        }
        // The layer, after the magic number and the version, tells a component (1) from a module (0).
        if file.head.get(6) == Some(&1) {
            let why = "it is a WebAssembly component, and hooks are modules: build it for wasm32-wasip1";
            return Err(refused(why.to_owned()));
        }
        let bytes = file.read()?;
        if let Some(expected) = &settings.sha256 {
            check_digest(&bytes, expected)?;
        }
        let sandbox = self.sandbox.get_or_init(|| Sandbox::new(limits).map(Arc::new)).clone()?;
        let module = Module::new(&sandbox.engine, &bytes)
            .map_err(|e| refused(format!("it is not a valid WebAssembly module: {}", one_line(&e))))?;
        sandbox.check_imports(&module)?;
        // Otherwise the first call would do it, and leave a descriptor behind.
        module
            .initialize_copy_on_write_image()
            .map_err(|e| LaunchError::Host { what: "could not keep its memory's first image", why: one_line(&e) })?;
        if !matches!(module.get_export(START), Some(ExternType::Func(f)) if f.params().len() + f.results().len() == 0) {
            let why = "it exports no function `_start`, so it is a library and not a program: build it as a binary (in Rust, \
                       with a `fn main`)";
            return Err(refused(why.to_owned()));
        }
        let memory = settings.memory.map_or(limits.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX));
        check_needs(&module, memory, limits)?;
        let instance = sandbox
            .linker
            .instantiate_pre(&module)
            .map_err(|e| refused(format!("it could not be linked: {}", one_line(&e))))?;
        Ok(Box::new(WasmHook { sandbox, instance, memory }))
    }
}

impl Sandbox {
    fn new(limits: &Limits) -> Result<Self, LaunchError> {
        let failed =
            |e: &wasmtime::Error| LaunchError::Host { what: "could not make the WebAssembly engine", why: one_line(e) };
        let mut config = wasmtime::Config::new();
        config
            .epoch_interruption(true)
            .max_wasm_stack(limits.stack)
            .async_stack_size(limits.stack.saturating_add(HOST_STACK));
        let engine = Engine::new(&config).map_err(|e| failed(&e))?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p1::add_to_linker_async(&mut linker, Guest::wasi).map_err(|e| failed(&e))?;
        // wasmtime-wasi's own refuses a status of 126 and more; a process's goes up to 255.
        linker.allow_shadowing(true);
        linker
            .func_wrap(PREVIEW_1, "proc_exit", |status: u32| -> wasmtime::Result<()> { Err(HookExit(status).into()) })
            .map_err(|e| failed(&e))?;
        let clock = Clock::start(engine.clone()).map_err(|e| LaunchError::Host {
            what: "could not start the thread that interrupts WebAssembly hooks",
            why: e.to_string(),
        })?;
        Ok(Self { engine, linker, clock })
    }

    /// Names every import that nothing provides, where wasmtime's own error stops at the first.
    fn check_imports(&self, module: &Module) -> Result<(), LaunchError> {
        let provided: Vec<(&str, &str)> = module.imports().map(|i| (i.module(), i.name())).collect();
        let missing: Vec<String> = provided
            .iter()
            .filter(|(module, name)| !self.provides(module, name))
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(LaunchError::Refused(format!(
            "it imports what nothing provides: {}; a hook may import WASI preview 1 ({PREVIEW_1})",
            missing.join(", ")
        )))
    }

    fn provides(&self, module: &str, name: &str) -> bool {
        let mut store = wasmtime::Store::new(&self.engine, Guest::without_rights());
        self.linker.get(&mut store, module, name).is_ok()
    }
}

impl Program for WasmHook {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        guest::run(&self.sandbox.engine, &self.sandbox.clock, &self.instance, self.memory, call)
    }
}

fn check_needs(module: &Module, memory: usize, limits: &Limits) -> Result<(), LaunchError> {
    let needs = module.resources_required();
    if needs.max_initial_memory_size.is_some_and(|size| size > memory as u64) {
        let (needs, limit) = (needs.max_initial_memory_size.unwrap_or_default(), memory);
        return Err(LaunchError::Refused(format!(
            "it needs {needs} bytes of memory from the start, and its limit is {limit}: set `memory` in its settings"
        )));
    }
    if needs.max_initial_table_size.is_some_and(|size| size > limits.table_elements as u64) {
        let (needs, limit) = (needs.max_initial_table_size.unwrap_or_default(), limits.table_elements);
        return Err(LaunchError::Refused(format!("its table of {needs} elements is over the limit, {limit}")));
    }
    Ok(())
}

fn check_digest(bytes: &[u8], expected: &str) -> Result<(), LaunchError> {
    use sha2::{Digest, Sha256};
    use std::fmt::Write;
    let found = Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(LaunchError::Refused(format!("its SHA-256 is {found}, and its settings want {expected}")))
}

/// An error and its causes in one line.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
