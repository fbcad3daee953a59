//! Where instances come from: a pool of memory and stacks that are kept for the next call. How many calls are under way at
//! once is bounded, so that the pool is never found empty.

use std::num::NonZeroUsize;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::backend::Calls;
use crate::limits::Limits;

/// How many wasm hooks run at once; one more waits for a place, within its own time.
pub(super) const AT_ONCE: usize = 128;
/// How many of each kind all calls together may have. Components have several; what is only reserved costs nothing.
const SLOTS: u32 = 1024;
/// What one module or component may have of each kind.
const PER_MODULE: u32 = 16;
const PER_COMPONENT: u32 = 200;
/// Elements that a table may have as far as the pool goes; [`Limits::table_elements`] says it better.
const LARGEST_TABLE: usize = 1 << 20;
/// How much of a memory, of a table and of a stack is cleaned and kept for the next call instead of being given back to
/// the system, which then would have to provide it again page by page.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_TABLE: usize = 16 << 10;
/// What the host's side of a call may use of the fiber's stack, beyond the guest's limit.
const HOST_STACK: usize = 1 << 20;

/// An engine that compiles, and runs nothing.
#[cfg(feature = "compiler")]
pub(super) fn compiler() -> wasmtime::Result<Engine> {
    let mut config = config();
    config.enable_compiler(true);
    Engine::new(&config)
}

/// What compiled code depends on.
fn config() -> Config {
    let mut config = Config::new();
    // For a trap, functions are named and not lines, and nothing unwinds through a guest: there is less to load.
    config.epoch_interruption(true).generate_address_map(false).native_unwind_info(false);
    config
}

/// The engine that runs what was compiled: with a pool, if one is worth it and the system lets it reserve the addresses
/// (`ulimit -v` may not), else without.
pub(super) fn engine(limits: &Limits, calls: Calls) -> wasmtime::Result<Engine> {
    let mut config = config();
    #[cfg(feature = "compiler")]
    config.enable_compiler(false);
    config
        .max_wasm_stack(limits.stack)
        .async_stack_size(limits.stack.saturating_add(HOST_STACK))
        .wasm_backtrace_max_frames(NonZeroUsize::new(super::guest::NAMED_FRAMES));
    if calls == Calls::One {
        return Engine::new(&config);
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(SLOTS)
        .total_component_instances(SLOTS)
        .total_memories(SLOTS)
        .total_tables(SLOTS)
        .total_stacks(u32::try_from(AT_ONCE)?)
        .max_core_instances_per_component(PER_COMPONENT)
        .max_memories_per_module(PER_MODULE)
        .max_tables_per_module(PER_MODULE)
        .table_elements(limits.table_elements.max(LARGEST_TABLE))
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(8 << 20)
        // Where the kernel can tell which pages were written, only those are cleaned.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE);
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&pooled).or_else(|error| {
        tracing::debug!("no pool for WebAssembly instances: {}", super::one_line(&error));
        Engine::new(&config)
    })
}
