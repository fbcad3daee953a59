//! Loads compiled code: the only step of the sandbox that trusts its input.
#![expect(unsafe_code, reason = "wasmtime cannot verify machine code")]

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::CompiledCode;

/// Loads a module. wasmtime refuses code for another version, processor or configuration.
pub(super) fn module(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Module> {
    if let Some(file) = code.file()? {
        // SAFETY: a `CompiledCode` is the unchanged output of wasmtime's compiler. It comes from the compiler, or from a
        // file that belongs to this user, that nobody else may write, and that matches its checksum. The mapping does not
        // change: the file is sealed, or one that this user's processes replace and never rewrite.
        if let Ok(module) = unsafe { Module::deserialize_open_file(engine, file) } {
            return Ok(module);
        }
        // Some file systems do not allow executable mappings. A copy works there.
    }
    let bytes = code.bytes()?;
    // SAFETY: as above.
    unsafe { Module::deserialize(engine, bytes) }
}

/// Loads a component.
pub(super) fn component(engine: &Engine, code: &CompiledCode) -> wasmtime::Result<Component> {
    let bytes = code.bytes()?;
    // SAFETY: as above.
    unsafe { Component::deserialize(engine, bytes) }
}
