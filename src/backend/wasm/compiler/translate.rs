//! Compiles a binary to machine code.

use bytesize::ByteSize;

use super::inspect;
use super::job::Layer;
use crate::backend::wasm::engine::{self, Resources};
use crate::backend::wasm::error::{no_engine, refused};
use crate::hook::error::LaunchError;

/// Compiles with this many temporary threads; 0 for one per processor. By default wasmtime would keep its threads.
/// Refuses a binary whose estimate is above `memory`.
pub(super) fn translate(
    binary: &[u8],
    layer: Layer,
    resources: Resources,
    memory: Option<u64>,
    threads: usize,
) -> Result<Vec<u8>, LaunchError> {
    let engine = engine::compiler(resources).map_err(|e| no_engine(&e))?;
    inspect::inspect(&engine, binary, layer)?;
    if let Some(limit) = memory {
        let estimate = inspect::estimated_memory(binary);
        if estimate > limit {
            let (estimate, limit) = (ByteSize(estimate), ByteSize(limit));
            return Err(refused(format!(
                "compiling it would take about {estimate} of memory, and the limit is {limit}: build it smaller, or raise \
                 compile_memory"
            )));
        }
    }
    let threads = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|e| LaunchError::Host { what: "could not start the threads that compile it", why: e.to_string() })?;
    let compiled = threads.install(|| match layer {
        Layer::Module => engine.precompile_module(binary),
        Layer::Component => engine.precompile_component(binary),
    });
    compiled.map_err(|error| refused(inspect::invalid(layer, &error.root_cause().to_string())))
}
