//! Hooks that are WebAssembly: WASI preview 1 modules and WASI 0.2 components, each call in a fresh instance of its own.
//!
//! The engine is made when the first such hook is loaded; a directory of native hooks never makes one.

mod broker;
pub(crate) mod cache;
mod clock;
mod code;
mod drive;
mod files;
mod guest;
mod interface;
mod pool;
mod precompiled;
mod preview_1;
mod streams;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytesize::ByteSize;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, ResourcesRequired, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use self::cache::Cache;
use self::clock::Clock;
use self::code::Source;
use self::guest::Guest;
use crate::backend::{Backend, Call, Calls, Completion, LaunchError, Program};
use crate::hook::file::HookFile;
use crate::hook::settings::{self, Settings};
use crate::hook::trust::Trust;
use crate::limits::Limits;
use crate::places::Places;
use crate::report::Kind;

/// The function that a module's program starts at.
const START: &str = "_start";
/// The name of what a component of WASI 0.3 is started by.
const RUN_0_3: &[u8] = b"wasi:cli/run@0.3.";
/// wasmtime has WASI 0.3 too, and says of it that it is experimental and gets no security fixes.
const NO_WASI_0_3: &str = "it is a component of WASI 0.3, and hookvisor runs WASI 0.2: build it for that (in Rust, for \
                           wasm32-wasip2)";
/// What WebAssembly counts memory in.
const PAGE: u64 = 64 << 10;
/// The back-end for WebAssembly.
pub(crate) struct Wasm {
    sandbox: Mutex<Option<Arc<Sandbox>>>,
    cache: Option<Cache>,
    calls: Calls,
    /// What runs the commands that a guest asks for.
    launcher: Arc<dyn Program>,
    trust: Trust,
}

/// What all hooks share: the engine that compiles them, what they may import, and the clock that interrupts them.
struct Sandbox {
    engine: Engine,
    modules: OnceLock<Result<Linker<Guest>, LaunchError>>,
    components: OnceLock<Result<component::Linker<Guest>, LaunchError>>,
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
    pub(crate) fn new(launcher: Arc<dyn Program>, trust: Trust, cache: Option<Cache>, calls: Calls) -> Self {
        Self { sandbox: Mutex::default(), cache, calls, launcher, trust }
    }

    /// A failure is not kept: the next load may find the host better off.
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
        let source = Source::new(&file)?;
        if let Some(expected) = &settings.sha256 {
            source.check(expected)?;
        }
        let memory = settings.memory.map_or(limits.memory, |m| usize::try_from(m.0).unwrap_or(usize::MAX));
        let sandbox = self.sandbox(limits)?;
        let cache = self.cache.as_ref();
        // The layer, after the magic number and the version, tells a component (1) from a module (0).
        let code = if file.head.get(6) == Some(&1) {
            let compiled = code::get(&sandbox.engine, self.calls, cache, &source);
            let linked = compiled.and_then(|component| sandbox.link_component(&component, memory, limits));
            // A component of WASI 0.3 has the name of what it is started by in it.
            linked.map_err(|why| if source.holds(RUN_0_3) { refused(NO_WASI_0_3.to_owned()) } else { why })?
        } else {
            if !settings.connections.is_empty() {
                let why = "its settings have `connect`, which only a component can use: build it for wasm32-wasip2";
                return Err(refused(why.to_owned()));
            }
            sandbox.link_module(&code::get(&sandbox.engine, self.calls, cache, &source)?, memory, limits)?
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
    fn new(limits: &Limits, calls: Calls) -> Result<Self, LaunchError> {
        let engine = pool::engine(limits, calls).map_err(|e| no_engine(&e))?;
        let clock = Clock::start(engine.clone()).map_err(|e| LaunchError::Host {
            what: "could not start the thread that interrupts WebAssembly hooks",
            why: e.to_string(),
        })?;
        Ok(Self {
            engine,
            modules: OnceLock::new(),
            components: OnceLock::new(),
            clock,
            places: Places::new(pool::AT_ONCE),
        })
    }

    /// What modules may import.
    fn modules(&self) -> Result<&Linker<Guest>, LaunchError> {
        let make = || {
            let mut linker = Linker::new(&self.engine);
            preview_1::add_to_linker(&mut linker)?;
            files::add_to_linker(&mut linker)?;
            interface::add_to_linker(&mut linker)?;
            Ok(linker)
        };
        self.modules.get_or_init(|| make().map_err(|e| no_engine(&e))).as_ref().map_err(Clone::clone)
    }

    /// What components may import.
    fn components(&self) -> Result<&component::Linker<Guest>, LaunchError> {
        let make = || {
            let mut linker = component::Linker::new(&self.engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            linker.allow_shadowing(true);
            files::add_to_component_linker(&mut linker)?;
            interface::add_to_component_linker(&mut linker)?;
            Ok(linker)
        };
        self.components.get_or_init(|| make().map_err(|e| no_engine(&e))).as_ref().map_err(Clone::clone)
    }

    fn link_module(&self, module: &Module, memory: usize, limits: &Limits) -> Result<Code, LaunchError> {
        let linker = self.modules()?;
        if !matches!(module.get_export(START), Some(ExternType::Func(f)) if f.params().len() + f.results().len() == 0) {
            let why = "it exports no function `_start`, so it is a library and not a program: build it as a binary (in Rust, \
                       with a `fn main`)";
            return Err(refused(why.to_owned()));
        }
        check_needs(&module.resources_required(), memory, limits)?;
        // Otherwise the first call would do it, and leave a descriptor behind.
        module.initialize_copy_on_write_image().map_err(no_image)?;
        let linked = linker.instantiate_pre(module);
        Ok(Code::Module(linked.map_err(|e| self.unlinked(linker, module, &e))?))
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
        let linked = self.components()?.instantiate_pre(component).map_err(unlinked)?;
        let command = CommandPre::new(linked).map_err(|e| {
            refused(format!("it exports no `wasi:cli/run`, so it is a library and not a program: {}", one_line(&e)))
        })?;
        Ok(Code::Component(command))
    }

    /// Names every import that nothing provides, where wasmtime's own error stops at the first.
    fn unlinked(&self, linker: &Linker<Guest>, module: &Module, error: &wasmtime::Error) -> LaunchError {
        let mut store = Store::new(&self.engine, Guest::without_rights());
        let missing: Vec<String> = module
            .imports()
            .filter(|import| linker.get(&mut store, import.module(), import.name()).is_err())
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect();
        if missing.is_empty() {
            return refused(format!("it could not be linked: {}", one_line(error)));
        }
        refused(format!(
            "it imports what nothing provides: {}; a hook may import WASI preview 1 ({}) and what hookvisor-guest \
             does",
            missing.join(", "),
            preview_1::MODULE
        ))
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

fn refused(why: String) -> LaunchError {
    LaunchError::Refused(why)
}

fn no_image(error: wasmtime::Error) -> LaunchError {
    LaunchError::Host { what: "could not keep the first image of its memory", why: one_line(&error) }
}

fn no_engine(error: &wasmtime::Error) -> LaunchError {
    LaunchError::Host { what: "could not make the WebAssembly engine", why: one_line(error) }
}

/// An error and its causes in one line.
fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
