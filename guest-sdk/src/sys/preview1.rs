//! A WASI preview 1 module: it imports the runtime's functions from module `hookvisor`.
//!
//! All unsafe code of this crate is here.

use std::process::ExitCode;

use super::wire;
use crate::{Command, CommandError, Output};

#[link(wasm_import_module = "hookvisor")]
unsafe extern "C" {
    /// Runs a command and stores the length of the response. Returns 0 if it ran, 1 if it was refused, 2 if it could
    /// not be run.
    fn command_run(request: *const u8, request_len: usize, response_len: *mut usize) -> u32;

    /// Copies the response of the last `command_run`, once. Returns 0, or 1 if the length is wrong.
    fn command_response(buffer: *mut u8, len: usize) -> u32;

    /// 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    #[cfg(feature = "log")]
    #[link_name = "log"]
    fn write_log(level: u32, message: *const u8, message_len: usize);
}

pub(crate) fn run(command: &Command) -> Result<Output, CommandError> {
    let request = wire::request(command);
    let mut len = 0;
    // SAFETY: the runtime reads `request.len()` bytes at `request` and writes one `usize` at `len`; both outlive the
    // call, and it keeps neither.
    let outcome = unsafe { command_run(request.as_ptr(), request.len(), &raw mut len) };
    let mut response = vec![0; len];
    // SAFETY: the runtime writes at most `response.len()` bytes at `response`, which is that long.
    let copied = unsafe { command_response(response.as_mut_ptr(), response.len()) };
    wire::response(command.program(), outcome, (copied == 0).then_some(&response))
}

#[cfg(feature = "log")]
pub(crate) fn log(level: ::log::Level, message: &str) {
    // SAFETY: the runtime reads `message.len()` bytes at `message` before it returns.
    unsafe { write_log(level as u32, message.as_ptr(), message.len()) }
}

pub(crate) fn end_with(status: u8) -> ExitCode {
    ExitCode::from(status)
}
