//! One call of a guest: what it gets, what it may use, and how it ended.

use wasmtime::{Engine, InstancePre, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::WasiP1Ctx;

use super::clock::Clock;
use super::drive::{self, TimeUp};
use super::streams::{Document, Sink};
use super::{START, one_line};
use crate::backend::{Call, Completion, End, LaunchError};
use crate::capture::Capture;
use crate::limits;

/// How many of the guest's functions are named where it trapped.
const NAMED_FRAMES: usize = 8;
/// How many instances, tables and memories one call may have.
const COUNT: usize = 64;

/// What a guest's host functions work on.
pub(super) struct Guest {
    wasi: WasiP1Ctx,
    quota: Quota,
}

impl Guest {
    pub(super) fn wasi(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    /// A guest that is never run.
    pub(super) fn without_rights() -> Self {
        Self { wasi: WasiCtxBuilder::new().build_p1(), quota: Quota { memory: 0, table_elements: 0 } }
    }
}

/// What is left of the memory that a guest may have.
struct Quota {
    memory: usize,
    table_elements: usize,
}

impl ResourceLimiter for Quota {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let granted = growth <= self.memory && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.memory -= growth;
        }
        Ok(granted)
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

/// The guest has left by `proc_exit`.
#[derive(Debug, thiserror::Error)]
#[error("exited with status {0}")]
pub(super) struct HookExit(pub(super) u32);

pub(super) fn run(
    engine: &Engine,
    clock: &Clock,
    instance: &InstancePre<Guest>,
    memory: usize,
    call: &Call<'_>,
) -> Result<Completion, LaunchError> {
    let stdout = Sink::new(Capture::beginning(call.keep_stdout));
    let stderr = Sink::new(Capture::both_ends(call.limits.stderr));
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdin(Document::new(call.stdin.clone())).stdout(stdout.clone()).stderr(stderr.clone());
    wasi.arg(call.path.to_string_lossy()).args(call.arguments);
    for (name, value) in call.env {
        wasi.env(name, value);
    }
    let quota = Quota { memory, table_elements: call.limits.table_elements };
    let mut store = Store::new(engine, Guest { wasi: wasi.build_p1(), quota });
    store.limiter(|guest| &mut guest.quota);
    store.set_epoch_deadline(1);
    let deadline = call.deadline.clone();
    store.epoch_deadline_callback(move |_| match deadline.look() {
        limits::Clock::Expired => Err(TimeUp.into()),
        // It was another call's time.
        limits::Clock::Running { .. } => Ok(UpdateDeadline::Continue(1)),
    });
    let watch = clock.watch(&call.deadline);
    let guest = async {
        let instance = instance.instantiate_async(&mut store).await.map_err(Stopped::Before)?;
        let start = instance.get_typed_func::<(), ()>(&mut store, START).map_err(Stopped::Before)?;
        start.call_async(&mut store, ()).await.map_err(Stopped::Within)
    };
    let outcome = drive::to_end(guest, clock.reactor(), &call.deadline);
    drop(watch);
    let mut notes = Vec::new();
    let end = match outcome {
        Err(TimeUp) => End::TimedOut,
        Ok(Ok(())) => End::Exited(0),
        Ok(Err(stopped)) => end_of(stopped, &mut notes)?,
    };
    Ok(Completion { end, stdout: stdout.finish(), stderr: stderr.finish(), notes })
}

/// Where an error came up.
enum Stopped {
    /// While the instance was made; the module's own start function runs there too.
    Before(wasmtime::Error),
    Within(wasmtime::Error),
}

fn end_of(stopped: Stopped, notes: &mut Vec<String>) -> Result<End, LaunchError> {
    let (error, began) = match stopped {
        Stopped::Before(error) => (error, false),
        Stopped::Within(error) => (error, true),
    };
    if let Some(HookExit(status)) = error.downcast_ref() {
        return Ok(End::Exited(u8::try_from(*status).unwrap_or_else(|_| {
            notes.push(format!(
                "it asked for the exit status {status}, which is more than a process has; 255 stands for it"
            ));
            u8::MAX
        })));
    }
    if error.is::<TimeUp>() {
        return Ok(End::TimedOut);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let what = trap.to_string();
        let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
        return Ok(End::Trapped(format!("{what}{}", names_of(error.downcast_ref()))));
    }
    if began {
        return Ok(End::Trapped(one_line(&error)));
    }
    Err(LaunchError::Host { what: "its instance could not be made", why: one_line(&error) })
}

/// ` in inner < outer < main`, from the guest's name section.
fn names_of(backtrace: Option<&WasmBacktrace>) -> String {
    let frames = backtrace.map(WasmBacktrace::frames).unwrap_or_default();
    let names: Vec<String> = frames.iter().take(NAMED_FRAMES).filter_map(|f| f.func_name().map(demangled)).collect();
    if names.is_empty() { String::new() } else { format!(" in {}", names.join(" < ")) }
}

fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
