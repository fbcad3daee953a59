//! Inspects a binary before it is compiled: the kind of program, its exports and imports, and the WebAssembly proposals
//! that it needs.

use wasmparser::{Encoding, ExternalKind, Parser, Payload, Validator, WasmFeatures};
use wasmtime::{Engine, Store};

use super::job::Layer;
use crate::backend::wasm::error::{no_engine, refused};
use crate::backend::wasm::sandbox::{self, START};
use crate::backend::wasm::store::StoreData;
use crate::hook::error::LaunchError;

/// The import module of WASI preview 0.
const PREVIEW_0: &str = "wasi_unstable";
/// The exports of a library module, which is initialized and then called function by function.
const INITIALIZE: &str = "_initialize";
const RUN: &str = "wasi:cli/run@0.2.";
const RUN_0_3: &str = "wasi:cli/run@0.3.";
/// The interfaces that a component may import, without their versions.
const PROVIDED: [(&str, &str); 9] = [
    ("wasi:cli/", "@0.2."),
    ("wasi:clocks/", "@0.2."),
    ("wasi:filesystem/", "@0.2."),
    ("wasi:io/", "@0.2."),
    ("wasi:random/", "@0.2."),
    ("wasi:sockets/", "@0.2."),
    ("hookvisor:hook/commands", "@0.1."),
    ("hookvisor:hook/logging", "@0.1."),
    ("hookvisor:hook/unix", "@0.1."),
];
/// What the sandbox does not support, and how to build without it.
const PROPOSALS: [(WasmFeatures, &str); 3] = [
    (
        WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
        "it uses threads, which hookvisor does not support: build it without them (for wasm32-wasip1 and not \
         wasm32-wasip1-threads; with clang, without -pthread)",
    ),
    (
        WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        "it uses WebAssembly exceptions, which hookvisor does not support: build it without them (with clang, \
         -fno-exceptions; in Rust, -C panic=abort)",
    ),
    (
        WasmFeatures::GC.union(WasmFeatures::GC_TYPES),
        "it uses WebAssembly garbage collection, which hookvisor does not support: build it for WASI in a language that brings \
         its own memory management (Rust, C, Go, Python)",
    ),
];

/// Refuses a binary that cannot run.
pub(super) fn inspect(engine: &Engine, binary: &[u8], layer: Layer) -> Result<(), LaunchError> {
    let found = Interface::of(binary).map_err(|error| refused(invalid(layer, &error.to_string())))?;
    match layer {
        Layer::Module => found.check_module(engine)?,
        Layer::Component => found.check_component()?,
    }
    check_proposals(binary, layer)
}

pub(super) fn invalid(layer: Layer, why: &str) -> String {
    format!("it is not a valid WebAssembly {} (build or copy it again): {}", layer.name(), why.replace('\n', "; "))
}

/// The exports and imports of the binary itself, without those of nested modules.
#[derive(Default)]
struct Interface {
    /// Pairs of module and name. A component's imports have only a name.
    imports: Vec<(String, String)>,
    /// The names of functions and instances.
    exports: Vec<String>,
}

impl Interface {
    fn of(binary: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let (mut found, mut depth) = (Self::default(), 0_usize);
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        found.imports.push((import.module.to_owned(), import.name.to_owned()));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            found.exports.push(export.name.to_owned());
                        }
                    }
                }
                Payload::ComponentImportSection(section) => {
                    for import in section {
                        found.imports.push((String::new(), import?.name.name.to_owned()));
                    }
                }
                Payload::ComponentExportSection(section) => {
                    for export in section {
                        found.exports.push(export?.name.name.to_owned());
                    }
                }
                // The code is the largest part of a module, and comes last.
                Payload::CodeSectionStart { .. } => break,
                Payload::Version { encoding: Encoding::Module | Encoding::Component, .. } => {}
                _ => {}
            }
        }
        Ok(found)
    }

    fn exports(&self, prefix: &str) -> bool {
        self.exports.iter().any(|name| name.starts_with(prefix))
    }

    fn check_module(&self, engine: &Engine) -> Result<(), LaunchError> {
        if self.imports.iter().any(|(module, _)| module == PREVIEW_0) {
            return Err(refused(
                "it is a program for WASI preview 0 (`wasi_unstable`), and hookvisor runs preview 1 and WASI 0.2: build it \
                 with a newer toolchain (in Rust, for wasm32-wasip1)",
            ));
        }
        if !self.exports.iter().any(|name| name == START) {
            return Err(refused(if self.exports(INITIALIZE) {
                "it is a reactor: it exports `_initialize` and no `_start`, so it is a library, not a program: build it \
                 as a command (with clang, without -mexec-model=reactor; in Rust, as a binary)"
            } else {
                sandbox::NO_START
            }));
        }
        let linker = sandbox::module_imports(engine).map_err(|e| no_engine(&e))?;
        let mut store = Store::new(engine, StoreData::empty());
        let missing: Vec<String> = self
            .imports
            .iter()
            .filter(|(module, name)| linker.get(&mut store, module, name).is_err())
            .map(|(module, name)| format!("{module}.{name}"))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(sandbox::missing_imports(&missing, sandbox::PREVIEW_1_NAME)) }
    }

    fn check_component(&self) -> Result<(), LaunchError> {
        if !self.exports(RUN) {
            return Err(refused(if self.exports(RUN_0_3) {
                // wasmtime's WASI 0.3 is experimental and gets no security fixes.
                "it is a component of WASI 0.3, and hookvisor runs WASI 0.2: build it for that (in Rust, for wasm32-wasip2)"
            } else {
                "it exports no `wasi:cli/run`, so it is a library, not a program: build it as a command (in Rust, as a \
                 binary for wasm32-wasip2)"
            }));
        }
        let is_provided =
            |name: &str| PROVIDED.iter().any(|(start, version)| name.starts_with(start) && name.contains(version));
        let missing: Vec<String> =
            self.imports.iter().map(|(_, name)| name.clone()).filter(|name| !is_provided(name)).collect();
        if missing.is_empty() { Ok(()) } else { Err(sandbox::missing_imports(&missing, "WASI 0.2")) }
    }
}

/// Validates the whole binary. Names the required proposals that the sandbox does not support.
fn check_proposals(binary: &[u8], layer: Layer) -> Result<(), LaunchError> {
    let validate = |features: WasmFeatures| Validator::new_with_features(features).validate_all(binary).map(drop);
    let all = WasmFeatures::all();
    let missing = PROPOSALS.iter().fold(WasmFeatures::empty(), |missing, (features, _)| missing | *features);
    if validate(all - missing).is_ok() {
        return Ok(());
    }
    validate(all).map_err(|error| refused(invalid(layer, &error.to_string())))?;
    let needed: Vec<&str> =
        PROPOSALS.iter().filter(|(features, _)| validate(all - *features).is_err()).map(|(_, words)| *words).collect();
    Err(refused(needed.join("; ")))
}

/// Estimates the memory for compiling this binary, from measurements of the compiler.
pub(super) fn estimated_memory(binary: &[u8]) -> u64 {
    const EACH_FUNCTION: u64 = 5500;
    const EACH_BYTE: u64 = 24;
    /// A large function is compiled as a whole.
    const EACH_BYTE_OF_LARGEST: u64 = 300;
    let (mut functions, mut bytes, mut largest) = (0, 0, 0);
    for payload in Parser::new(0).parse_all(binary).map_while(Result::ok) {
        if let Payload::CodeSectionEntry(body) = payload {
            let size = body.range().len() as u64;
            functions += 1;
            bytes += size;
            largest = largest.max(size);
        }
    }
    functions * EACH_FUNCTION + bytes * EACH_BYTE + largest * EACH_BYTE_OF_LARGEST
}
