//! The back-ends of this build.

use crate::backend::native::Native;
#[cfg(feature = "wasm")]
pub(super) use crate::backend::wasm::cache::Cache;
#[cfg(feature = "wasm")]
pub(super) use crate::backend::wasm::compiler::Compiler;
#[cfg(feature = "wasm")]
use crate::backend::wasm::{Options, Wasm};
use crate::backend::{Backend, Calls};
use crate::cancel::Cancel;
use crate::hook::trust::Trust;

/// Never constructed: builds without the feature `wasm` have no cache and no compiler.
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
pub(super) enum Cache {}
#[cfg(not(feature = "wasm"))]
#[derive(Debug, Clone)]
pub(super) enum Compiler {}

/// The back-ends that this build supports, one per kind of hook.
pub(super) fn backends(
    native: Native,
    trust: Trust,
    cache: Option<Cache>,
    compiler: Option<Compiler>,
    calls: Calls,
    cancels: &[Cancel],
) -> Vec<Box<dyn Backend>> {
    #[cfg(not(feature = "wasm"))]
    let _ = (trust, cache, compiler, calls, cancels);
    vec![
        #[cfg(feature = "wasm")]
        Box::new(Wasm::new(
            native.launcher(),
            Native::new(Trust::not_enforced(), false, None).launcher(),
            trust,
            Options { cache, compiler, calls, cancels: cancels.to_vec(), state: native.state() },
        )),
        Box::new(native),
    ]
}
