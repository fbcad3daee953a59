//! What all WebAssembly hooks of a runtime share: the engine, the functions that a hook may import, and the epoch timer.

use std::sync::OnceLock;

use bytesize::ByteSize;
use wasmtime::component::{self, Component};
use wasmtime::{Engine, ExternType, InstancePre, Linker, Module, ModuleExport, ResourcesRequired, Store};
use wasmtime_wasi::p2::bindings::CommandPre;

use super::engine::{self, Resources};
use super::epoch::EpochTimer;
use super::error::{no_engine, one_line, refused};
use super::store::StoreData;
use super::{directories, files, interface, memory, paths, preview_1, root_rights};
use crate::backend::Calls;
use crate::hook::error::LaunchError;
use crate::limits::Limits;
use crate::semaphore::Semaphore;

/// The start function of a module's program.
pub(super) const START: &str = "_start";
pub(super) const NO_START: &str = "it exports no function `_start`, so it is a library, not a program: build it as a \
                                   binary (in Rust, with a `fn main`)";
pub(super) const PREVIEW_1_NAME: &str = "WASI preview 1 (wasi_snapshot_preview1)";
/// The size of a WebAssembly memory page.
const PAGE: u64 = 64 << 10;

pub(super) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) resources: Resources,
    module_imports: OnceLock<Result<Linker<StoreData>, LaunchError>>,
    component_imports: OnceLock<Result<component::Linker<StoreData>, LaunchError>>,
    pub(super) epoch: EpochTimer,
    /// One slot for each call that the engine has room for.
    pub(super) slots: Semaphore,
}

/// A program with its imports resolved.
pub(super) enum Linked {
    Module(LinkedModule),
    Component(CommandPre<StoreData>),
}

pub(super) struct LinkedModule {
    pub(super) module: InstancePre<StoreData>,
    pub(super) start: ModuleExport,
    /// The memory that host functions use.
    pub(super) memory: Option<ModuleExport>,
}

impl Linked {
    /// Whether the program can name a file. A module that imports no function for that needs no directories.
    pub(super) fn can_name_files(&self) -> bool {
        match self {
            Self::Module(linked) => {
                let mut names = linked.module.module().imports().map(|import| import.name());
                names.any(|name| name.starts_with("path_") || name == "fd_readdir")
            }
            Self::Component(_) => true,
        }
    }
}

impl Sandbox {
    pub(super) fn new(limits: &Limits, calls: Calls) -> Result<Self, LaunchError> {
        let resources = Resources::of_this_process();
        let engine = engine::new(limits, calls, resources).map_err(|e| no_engine(&e))?;
        let epoch = EpochTimer::start(engine.clone()).map_err(|e| LaunchError::Host {
            what: "could not start the thread that interrupts WebAssembly hooks",
            why: e.to_string(),
        })?;
        Ok(Self {
            engine,
            resources,
            module_imports: OnceLock::new(),
            component_imports: OnceLock::new(),
            epoch,
            slots: Semaphore::new(engine::CONCURRENT_CALLS),
        })
    }

    fn module_imports(&self) -> Result<&Linker<StoreData>, LaunchError> {
        self.module_imports
            .get_or_init(|| module_imports(&self.engine).map_err(|e| no_engine(&e)))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn component_imports(&self) -> Result<&component::Linker<StoreData>, LaunchError> {
        let new = || {
            let mut linker = component::Linker::new(&self.engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
            linker.allow_shadowing(true);
            files::add_to_component_linker(&mut linker)?;
            paths::add_to_component_linker(&mut linker)?;
            directories::add_to_component_linker(&mut linker)?;
            interface::add_to_component_linker(&mut linker)?;
            Ok(linker)
        };
        self.component_imports.get_or_init(|| new().map_err(|e| no_engine(&e))).as_ref().map_err(Clone::clone)
    }

    pub(super) fn link_module(&self, module: &Module, memory: usize, limits: &Limits) -> Result<Linked, LaunchError> {
        let linker = self.module_imports()?;
        let start = module.get_export_index(START).filter(|_| {
            matches!(module.get_export(START), Some(ExternType::Func(f)) if f.params().len() + f.results().len() == 0)
        });
        let start = start.ok_or_else(|| refused(NO_START))?;
        check_needs(&module.resources_required(), memory, limits)?;
        // Otherwise the first call would do this, and leave a descriptor behind.
        module.initialize_copy_on_write_image().map_err(no_image)?;
        let linked = linker.instantiate_pre(module).map_err(|e| self.unlinked(linker, module, &e))?;
        Ok(Linked::Module(LinkedModule { module: linked, start, memory: module.get_export_index(memory::EXPORT) }))
    }

    pub(super) fn link_component(
        &self,
        component: &Component,
        memory: usize,
        limits: &Limits,
    ) -> Result<Linked, LaunchError> {
        if let Some(needs) = component.resources_required() {
            check_needs(&needs, memory, limits)?;
        }
        component.initialize_copy_on_write_image().map_err(no_image)?;
        let unlinked = |e| {
            refused(format!(
                "it could not be linked: {}; a hook can import only WASI 0.2 and the interfaces in guest-sdk/wit",
                one_line(&e)
            ))
        };
        let linked = self.component_imports()?.instantiate_pre(component).map_err(unlinked)?;
        let command = CommandPre::new(linked).map_err(|e| {
            refused(format!("it exports no `wasi:cli/run`, so it is a library, not a program: {}", one_line(&e)))
        })?;
        Ok(Linked::Component(command))
    }

    /// Names every missing import. wasmtime's own error names only the first.
    fn unlinked(&self, linker: &Linker<StoreData>, module: &Module, error: &wasmtime::Error) -> LaunchError {
        let mut store = Store::new(&self.engine, StoreData::empty());
        let missing: Vec<String> = module
            .imports()
            .filter(|import| linker.get(&mut store, import.module(), import.name()).is_err())
            .map(|import| format!("{}.{}", import.module(), import.name()))
            .collect();
        if missing.is_empty() {
            return refused(format!("it could not be linked: {}", one_line(error)));
        }
        missing_imports(&missing, PREVIEW_1_NAME)
    }
}

/// What a module can import.
pub(super) fn module_imports(engine: &Engine) -> wasmtime::Result<Linker<StoreData>> {
    let mut linker = Linker::new(engine);
    preview_1::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    paths::add_to_linker(&mut linker)?;
    directories::add_to_linker(&mut linker)?;
    root_rights::add_to_linker(&mut linker)?;
    interface::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// Refuses imports that nothing provides.
pub(super) fn missing_imports(missing: &[String], wasi: &str) -> LaunchError {
    refused(format!(
        "it has unknown imports: {}; a hook can import only {wasi} and the functions of hookvisor-guest",
        missing.join(", ")
    ))
}

/// Refuses a module that no call could instantiate. Only the largest memory is known here; the sum of all memories is
/// checked at instantiation.
fn check_needs(needs: &ResourcesRequired, memory: usize, limits: &Limits) -> Result<(), LaunchError> {
    let initial = needs.max_initial_memory_size.unwrap_or_default().saturating_mul(PAGE);
    if initial > memory as u64 {
        let (needs, limit) = (ByteSize(initial), ByteSize(memory as u64));
        return Err(refused(format!(
            "it needs {needs} of memory at the start, but its limit is {limit}: raise `memory` in its settings"
        )));
    }
    if let Some(size) = needs.max_initial_table_size.filter(|&size| size > limits.table_elements as u64) {
        let limit = limits.table_elements;
        return Err(refused(format!("its table has {size} elements, but the limit is {limit}")));
    }
    Ok(())
}

fn no_image(error: wasmtime::Error) -> LaunchError {
    LaunchError::Host { what: "could not prepare the initial image of its memory", why: one_line(&error) }
}
