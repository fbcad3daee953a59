//! The data of one call's store: everything that the host functions of a guest work on.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{Memory, ResourceLimiter, WasmBacktrace, format_err};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};

use super::commands::Commands;
use super::context;
use super::listing::Listings;
use super::root::Root;
use super::streams::{Output, StandardStreams, Stdin};
use super::strings::Strings;
use crate::capture::Capture;
use crate::printable::printable;

/// Instances, tables and memories of one call. A component of an interpreted language has some dozens.
const COUNT: usize = 256;
/// Messages that one call may send to the log.
const LOG_MESSAGES: u32 = 1000;

/// One call's data.
pub(super) struct StoreData {
    /// WASI for modules and components: a component uses the WASI 0.2 context inside. `None`: only the streams are granted.
    pub(super) wasi: Option<WasiP1Ctx>,
    /// The module's memory, once it is instantiated.
    pub(super) memory: Option<Memory>,
    /// An empty backtrace for the error that ends a module which exits.
    pub(super) no_backtrace: Option<WasmBacktrace>,
    pub(super) arguments: Strings,
    pub(super) environment: Strings,
    pub(super) streams: StandardStreams,
    pub(super) quota: MemoryQuota,
    commands: Option<Commands>,
    pub(super) listings: Listings,
    /// The guest's directory `/`, if it is not a granted one.
    pub(super) root: Option<Root>,
    /// The last command's output, until the guest fetches it.
    pub(super) response: Vec<u8>,
    /// The directory of its secrets, which lasts as long as this is open.
    pub(super) secrets: Option<OwnedFd>,
    hook: Arc<Path>,
    messages: u32,
}

impl StoreData {
    pub(super) fn new(
        hook: Arc<Path>,
        (arguments, environment): (Strings, Strings),
        streams: StandardStreams,
        quota: MemoryQuota,
        commands: Option<Commands>,
    ) -> Self {
        Self {
            wasi: None,
            memory: None,
            no_backtrace: None,
            arguments,
            environment,
            streams,
            quota,
            commands,
            listings: Listings::default(),
            root: None,
            response: Vec::new(),
            secrets: None,
            hook,
            messages: 0,
        }
    }

    /// For a store that runs nothing.
    pub(super) fn empty() -> Self {
        let output = || Output::new(Capture::beginning(0));
        Self::new(
            Path::new("").into(),
            Default::default(),
            StandardStreams::new(Stdin::new(Bytes::new()), output(), output()),
            MemoryQuota::new(0, 0),
            None,
        )
    }

    pub(super) fn preview_1(&mut self) -> &mut WasiP1Ctx {
        self.wasi.get_or_insert_with(|| context::build(context::with_streams(&self.streams)))
    }

    pub(super) fn commands(&mut self) -> wasmtime::Result<&mut Commands> {
        self.commands.as_mut().ok_or_else(|| format_err!("this store runs no hook"))
    }

    /// Notes in the report that the guest could not open this path.
    pub(super) fn note_unopened(&mut self, path: &str, why: &str) {
        if let Some(commands) = &mut self.commands {
            commands.refuse_file(path, why);
        }
    }

    /// Writes a guest's message to the host's log.
    pub(super) fn log(&mut self, level: u32, message: &[u8]) {
        self.messages = self.messages.saturating_add(1);
        if self.messages > LOG_MESSAGES {
            return;
        }
        let (hook, message) = (self.hook.display(), printable(message));
        match level {
            0 | 1 => tracing::error!(target: "hookvisor::guest", "{hook}: {message}"),
            2 => tracing::warn!(target: "hookvisor::guest", "{hook}: {message}"),
            3 => tracing::info!(target: "hookvisor::guest", "{hook}: {message}"),
            4 => tracing::debug!(target: "hookvisor::guest", "{hook}: {message}"),
            _ => tracing::trace!(target: "hookvisor::guest", "{hook}: {message}"),
        }
    }

    /// What the call used, notes for the report, and the last directory that it lacked.
    pub(super) fn into_parts(self) -> (MemoryQuota, Vec<String>, Option<(String, bool)>) {
        let mut notes = self.commands.map(Commands::into_notes).unwrap_or_default();
        if let Some(dropped) = self.messages.checked_sub(LOG_MESSAGES).filter(|&dropped| dropped > 0) {
            notes.push(format!("{dropped} of its log messages were dropped"));
        }
        (self.quota, notes, self.root.and_then(Root::into_wanted))
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.preview_1().ctx()
    }
}

/// The memory that a guest may still allocate, for all its memories together.
pub(super) struct MemoryQuota {
    bytes: usize,
    table_elements: usize,
    /// Whether the guest asked for more.
    pub(super) exceeded: bool,
    /// Why the host could not provide memory within the limit.
    pub(super) host_failure: Option<String>,
}

impl MemoryQuota {
    pub(super) fn new(bytes: usize, table_elements: usize) -> Self {
        Self { bytes, table_elements, exceeded: false, host_failure: None }
    }
}

impl ResourceLimiter for MemoryQuota {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let granted = growth <= self.bytes && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.bytes -= growth;
        } else {
            self.exceeded = true;
        }
        Ok(granted)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Also called for requests that this limiter refused.
        if !self.exceeded {
            self.host_failure = Some(error.root_cause().to_string());
        }
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= self.table_elements && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        COUNT
    }

    fn tables(&self) -> usize {
        COUNT
    }

    fn memories(&self) -> usize {
        COUNT
    }
}
