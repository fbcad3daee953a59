//! Launch errors in the back-end's words.

use crate::hook::error::LaunchError;

/// The hook's file or its settings are at fault.
pub(super) fn refused(why: impl Into<String>) -> LaunchError {
    LaunchError::Refused(why.into())
}

/// The engine cannot be used in this process.
pub(super) fn no_engine(error: &wasmtime::Error) -> LaunchError {
    LaunchError::Host { what: "could not create the WebAssembly engine", why: one_line(error) }
}

/// An error and its causes in one line.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}
