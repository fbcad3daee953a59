//! The options of a runtime.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

#[cfg(feature = "wasm")]
use super::backends::{Cache, Compiler};
use super::builder::RuntimeBuilder;
use crate::backend::Calls;
use crate::cancel::Cancel;
use crate::convention::rules::Convention;
use crate::hook::state::StateRoot;
use crate::limits::Limits;
use crate::record::Record;

impl RuntimeBuilder {
    /// Sets the limits for hooks whose settings have none. The default is [`Limits::default`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the limits for the hooks of one driver. They replace [`limits`](Self::limits).
    pub fn limits_for(mut self, driver: impl Into<String>, limits: Limits) -> Self {
        self.driver_limits.insert(driver.into(), limits);
        self
    }

    /// Sets the cache for compiled WebAssembly hooks. A later runtime loads them from there instead of compiling them. By
    /// default, there is no cache.
    #[cfg(feature = "wasm")]
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Compiles WebAssembly hooks with this program, in a separate process. By default, this process compiles them.
    #[cfg(feature = "wasm")]
    pub fn compiler(mut self, compiler: Compiler) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Loads only the hooks of this driver. A start event of any other driver is vetoed.
    pub fn only_driver(mut self, driver: impl Into<String>) -> Self {
        self.only_driver = Some(driver.into());
        self
    }

    /// Sets the known drivers. A start event of any other driver is vetoed, which catches misspelt names. By default, every
    /// name is accepted.
    pub fn known_drivers<D: Into<String>>(mut self, drivers: impl IntoIterator<Item = D>) -> Self {
        self.known_drivers = drivers.into_iter().map(Into::into).collect();
        self
    }

    /// Vetoes a start event if its driver has no hooks. By default, it proceeds.
    pub fn require_hooks(mut self) -> Self {
        self.require_hooks = true;
        self
    }

    /// Vetoes every start for this reason, such as a configuration that cannot be read. No start hook is called. Shutdown hooks
    /// are, as far as they are found: a hooks directory that cannot be read is not an error then.
    ///
    /// A guest that [runs already](Event::guest_is_running) is not vetoed. The reason is in each report and in the
    /// [record](Self::record).
    pub fn refuse_starts(mut self, why: impl Into<String>) -> Self {
        self.refused = Some(why.into());
        self
    }

    /// Adds a convention: it defines the operations of one driver. It replaces the driver's built-in convention. Call this once
    /// per driver.
    pub fn convention(mut self, convention: Convention) -> Self {
        self.conventions.push(convention);
        self
    }

    /// Accepts operations that a closed convention does not list, and treats them as start operations. Use this inside the
    /// daemon itself, which may be newer than this library.
    pub fn any_operation(mut self) -> Self {
        self.any_operation = true;
        self
    }

    /// Runs the hooks at `path` before the driver's hooks in the hooks directory. `path` is one hook or a directory of hooks;
    /// subdirectories are ignored. A path that does not exist is ignored. Call this once per path; the order is kept.
    pub fn run_first(mut self, driver: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        self.first.push((driver.into(), path.into()));
        self
    }

    /// Ends the hooks of all calls of this runtime when `cancel` is cancelled. You can add several.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancels.push(cancel.clone());
        self
    }

    /// Limits how many hooks run at once, over all events. By default, there is no limit. At most 128 sandboxed hooks run at
    /// once in any case.
    ///
    /// A hook waits for a free slot for at most its own timeout, then fails. The timeout starts again when the hook is called.
    /// Waiting hooks get slots in the order in which they asked.
    pub fn max_in_flight(mut self, hooks: NonZeroUsize) -> Self {
        self.max_in_flight = Some(hooks);
        self
    }

    /// Kills running native hooks when this process ends, even by SIGKILL or a crash. The hook's whole process group is killed.
    /// By default, native hooks keep running. This also applies to commands that run for sandboxed hooks. Sandboxed hooks
    /// themselves are part of this process.
    ///
    /// The runtime starts one guardian process, a small `/bin/sh`, before the first such hook. The guardian ends with the last
    /// handle of the runtime, and is replaced if it is killed. It is a child of this process: do not wait until no child is
    /// left. If it cannot be started, native hooks cannot run and starts are vetoed.
    ///
    /// Not killed: processes that left the hook's process group or session, and processes that outlived their hook. A process
    /// that the host forks without executing another program counts as the host.
    pub fn end_with_host(mut self) -> Self {
        self.end_with_host = true;
        self
    }

    /// Writes each event to `record`: the decision and the result of each hook. By default, nothing is recorded.
    pub fn record(mut self, record: Record) -> Self {
        self.record = Some(record);
        self
    }

    /// Sets the `PATH` of native hooks. Their interpreters are looked up in it too. The default is this process's `PATH`.
    pub fn search_path(mut self, path: impl Into<OsString>) -> Self {
        self.search_path = Some(path.into());
        self
    }

    /// Confines every native hook to what its settings grant, like `confine = true` in its settings. A hook that this system
    /// cannot confine does not run.
    pub fn confine_all(mut self, confine: bool) -> Self {
        self.confine_all = confine;
        self
    }

    /// Sets the directory in which hooks with `state = true` have a directory each. The default is `/var/lib/hookvisor/state`.
    pub fn state_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state = StateRoot::at(directory);
        self
    }

    /// Optimizes for a process that runs one event and exits: faster start-up, slower later calls.
    pub fn for_one_event(mut self) -> Self {
        self.calls = Calls::One;
        self
    }
}
