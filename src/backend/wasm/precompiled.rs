//! Machine code that was compiled before: the one step of the sandbox that takes bytes on trust.
#![expect(unsafe_code, reason = "wasmtime cannot check machine code, so it asks for the caller's word")]

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use super::cache::Verified;

/// A module from its compiled form. wasmtime itself refuses one of another version, processor or configuration.
pub(super) fn module(engine: &Engine, code: &Verified) -> wasmtime::Result<Module> {
    // SAFETY: a `Verified` is what a process of this user got from wasmtime's own `serialize`, unchanged: the cache makes
    // one only from a file that belongs to this user, that nobody else may write, and that matches its digest.
    unsafe { Module::deserialize(engine, code.bytes()) }
}

/// The same for a component.
pub(super) fn component(engine: &Engine, code: &Verified) -> wasmtime::Result<Component> {
    // SAFETY: as above.
    unsafe { Component::deserialize(engine, code.bytes()) }
}
