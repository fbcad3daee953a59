//! Shared by the compiler's client and both ways of compiling.

use std::path::Path;

use crate::backend::wasm::engine::Resources;
use crate::backend::wasm::error::refused;
use crate::hook::error::LaunchError;
use crate::limits::Limits;

/// The first argument that makes a program compile.
pub(super) const ARGUMENT: &str = "compile-module";
/// The version of the protocol between the two processes: both must be the same build of the compiler.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The compiler's exit status for an unusable module. Its stdout then has the reason.
pub(super) const REFUSED: u8 = 1;

/// What a module is, by its binary's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Module,
    Component,
}

impl Layer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::Component => "component",
        }
    }
}

/// What to compile.
pub(crate) struct Job<'a> {
    pub(crate) hook: &'a Path,
    pub(crate) binary: Vec<u8>,
    pub(crate) layer: Layer,
    pub(crate) resources: Resources,
}

pub(super) fn took_too_long(limits: &Limits) -> LaunchError {
    let limit = humantime::format_duration(limits.compile_time);
    refused(format!("compiling it took longer than {limit}: build it smaller, or raise compile_time"))
}

pub(super) fn interrupted() -> LaunchError {
    LaunchError::Host { what: "it was not compiled", why: "hookvisor was interrupted".to_owned() }
}
