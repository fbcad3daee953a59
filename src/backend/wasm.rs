//! Hooks that are WebAssembly: WASI preview 1 modules and WASI 0.2 components, each call in a fresh instance of its own.
//!
//! The engine is made when the first such hook is loaded; a directory of native hooks never makes one.

mod broker;
pub(crate) mod cache;
mod clock;
mod drive;
mod files;
mod guest;
mod interface;
mod pool;
mod precompiled;
mod streams;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytesize::ByteSize;
use sha2::{Digest, Sha256};
use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, ResourcesRequired, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use self::cache::{Cache, Key};
use self::clock::Clock;
use self::guest::{Guest, HookExit};
use crate::backend::{Backend, Call, Completion, LaunchError, Program};
use crate::hook::file::HookFile;
use crate::hook::settings::{self, Settings};
use crate::hook::trust::Trust;
use crate::limits::Limits;
use crate::places::Places;
use crate::report::Kind;

/// The name under which preview 1 is imported.
const PREVIEW_1: &str = "wasi_snapshot_preview1";
/// The function that a module's program starts at.
const START: &str = "_start";
/// wasmtime has WASI 0.3 too, and says of it that it is experimental and gets no security fixes.
const NO_WASI_0_3: &str = "it is a component of WASI 0.3, and hookvisor runs WASI 0.2: build it for that (in Rust, for \
                           wasm32-wasip2)";
/// What WebAssembly counts memory in.
const PAGE: u64 = 64 << 10;
/// The back-end for WebAssembly.
pub(crate) struct Wasm {
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    cache: Option<Cache>,
    /// What runs the commands that a guest asks for.
    launcher: Arc<dyn Program>,
    trust: Trust,
}

/// What all hooks share: the engine that compiles them, what they may import, and the clock that interrupts them.
struct Sandbox {
    engine: Engine,
    modules: Linker<Guest>,
    components: component::Linker<Guest>,
    clock: Clock,
    /// One more call than there are places waits for one, within its own time.
    places: Places,
}

/// A compiled hook with its imports resolved, and what it may reach.
struct WasmHook {
    sandbox: Arc<Sandbox>,
    code: Code,
    memory: usize,
    settings: Arc<Settings>,
    settings_file: Arc<Path>,
    launcher: Arc<dyn Program>,
}

/// The two forms of a program.
enum Code {
    Module(InstancePre<Guest>),
    Component(CommandPre<Guest>),
}

impl Wasm {
    pub(crate) fn new(launcher: Arc<dyn Program>, trust: Trust, cache: Option<Cache>) -> Self {
        Self { sandbox: Mutex::default(), cache, launcher, trust }
    }

    /// A failure is not kept: the next load may find the host better off.
    fn sandbox(&self, limits: &Limits) -> Result<Arc<Sandbox>, LaunchError> {
        let mut sandbox = self.sandbox.lock().unwrap_or_else(PoisonError::into_inner);
        match &*sandbox {
            Some(made) => Ok(Arc::clone(made)),
            None => Ok(Arc::clone(sandbox.insert(Arc::new(Sandbox::new(limits)?)))),
        }
    }

    fn compile_module(&self, engine: &Engine, bytes: &[u8]) -> Result<Module, LaunchError> {
        let invalid = |e| refused(format!("it is no valid WebAssembly module, build or copy it again: {}", cause(&e)));
        let compile = || Module::new(engine, bytes).map_err(invalid);
        self.cached(engine, bytes, precompiled::module, |code| code.serialize(), compile)
    }

    fn compile_component(&self, engine: &Engine, bytes: &[u8]) -> Result<Component, LaunchError> {
        let invalid =
            |e| refused(format!("it is no valid WebAssembly component, build or copy it again: {}", cause(&e)));
        let compile = || Component::new(engine, bytes).map_err(invalid);
        self.cached(engine, bytes, precompiled::component, |code| code.serialize(), compile)
    }

    fn cached<T>(
        &self,
        engine: &Engine,
        bytes: &[u8],
        load: fn(&Engine, &cache::Verified) -> wasmtime::Result<T>,
        save: fn(&T) -> wasmtime::Result<Vec<u8>>,
        compile: impl FnOnce() -> Result<T, LaunchError> + Send,
    ) -> Result<T, LaunchError>
    where
        T: Send,
    {
        // On all cores, with threads that are gone afterwards: by itself wasmtime would use some of its process's own, and
        // leave them there.
        let no_threads = |error: rayon::ThreadPoolBuildError| LaunchError::Host {
            what: "could not start the threads that compile it",
            why: error.to_string(),
        };
        let compile = || rayon::ThreadPoolBuilder::new().build().map_err(no_threads)?.install(compile);
        let Some(cache) = &self.cache else { return compile() };
        let key = Key::new(engine, bytes);
        if let Some(code) = cache.get(&key) {
            match load(engine, &code) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => {
                    tracing::warn!("compiled code in the cache is of no use: {}", one_line(&error));
                    cache.remove(&key);
                }
            }
        }
        let compiled = compile()?;
        match save(&compiled) {
            Ok(code) => cache.put(&key, &code),
            Err(error) => tracing::info!("compiled code could not be kept: {}", one_line(&error)),
        }
        Ok(compiled)
    }
}

impl Backend for Wasm {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    fn claims(&self, head: &[u8]) -> bool {
        head.starts_with(b"\0asm")
    }

    fn load(&self, file: HookFile, settings: &Settings, limits: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        if file.size > limits.module_size {
            let (size, limit) = (ByteSize(file.size), ByteSize(limits.module_size));
            return Err(refused(format!(
                "its size of {size} is over the limit for a module, {limit}: build it optimised and stripped"
            )));
        }
        guest::check_grants(settings, self.trust)?;
        let bytes = file.read()?;
        if let Some(expected) = &settings.sha256 {
            check_digest(&bytes, expected)?;
        }
        let memory = settings.memory.map_or(limits.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX));
        let sandbox = self.sandbox(limits)?;
        // The layer, after the magic number and the version, tells a component (1) from a module (0).
        let code = if file.head.get(6) == Some(&1) {
            let compiled = self.compile_component(&sandbox.engine, &bytes);
            let linked = compiled.and_then(|component| sandbox.link_component(&component, memory, limits));
            linked.map_err(|why| if is_wasi_0_3(&bytes) { refused(NO_WASI_0_3.to_owned()) } else { why })?
        } else {
            if !settings.connections.is_empty() {
                let why = "its settings have `connect`, which only a component can use: build it for wasm32-wasip2";
                return Err(refused(why.to_owned()));
            }
            sandbox.link_module(&self.compile_module(&sandbox.engine, &bytes)?, memory, limits)?
        };
        Ok(Box::new(WasmHook {
            sandbox,
            code,
            memory,
            settings: Arc::new(settings.clone()),
            settings_file: settings::file_name(&file.path).into(),
            launcher: Arc::clone(&self.launcher),
        }))
    }
}

impl Sandbox {
    fn new(limits: &Limits) -> Result<Self, LaunchError> {
        let made = || {
            let engine = pool::engine(limits)?;
            let mut modules = Linker::new(&engine);
            wasmtime_wasi::p1::add_to_linker_async(&mut modules, Guest::preview_1)?;
            // wasmtime-wasi's own refuses a status of 126 and more; a process's goes up to 255.
            modules.allow_shadowing(true);
            modules.func_wrap(PREVIEW_1, "proc_exit", |status: u32| -> wasmtime::Result<()> {
                Err(HookExit(status).into())
            })?;
            files::add_to_linker(&mut modules)?;
            interface::add_to_linker(&mut modules)?;
            let mut components = component::Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
            components.allow_shadowing(true);
            files::add_to_component_linker(&mut components)?;
            interface::add_to_component_linker(&mut components)?;
            Ok((engine, modules, components))
        };
        let (engine, modules, components) = made().map_err(|e: wasmtime::Error| LaunchError::Host {
            what: "could not make the WebAssembly engine",
            why: one_line(&e),
        })?;
        let clock = Clock::start(engine.clone()).map_err(|e| LaunchError::Host {
            what: "could not start the thread that interrupts WebAssembly hooks",
            why: e.to_string(),
        })?;
        Ok(Self { engine, modules, components, clock, places: Places::new(pool::AT_ONCE) })
    }

    fn link_module(&self, module: &Module, memory: usize, limits: &Limits) -> Result<Code, LaunchError> {
        self.check_imports(module)?;
        if !matches!(module.get_export(START), Some(ExternType::Func(f)) if f.params().len() + f.results().len() == 0) {
            let why = "it exports no function `_start`, so it is a library and not a program: build it as a binary (in Rust, \
                       with a `fn main`)";
            return Err(refused(why.to_owned()));
        }
        check_needs(&module.resources_required(), memory, limits)?;
        // Otherwise the first call would do it, and leave a descriptor behind.
        module.initialize_copy_on_write_image().map_err(no_image)?;
        let linked = self.modules.instantiate_pre(module);
        Ok(Code::Module(linked.map_err(|e| refused(format!("it could not be linked: {}", one_line(&e))))?))
    }

    fn link_component(&self, component: &Component, memory: usize, limits: &Limits) -> Result<Code, LaunchError> {
        if let Some(needs) = component.resources_required() {
            check_needs(&needs, memory, limits)?;
        }
        component.initialize_copy_on_write_image().map_err(no_image)?;
        let unlinked = |e| {
            refused(format!(
                "it could not be linked: {}; a hook may import WASI 0.2 and what guest-sdk/wit defines",
                one_line(&e)
            ))
        };
        let linked = self.components.instantiate_pre(component).map_err(unlinked)?;
        let command = CommandPre::new(linked).map_err(|e| {
            refused(format!("it exports no `wasi:cli/run`, so it is a library and not a program: {}", one_line(&e)))
        })?;
        Ok(Code::Component(command))
    }

    /// Names every import that nothing provides, where wasmtime's own error stops at the first.
    fn check_imports(&self, module: &Module) -> Result<(), LaunchError> {
        let mut store = Store::new(&self.engine, Guest::without_rights());
        let missing: Vec<String> = module
            .imports()
            .filter(|import| self.modules.get(&mut store, import.module(), import.name()).is_err())
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(refused(format!(
            "it imports what nothing provides: {}; a hook may import WASI preview 1 ({PREVIEW_1}) and what hookvisor-guest \
             does",
            missing.join(", ")
        )))
    }
}

impl Program for WasmHook {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        guest::run(self, call)
    }
}

/// Refuses at load what could never be made. Of several memories the largest is known here; that all of them together stay
/// within the limit is seen to when an instance is made.
fn check_needs(needs: &ResourcesRequired, memory: usize, limits: &Limits) -> Result<(), LaunchError> {
    let initial = needs.max_initial_memory_size.unwrap_or_default().saturating_mul(PAGE);
    if initial > memory as u64 {
        let (needs, limit) = (ByteSize(initial), ByteSize(memory as u64));
        return Err(refused(format!(
            "it needs {needs} of memory from the start, and its limit is {limit}: set `memory` in its settings"
        )));
    }
    if let Some(size) = needs.max_initial_table_size.filter(|&size| size > limits.table_elements as u64) {
        let limit = limits.table_elements;
        return Err(refused(format!("its table of {size} elements is over the limit, {limit}")));
    }
    Ok(())
}

/// Whether a component that cannot be used is one of WASI 0.3: it then has the name of what it is started by in it.
fn is_wasi_0_3(component: &[u8]) -> bool {
    const RUN: &[u8] = b"wasi:cli/run@0.3.";
    component.windows(RUN.len()).any(|name| name == RUN)
}

fn check_digest(bytes: &[u8], expected: &str) -> Result<(), LaunchError> {
    let found = cache::hex(&Sha256::digest(bytes));
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    Err(refused(format!(
        "its SHA-256 is {found}, and its settings want {expected}: put the right module back, or correct `sha256` there"
    )))
}

fn refused(why: String) -> LaunchError {
    LaunchError::Refused(why)
}

fn no_image(error: wasmtime::Error) -> LaunchError {
    LaunchError::Host { what: "could not keep the first image of its memory", why: one_line(&error) }
}

/// What an error came from, without what was being done at the time.
fn cause(error: &wasmtime::Error) -> String {
    error.root_cause().to_string().replace('\n', "; ")
}

/// An error and its causes in one line.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
