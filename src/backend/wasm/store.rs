//! The data of one call's store: everything that the host functions of a guest work on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime::{ResourceLimiter, format_err};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxBuilder, WasiCtxView, WasiView};

use super::commands::Commands;
use super::listing::Listings;
use super::streams::{Output, StandardStreams, Stdin};
use super::strings::Strings;
use crate::capture::Capture;

/// Instances, tables and memories that one call may have. A component of an interpreted language has some dozens.
const COUNT: usize = 256;
/// Directories that the report of a failed hook names as not granted.
const UNGRANTED: usize = 3;
/// Messages that one call may send to the log.
const LOG_MESSAGES: u32 = 1000;

/// One call's data.
pub(super) struct StoreData {
    /// WASI for modules and components: a component uses the WASI 0.2 context inside.
    wasi: WasiP1Ctx,
    pub(super) arguments: Strings,
    pub(super) environment: Strings,
    pub(super) streams: StandardStreams,
    pub(super) quota: MemoryQuota,
    commands: Option<Commands>,
    pub(super) listings: Listings,
    /// Whether a module sees an empty root directory, since it is granted no directory.
    pub(super) has_empty_root: bool,
    /// Directories below that root that the guest wanted to open something in.
    ungranted: BTreeSet<String>,
    /// The last command's output, until the guest fetches it.
    pub(super) response: Vec<u8>,
    hook: Arc<Path>,
    messages: u32,
}

impl StoreData {
    pub(super) fn new(
        hook: Arc<Path>,
        wasi: WasiP1Ctx,
        (arguments, environment): (Strings, Strings),
        streams: StandardStreams,
        quota: MemoryQuota,
        commands: Option<Commands>,
    ) -> Self {
        Self {
            wasi,
            arguments,
            environment,
            streams,
            quota,
            commands,
            listings: Listings::default(),
            has_empty_root: false,
            ungranted: BTreeSet::new(),
            response: Vec::new(),
            hook,
            messages: 0,
        }
    }

    /// For a store in which nothing runs.
    pub(super) fn empty() -> Self {
        let output = || Output::new(Capture::beginning(0));
        Self::new(
            Path::new("").into(),
            WasiCtxBuilder::new().build_p1(),
            Default::default(),
            StandardStreams::new(Stdin::new(Bytes::new()), output(), output()),
            MemoryQuota::new(0, 0),
            None,
        )
    }

    pub(super) fn preview_1(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    pub(super) fn commands(&mut self) -> wasmtime::Result<&mut Commands> {
        self.commands.as_mut().ok_or_else(|| format_err!("this store runs no hook"))
    }

    /// Notes in the report that the guest could not open this path.
    pub(super) fn note_unopened(&mut self, path: &str, why: &str) {
        if let Some(commands) = &mut self.commands {
            commands.note(format!("it was refused {path:?}: {why}"));
        }
    }

    /// Remembers that the guest wanted to open something in a directory that is not granted.
    pub(super) fn wanted(&mut self, directory: String) {
        if self.ungranted.len() < UNGRANTED {
            self.ungranted.insert(directory);
        }
    }

    /// Puts a guest's message into the host's log.
    pub(super) fn log(&mut self, level: u32, message: &[u8]) {
        self.messages = self.messages.saturating_add(1);
        if self.messages > LOG_MESSAGES {
            return;
        }
        let (hook, message) = (self.hook.display(), String::from_utf8_lossy(message));
        match level {
            0 | 1 => tracing::error!(target: "hookvisor::guest", "{hook}: {message}"),
            2 => tracing::warn!(target: "hookvisor::guest", "{hook}: {message}"),
            3 => tracing::info!(target: "hookvisor::guest", "{hook}: {message}"),
            4 => tracing::debug!(target: "hookvisor::guest", "{hook}: {message}"),
            _ => tracing::trace!(target: "hookvisor::guest", "{hook}: {message}"),
        }
    }

    /// What the call used, notes for the report, and the directories that it lacked.
    pub(super) fn into_parts(self) -> (MemoryQuota, Vec<String>, BTreeSet<String>) {
        let mut notes = self.commands.map(Commands::into_notes).unwrap_or_default();
        if let Some(dropped) = self.messages.checked_sub(LOG_MESSAGES).filter(|&dropped| dropped > 0) {
            notes.push(format!("{dropped} of its log messages were dropped"));
        }
        (self.quota, notes, self.ungranted)
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// The memory that a guest may still allocate, over all its memories.
pub(super) struct MemoryQuota {
    bytes: usize,
    table_elements: usize,
    /// Whether the guest asked for more than was left.
    pub(super) exceeded: bool,
    /// Why the host could not provide memory that the guest may have.
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
        // It is also called for what this limiter refuses.
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
