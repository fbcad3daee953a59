//! The host functions beyond WASI: commands, connections to Unix sockets and the log. Modules import them from `hookvisor`,
//! components through the interfaces in `guest-sdk/wit`. `guest-sdk` documents both.

mod unix;

use bytes::Bytes;
use wasmtime::component::{self, ComponentType, Lift, Lower, WasmList, WasmStr};
use wasmtime::{Caller, Linker, StoreContextMut};

use super::commands::CommandError;
use super::memory;
use super::request::{Request, RequestError, Size};
use super::store::StoreData;
use crate::backend::Completion;
use crate::report::termination::Termination;

const MODULE: &str = "hookvisor";
const COMMANDS: &str = "hookvisor:hook/commands@0.1.0";
const LOGGING: &str = "hookvisor:hook/logging@0.1.0";

/// `command_run`'s results.
const RAN: u32 = 0;
const REFUSED: u32 = 1;
const FAILED: u32 = 2;

/// Bytes of a log message that are kept.
const LOG_MESSAGE: usize = 8 << 10;

pub(super) fn add_to_linker(linker: &mut Linker<StoreData>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "command_run", command_run)?;
    linker.func_wrap(MODULE, "command_response", command_response)?;
    linker.func_wrap(MODULE, "log", |mut caller: Caller<'_, StoreData>, level: u32, at: u32, len: u32| {
        let message = memory::slice(&mut caller, at, len.min(LOG_MESSAGE as u32))?.to_vec();
        caller.data_mut().log(level, &message);
        Ok(())
    })?;
    unix::add_to_linker(MODULE, linker)
}

fn command_run(mut caller: Caller<'_, StoreData>, at: u32, len: u32, response_len: u32) -> wasmtime::Result<u32> {
    let request = Request::parse(memory::slice(&mut caller, at, len)?);
    let (result, response) = match run(caller.data_mut(), request)? {
        Ok(ended) => (RAN, encode(&ended)),
        Err(CommandError::Refused(why)) => (REFUSED, why.into_bytes()),
        Err(CommandError::Failed(why)) => (FAILED, why.into_bytes()),
    };
    let size = u32::try_from(response.len())?.to_le_bytes();
    memory::exported(&mut caller)?.write(&mut caller, response_len as usize, &size)?;
    caller.data_mut().response = response;
    Ok(result)
}

/// An outer error ends the guest.
fn run(
    data: &mut StoreData,
    request: Result<Request, RequestError>,
) -> wasmtime::Result<Result<Completion, CommandError>> {
    let commands = data.commands()?;
    match request {
        Ok(request) => Ok(commands.run(request)?),
        Err(RequestError::TooLarge(why)) => Ok(Err(commands.refuse_oversized(why))),
        Err(why @ RequestError::Malformed) => Err(why.into()),
    }
}

fn command_response(mut caller: Caller<'_, StoreData>, at: u32, len: u32) -> wasmtime::Result<u32> {
    let response = std::mem::take(&mut caller.data_mut().response);
    if response.len() != len as usize {
        caller.data_mut().response = response;
        return Ok(1);
    }
    memory::exported(&mut caller)?.write(&mut caller, at as usize, &response)?;
    Ok(0)
}

/// A response: how the command ended (0 exited, 1 signaled, 2 timed out), its status or signal, stdout, stderr, and the
/// number of bytes dropped from each.
fn encode(ended: &Completion) -> Vec<u8> {
    let (kind, code) = match &ended.termination {
        Termination::Exited(status) => (0, u32::from(*status)),
        Termination::Signaled { signal, .. } => (1, signal.unsigned_abs()),
        Termination::TimedOut { .. }
        | Termination::Cancelled
        | Termination::Trapped(_)
        | Termination::NotLaunched(_)
        | Termination::Rejected(_)
        | Termination::Lost(_) => (2, 0_u32),
    };
    let stderr = ended.stderr.shown();
    let mut bytes = Vec::with_capacity(32 + ended.stdout.bytes.len() + stderr.len());
    bytes.extend(u32::to_le_bytes(kind));
    bytes.extend(code.to_le_bytes());
    for output in [&ended.stdout.bytes, &stderr] {
        // The limits on output are far below this.
        bytes.extend(u32::try_from(output.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(output);
    }
    bytes.extend(ended.stdout.dropped.to_le_bytes());
    bytes.extend(ended.stderr.dropped.to_le_bytes());
    bytes
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct CommandOutput {
    termination: CommandTermination,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    #[component(name = "stdout-dropped")]
    stdout_dropped: u64,
    #[component(name = "stderr-dropped")]
    stderr_dropped: u64,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum CommandTermination {
    #[component(name = "exited")]
    Exited(u8),
    #[component(name = "signaled")]
    Signaled(u32),
    #[component(name = "timed-out")]
    TimedOut,
}

#[derive(ComponentType, Lower)]
#[component(variant)]
enum CommandFailure {
    #[component(name = "refused")]
    Refused(String),
    #[component(name = "failed")]
    Failed(String),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "the guest makes them")]
enum LogLevel {
    #[component(name = "error")]
    Error,
    #[component(name = "warn")]
    Warn,
    #[component(name = "info")]
    Info,
    #[component(name = "debug")]
    Debug,
    #[component(name = "trace")]
    Trace,
}

/// The parts of a request, still in the component's memory.
type RequestParts = (WasmStr, WasmList<WasmStr>, WasmList<u8>);

pub(super) fn add_to_component_linker(linker: &mut component::Linker<StoreData>) -> wasmtime::Result<()> {
    linker.instance(COMMANDS)?.func_wrap("run", |mut store: StoreContextMut<'_, StoreData>, parts: RequestParts| {
        let request = match copied(&mut store, &parts) {
            Ok(request) => Ok(request),
            Err(error) => Err(error.downcast::<RequestError>()?),
        };
        let ran = run(store.data_mut(), request)?;
        Ok((ran.map(CommandOutput::from).map_err(CommandFailure::from),))
    })?;
    linker.instance(LOGGING)?.func_wrap(
        "log",
        |mut store: StoreContextMut<'_, StoreData>, (level, message): (LogLevel, WasmStr)| {
            let message = message.to_str(&store)?;
            let message = message.as_bytes()[..message.len().min(LOG_MESSAGE)].to_vec();
            store.data_mut().log(level as u32 + 1, &message);
            Ok(())
        },
    )?;
    unix::add_to_component_linker(linker)
}

/// Copies a request within the limits. The error is a [`RequestError`], or the component's fault.
fn copied(store: &mut StoreContextMut<'_, StoreData>, parts: &RequestParts) -> wasmtime::Result<Request> {
    let (program, arguments, stdin) = parts;
    let program = program.to_str(&*store)?;
    let mut size = Size::add_program(program.len()).map_err(RequestError::from)?;
    let program = program.into_owned();
    let mut copies = Vec::new();
    for at in 0..arguments.len() {
        let Some(argument) = arguments.get(&mut *store, at).transpose()? else { break };
        let argument = argument.to_str(&*store)?;
        size.add_argument(argument.len()).map_err(RequestError::from)?;
        copies.push(argument.into_owned());
    }
    let stdin = Bytes::copy_from_slice(stdin.as_le_slice(&*store));
    Ok(Request { program, arguments: copies, stdin })
}

impl From<Completion> for CommandOutput {
    fn from(ended: Completion) -> Self {
        Self {
            termination: match ended.termination {
                Termination::Exited(status) => CommandTermination::Exited(status),
                Termination::Signaled { signal, .. } => CommandTermination::Signaled(signal.unsigned_abs()),
                Termination::TimedOut { .. }
                | Termination::Cancelled
                | Termination::Trapped(_)
                | Termination::NotLaunched(_)
                | Termination::Rejected(_)
                | Termination::Lost(_) => CommandTermination::TimedOut,
            },
            stderr: ended.stderr.shown(),
            stdout: ended.stdout.bytes,
            stdout_dropped: ended.stdout.dropped,
            stderr_dropped: ended.stderr.dropped,
        }
    }
}

impl From<CommandError> for CommandFailure {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(why) => Self::Refused(why),
            CommandError::Failed(why) => Self::Failed(why),
        }
    }
}
