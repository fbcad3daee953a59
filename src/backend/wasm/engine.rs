//! The wasmtime engines: one that only compiles, and one that runs compiled hooks with a pool of memories and stacks.
//!
//! The number of concurrent calls is limited, so the pool is never exhausted.

use std::num::NonZeroUsize;

use bytesize::ByteSize;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::backend::Calls;
use crate::limits::Limits;

/// The maximum number of sandboxed hooks that run at once. Further calls wait, within their own time limits.
pub(super) const CONCURRENT_CALLS: usize = 128;
/// Instances, memories and tables of all calls together. An unused one costs nothing.
const SLOTS: u32 = 1024;
/// Memories, tables or instances of one module or component.
const PER_MODULE: u32 = 16;
const PER_COMPONENT: u32 = 200;
/// The pool's room for table elements. [`Limits::table_elements`] is the actual limit.
const LARGEST_TABLE: usize = 1 << 20;
/// How much of a memory and of a table stays resident for the next call. The rest is returned to the system.
const KEPT_MEMORY: usize = 256 << 10;
const KEPT_TABLE: usize = 16 << 10;
/// Stack for host functions, beyond the guest's limit.
const HOST_STACK: usize = 1 << 20;

/// Reserved growth of a memory where address space is limited.
const SCARCE_GROWTH: u64 = 1 << 20;
/// The maximum number of functions in a trap's backtrace.
pub(super) const NAMED_FRAMES: usize = 8;

/// Whether limits of this process (setrlimit(2)) make memory scarce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resources {
    /// Not limited. Each memory reserves 4 GiB of addresses, so accesses need no checks, and starts from an image in a
    /// file.
    Ample,
    /// The address space (`ulimit -v`) or file size (`ulimit -f`) is limited. A memory takes what it uses, and each
    /// access is checked.
    Scarce,
}

impl Resources {
    pub(super) fn of_this_process() -> Self {
        let is_limited = |resource| getrlimit(resource).is_ok_and(|(limit, _)| limit != RLIM_INFINITY);
        if is_limited(Resource::RLIMIT_AS) || is_limited(Resource::RLIMIT_FSIZE) { Self::Scarce } else { Self::Ample }
    }

    /// The limit on the address space, as the end of an error message.
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
    // Traps report functions without lines, and nothing unwinds through a guest, so these tables are not needed.
    config.epoch_interruption(true).generate_address_map(false).native_unwind_info(false);
    config
}

/// The engine that runs compiled hooks. It has a pool if that pays off and the system can reserve the addresses
/// (`ulimit -v` may prevent that).
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
        // Clears only the written pages, if the kernel can tell.
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
