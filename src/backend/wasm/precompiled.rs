//! Machine code that was compiled before: the one step of the sandbox that takes bytes on trust.
#![expect(unsafe_code, reason = "wasmtime cannot check machine code, so it asks for the caller's word")]

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::Verified;

/// A module from its compiled form. wasmtime itself refuses one of another version, processor or configuration.
pub(super) fn module(engine: &Engine, code: &Verified) -> wasmtime::Result<Module> {
    if let Some(file) = code.file()? {
        // SAFETY: a `Verified` is what a process of this user got from wasmtime's own compiler, unchanged: it comes from
        // there, or from a file that belongs to this user, that nobody else may write, and that matches its checksum.
        // Nothing changes under the mapping: the file is a sealed one, or one that this user's processes only replace.
        if let Ok(module) = unsafe { Module::deserialize_open_file(engine, file) } {
            return Ok(module);
        }
        // Where no such file may be mapped to be executed, a copy may.
    }
    let bytes = code.bytes()?;
    // SAFETY: as above.
    unsafe { Module::deserialize(engine, bytes) }
}

/// The same for a component.
pub(super) fn component(engine: &Engine, code: &Verified) -> wasmtime::Result<Component> {
    let bytes = code.bytes()?;
    // SAFETY: as above.
    unsafe { Component::deserialize(engine, bytes) }
}
