//! The wasmtime engines: one that compiles, and one that runs compiled hooks out of a pool of memories and stacks.
//!
//! The number of concurrent calls is limited, so the pool is never exhausted.

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::backend::Calls;
use crate::limits::Limits;

/// WebAssembly hooks that run at once. One more waits, within its own time limit.
pub(super) const CONCURRENT_CALLS: usize = 128;
/// Instances, memories and tables that all calls together may have. A reserved one costs nothing.
const SLOTS: u32 = 1024;
/// Memories, tables or instances that one module or component may have.
const PER_MODULE: u32 = 16;
const PER_COMPONENT: u32 = 200;
/// Table elements that the pool has room for. [`Limits::table_elements`] is the limit that holds.
const LARGEST_TABLE: usize = 1 << 20;
/// How much of a memory and of a table is cleared and kept for the next call. The rest goes back to the system.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_TABLE: usize = 16 << 10;
/// Stack for the host functions, beyond the guest's own limit.
const HOST_STACK: usize = 1 << 20;

/// Room for growth that a memory gets where addresses are scarce.
const SCARCE_GROWTH: u64 = 1 << 20;
/// Functions that a trap names.
pub(super) const NAMED_FRAMES: usize = 8;

/// Whether limits on this process (setrlimit(2)) make memory scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resources {
    /// Each memory reserves 4 GiB of addresses, so that accesses need no checks, and starts from an image in a file.
    Ample,
    /// The address space (`ulimit -v`) or the size of files (`ulimit -f`) is limited. A memory takes what it uses, and each
    /// access is checked.
    Scarce,
}

impl Resources {
    pub(super) fn of_this_process() -> Self {
        let is_limited = |resource| getrlimit(resource).is_ok_and(|(limit, _)| limit != RLIM_INFINITY);
        if is_limited(Resource::RLIMIT_AS) || is_limited(Resource::RLIMIT_FSIZE) { Self::Scarce } else { Self::Ample }
    }

    /// The limit on the address space, in words that follow an error.
    pub(super) fn limit_text() -> String {
        match getrlimit(Resource::RLIMIT_AS) {
            Ok((limit, _)) if limit != RLIM_INFINITY => {
                format!(" (the address space is limited to {}: raise `ulimit -v`)", ByteSize(limit))
            }
            Ok(_) | Err(_) => String::new(),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ample => "ample",
            Self::Scarce => "scarce",
        }
    }
}

/// An engine that only compiles.
#[cfg(feature = "compiler")]
pub(super) fn compiler(resources: Resources) -> wasmtime::Result<Engine> {
    let mut config = config(resources);
    config.enable_compiler(true);
    Engine::new(&config)
}

/// The settings that compiled code depends on.
fn config(resources: Resources) -> Config {
    let mut config = Config::new();
    if resources == Resources::Scarce {
        config
            .memory_reservation(0)
            .memory_guard_size(0)
            .memory_reservation_for_growth(SCARCE_GROWTH)
            .memory_init_cow(false);
    }
    // A trap names functions and no lines, and nothing unwinds through a guest, so these tables are not needed.
    config.epoch_interruption(true).generate_address_map(false).native_unwind_info(false);
    config
}

/// The engine that runs compiled hooks. It has a pool if one is worth its cost and the system can reserve the addresses
/// (`ulimit -v` may forbid that).
pub(super) fn new(limits: &Limits, calls: Calls, resources: Resources) -> wasmtime::Result<Engine> {
    let mut config = config(resources);
    #[cfg(feature = "compiler")]
    config.enable_compiler(false);
    config
        .max_wasm_stack(limits.stack)
        .async_stack_size(limits.stack.saturating_add(HOST_STACK))
        .wasm_backtrace_max_frames(NonZeroUsize::new(NAMED_FRAMES));
    if calls == Calls::One || resources == Resources::Scarce {
        return Engine::new(&config);
    }
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(SLOTS)
        .total_component_instances(SLOTS)
        .total_memories(SLOTS)
        .total_tables(SLOTS)
        .total_stacks(u32::try_from(CONCURRENT_CALLS)?)
        .max_core_instances_per_component(PER_COMPONENT)
        .max_memories_per_module(PER_MODULE)
        .max_tables_per_module(PER_MODULE)
        .table_elements(limits.table_elements.max(LARGEST_TABLE))
        .max_core_instance_size(8 << 20)
        .max_component_instance_size(8 << 20)
        // Clears only the pages that were written, if the kernel can tell.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(KEPT_MEMORY)
        .table_keep_resident(KEPT_TABLE);
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&pooled).or_else(|error| {
        tracing::debug!("no pool for WebAssembly instances: {}", super::error::one_line(&error));
        Engine::new(&config)
    })
}
