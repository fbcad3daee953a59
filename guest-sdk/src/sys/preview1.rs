//! A WASI preview 1 module: it imports the runtime's functions from module `hookvisor`.
//!
//! All unsafe code of this crate is here.

use std::io;
use std::process::ExitCode;

use super::wire;
use crate::unix::not_connected;
use crate::{Command, CommandError, Output};

#[link(wasm_import_module = "hookvisor")]
unsafe extern "C" {
    /// Runs a command and stores the length of the response. Returns 0 if it ran, 1 if it was refused, 2 if it could
    /// not be run.
    fn command_run(request: *const u8, request_len: usize, response_len: *mut usize) -> u32;

    /// Copies the response of the last `command_run`, once. Returns 0, or 1 if the length is wrong.
    fn command_response(buffer: *mut u8, len: usize) -> u32;

    /// Connects to a Unix socket and stores the connection's number. Like all `unix_` functions, it returns 0 or an error's
    /// number: see `wit/hookvisor.wit`.
    fn unix_connect(path: *const u8, path_len: usize, connection: *mut u32) -> u32;
    fn unix_read(connection: u32, buffer: *mut u8, len: usize, read: *mut usize) -> u32;
    fn unix_write(connection: u32, bytes: *const u8, len: usize, written: *mut usize) -> u32;
    fn unix_shutdown_write(connection: u32) -> u32;
    fn unix_close(connection: u32);

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

/// The number of a connection.
#[derive(Debug)]
pub(crate) struct Connection(u32);

impl Connection {
    pub(crate) fn connect(path: &str) -> io::Result<Self> {
        let mut connection = 0;
        // SAFETY: the runtime reads `path.len()` bytes at `path` and writes one `u32` at `connection`; both outlive the call,
        // and it keeps neither.
        let errno = unsafe { unix_connect(path.as_ptr(), path.len(), &raw mut connection) };
        if errno == 0 {
            Ok(Self(connection))
        } else {
            Err(not_connected(path, u16::try_from(errno).unwrap_or(u16::MAX)))
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        // SAFETY: the runtime writes at most `buffer.len()` bytes at `buffer` and one `usize` at `read`, and keeps neither.
        let errno = unsafe { unix_read(self.0, buffer.as_mut_ptr(), buffer.len(), &raw mut read) };
        result(errno).map(|()| read)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        // SAFETY: the runtime reads at most `bytes.len()` bytes at `bytes` and writes one `usize` at `written`, and keeps
        // neither.
        let errno = unsafe { unix_write(self.0, bytes.as_ptr(), bytes.len(), &raw mut written) };
        result(errno).map(|()| written)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        // SAFETY: it takes a number and no memory.
        result(unsafe { unix_shutdown_write(self.0) })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: it takes a number and no memory.
        unsafe { unix_close(self.0) }
    }
}

fn result(errno: u32) -> io::Result<()> {
    if errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(errno.cast_signed())) }
}

#[cfg(feature = "log")]
pub(crate) fn log(level: ::log::Level, message: &str) {
    // SAFETY: the runtime reads `message.len()` bytes at `message` before it returns.
    unsafe { write_log(level as u32, message.as_ptr(), message.len()) }
}

pub(crate) fn end_with(status: u8) -> ExitCode {
    ExitCode::from(status)
}
