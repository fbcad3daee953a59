//! One call of a guest: what it gets, what it may use, and how it ended.

use std::any::Any;
use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Wake;

use bytes::Bytes;
use bytesize::ByteSize;
use wasmtime::{Engine, ResourceLimiter, Store, Trap, UpdateDeadline, WasmBacktrace, format_err};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder, WasiCtxView, WasiView};

use super::broker::Broker;
use super::drive;
use super::preview_1::{Standard, Strings};
use super::streams::{Document, Sink};
use super::{Code, START, WasmHook, interface, one_line};
use crate::backend::{Call, Completion, End, LaunchError};
use crate::capture::Capture;
use crate::hook::file::HookFile;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Access, Connection};
use crate::hook::trust::Trust;
use crate::limits::{self, Over};

/// How many of the guest's functions are named where it trapped.
pub(super) const NAMED_FRAMES: usize = 8;
/// How many instances, tables and memories one call may have. A component of an interpreted language has some dozens.
const COUNT: usize = 256;

/// How many files, streams and sockets a guest may have open at once: they are the host's descriptors.
const DESCRIPTORS: usize = 512;

/// What a guest's host functions work on.
pub(super) struct Guest {
    /// It serves components as well, which see its WASI 0.2 side.
    wasi: WasiP1Ctx,
    pub(super) arguments: Strings,
    pub(super) environment: Strings,
    pub(super) standard: Standard,
    quota: Quota,
    broker: Option<Broker>,
    /// What the last command left for the guest to fetch.
    pub(super) response: Vec<u8>,
    path: Arc<Path>,
    messages: u32,
}

impl Guest {
    pub(super) fn preview_1(&mut self) -> &mut WasiP1Ctx {
        &mut self.wasi
    }

    /// A guest that is never run.
    pub(super) fn without_rights() -> Self {
        let quota = Quota { memory: 0, table_elements: 0, exceeded: false };
        let wasi = WasiCtxBuilder::new().build_p1();
        let (arguments, environment) = Default::default();
        let sink = || Sink::new(Capture::beginning(0));
        let (stdin, stdout, stderr) = (Document::new(Bytes::new()), sink(), sink());
        let standard = Standard { stdin, stdout, stderr, in_place: false };
        Self {
            wasi,
            arguments,
            environment,
            standard,
            quota,
            broker: None,
            response: Vec::new(),
            path: Path::new("").into(),
            messages: 0,
        }
    }

    pub(super) fn broker(&mut self) -> wasmtime::Result<&mut Broker> {
        self.broker.as_mut().ok_or_else(|| format_err!("commands are for a hook that is called"))
    }

    /// The report is to tell that it got no descriptor for this path.
    pub(super) fn refused(&mut self, path: &str) {
        if let Some(broker) = &mut self.broker {
            broker.note(format!("it was refused {path:?}: a hook can open files and directories, and nothing else"));
        }
    }

    /// Puts a guest's message into the host's log.
    pub(super) fn log(&mut self, level: u32, message: &[u8]) {
        self.messages = self.messages.saturating_add(1);
        if self.messages > interface::MESSAGES {
            return;
        }
        let (hook, message) = (self.path.display(), String::from_utf8_lossy(message));
        match level {
            0 | 1 => tracing::error!(target: "hookvisor::guest", "{hook}: {message}"),
            2 => tracing::warn!(target: "hookvisor::guest", "{hook}: {message}"),
            3 => tracing::info!(target: "hookvisor::guest", "{hook}: {message}"),
            4 => tracing::debug!(target: "hookvisor::guest", "{hook}: {message}"),
            _ => tracing::trace!(target: "hookvisor::guest", "{hook}: {message}"),
        }
    }

    /// What the report is to tell beside the hook's own words.
    fn into_notes(self) -> Vec<String> {
        let mut notes = self.broker.map(|broker| broker.notes).unwrap_or_default();
        if let Some(dropped) = self.messages.checked_sub(interface::MESSAGES).filter(|&dropped| dropped > 0) {
            notes.push(format!("{dropped} of its messages to the log were left out"));
        }
        notes
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

/// What is left of the memory that a guest may have, all of its memories together, from the making of its instance on.
struct Quota {
    memory: usize,
    table_elements: usize,
    /// Whether it asked for more memory.
    exceeded: bool,
}

impl ResourceLimiter for Quota {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let granted = growth <= self.memory && maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.memory -= growth;
        } else {
            self.exceeded = true;
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

/// Refuses grants that could not be honoured, as far as that can be seen before a call.
pub(super) fn check_grants(settings: &Settings, trust: Trust) -> Result<(), LaunchError> {
    let refused = |why: String| Err(LaunchError::Refused(format!("its settings grant {why}")));
    for directory in &settings.directories {
        let host = directory.host.display();
        match fs::metadata(&directory.host) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return refused(format!("the directory {host}, which is no directory")),
            Err(error) => return refused(format!("the directory {host}, which cannot be used: {error}")),
        }
    }
    for command in &settings.commands {
        let program = command.program.display();
        match HookFile::open(&command.program, trust) {
            Ok(file) if file.is_executable() => {}
            Ok(_) => return refused(format!("the program {program}, which is not executable")),
            Err(LaunchError::NotFound(_)) => return refused(format!("the program {program}, which is not there")),
            Err(why) => return refused(format!("the program {program}: {why}")),
        }
    }
    Ok(())
}

pub(super) fn run(hook: &WasmHook, call: &Call<'_>) -> Result<Completion, LaunchError> {
    let stdout = Sink::new(Capture::beginning(call.keep_stdout));
    let stderr = Sink::new(Capture::both_ends(call.limits.stderr));
    let sandbox = &*hook.sandbox;
    // Before anything is opened for it: a call that waits for its turn holds none of the host's descriptors.
    let _place = match sandbox.places.take(&call.deadline) {
        Ok(place) => place,
        Err(over) => {
            let notes = vec!["it waited for its turn among many hooks, and did not get it in time".to_owned()];
            return Ok(Completion { end: over.into(), stdout: stdout.finish(), stderr: stderr.finish(), notes });
        }
    };
    let (mut arguments, mut environment) = (Strings::default(), Strings::default());
    arguments.push(&[call.path.to_string_lossy().as_bytes()]);
    call.arguments.iter().for_each(|argument| arguments.push(&[argument.as_bytes()]));
    call.env.iter().for_each(|(name, value)| environment.push(&[name.as_bytes(), b"=", value.as_bytes()]));
    let stdin = Document::new(call.stdin.clone());
    let standard = Standard { stdin, stdout: stdout.clone(), stderr: stderr.clone(), in_place: true };
    let guest = Guest {
        wasi: wasi(hook, call, &standard)?,
        arguments,
        environment,
        standard,
        quota: Quota { memory: hook.memory, table_elements: call.limits.table_elements, exceeded: false },
        broker: Some(Broker::new(hook, call)),
        response: Vec::new(),
        path: call.path.into(),
        messages: 0,
    };
    let mut store = Store::new(&sandbox.engine, guest);
    store.limiter(|guest| &mut guest.quota);
    store.set_epoch_deadline(1);
    let deadline = call.deadline.clone();
    store.epoch_deadline_callback(move |_| match deadline.look() {
        limits::Clock::Over(over) => Err(over.into()),
        // It was another call's time.
        limits::Clock::Running { .. } => Ok(UpdateDeadline::Continue(1)),
    });
    let watch = sandbox.clock.watch(&call.deadline);
    let interrupts = call.deadline.wakes(|| Arc::new(Interrupt(sandbox.engine.clone())).into());
    let driven = || drive::to_end(execute(&hook.code, &mut store), sandbox.clock.reactor(), &call.deadline);
    // wasmtime-wasi panics where it cannot have a thread to open a file on. The store is not used any more after that.
    let outcome = catch_unwind(AssertUnwindSafe(driven)).map_err(|panic| panicked(&*panic))?;
    drop((watch, interrupts));
    let guest = store.into_data();
    let exceeded = guest.quota.exceeded;
    let mut notes = guest.into_notes();
    let end = match outcome {
        Err(over) => over.into(),
        Ok(Ok(end)) => end,
        // Of one memory that is known at load.
        Ok(Err(Stopped::Before(error))) if exceeded && !error.is::<Trap>() => {
            let limit = ByteSize(hook.memory as u64);
            return Err(LaunchError::Refused(format!(
                "its memories together need more than its limit from the start, {limit}: set `memory` in its settings"
            )));
        }
        Ok(Err(stopped)) => end_of(stopped, &mut notes)?,
    };
    Ok(Completion { end, stdout: stdout.finish(), stderr: stderr.finish(), notes })
}

fn panicked(panic: &(dyn Any + Send)) -> LaunchError {
    let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let why = why.unwrap_or("it does not say why").replace('\n', "; ");
    LaunchError::Host { what: "the sandbox has failed", why }
}

/// Makes a busy guest look at its deadline.
struct Interrupt(Engine);

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.0.increment_epoch();
    }
}

/// Makes an instance and runs it. An `Ok` is a program that returned.
async fn execute(code: &Code, store: &mut Store<Guest>) -> Result<End, Stopped> {
    match code {
        Code::Module(module) => {
            let instance = module.instantiate_async(&mut *store).await.map_err(Stopped::Before)?;
            let start = instance.get_typed_func::<(), ()>(&mut *store, START).map_err(Stopped::Before)?;
            start.call_async(store, ()).await.map_err(Stopped::Within)?;
            Ok(End::Exited(0))
        }
        Code::Component(component) => {
            let command = component.instantiate_async(&mut *store).await.map_err(Stopped::Before)?;
            let ran = command.wasi_cli_run().call_run(store).await.map_err(Stopped::Within)?;
            Ok(End::Exited(if ran.is_ok() { 0 } else { 1 }))
        }
    }
}

/// What the guest finds: by default its arguments, its streams, clocks and randomness; more only by its settings.
fn wasi(hook: &WasmHook, call: &Call<'_>, standard: &Standard) -> Result<WasiP1Ctx, LaunchError> {
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdin(standard.stdin.clone()).stdout(standard.stdout.clone()).stderr(standard.stderr.clone());
    if matches!(hook.code, Code::Component(_)) {
        wasi.arg(call.path.to_string_lossy()).args(call.arguments).envs(call.env);
    }
    wasi.allow_udp(false).allow_tcp(!hook.settings.connections.is_empty());
    for directory in &hook.settings.directories {
        let rights = match directory.access {
            Access::Read => FsPerms::ReadOnly,
            Access::ReadWrite => FsPerms::ReadWrite,
        };
        wasi.preopened_dir(&directory.host, directory.guest(), rights).map_err(|e| {
            let host = directory.host.display();
            LaunchError::Refused(format!(
                "its settings grant the directory {host}, which cannot be used: {}",
                one_line(&e)
            ))
        })?;
    }
    if !hook.settings.connections.is_empty() {
        let granted: Arc<[SocketAddr]> = hook.settings.connections.iter().map(|Connection { to }| *to).collect();
        wasi.socket_addr_check(move |address, use_| allows(&granted, address, use_));
    }
    let mut wasi = wasi.build_p1();
    wasi.ctx().table.set_max_capacity(DESCRIPTORS);
    Ok(wasi)
}

/// A connection to a granted address, and the binding to a port of the system's choice that it begins with.
fn allows(
    granted: &[SocketAddr],
    address: SocketAddr,
    use_: SocketAddrUse,
) -> Pin<Box<dyn Future<Output = bool> + Send + Sync>> {
    let allowed = match use_ {
        SocketAddrUse::TcpConnect => granted.contains(&address),
        SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
        _ => false,
    };
    Box::pin(async move { allowed })
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
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Ok(End::Exited(u8::try_from(*status).unwrap_or(u8::MAX)));
    }
    if let Some(over) = error.downcast_ref::<Over>() {
        return Ok((*over).into());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let what = trap.to_string();
        let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
        return Ok(End::Trapped(format!("{what}{}", names_of(error.downcast_ref()))));
    }
    if began {
        return Ok(End::Trapped(one_line(&error)));
    }
    let what = "its instance could not be made";
    // What the system refused is the host's affair; the rest is a limit that the hook is over.
    if error.chain().any(|cause| cause.is::<std::io::Error>()) {
        return Err(LaunchError::Host { what, why: one_line(&error) });
    }
    Err(LaunchError::Refused(format!("{what}: {}", one_line(&error))))
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
