//! Arguments and standard streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use anyhow::Context;
use hookvisor::printable;

/// The arguments as UTF-8, which hooks require.
pub(super) fn texts(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<String>> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|bytes| anyhow::anyhow!("the argument {bytes:?} is not UTF-8"))
    };
    arguments.map(text).collect()
}

/// Reads all of standard input; empty if that is a terminal.
pub(super) fn document() -> anyhow::Result<Vec<u8>> {
    let mut document = Vec::new();
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let read = unbuffered(&stdin).and_then(|mut stdin| stdin.read_to_end(&mut document));
        read.context("the document could not be read from standard input")?;
    }
    Ok(document)
}

/// Writes to standard output. A closed pipe is not an error. Other failures, such as a full disk, are: truncated output
/// could be mistaken for complete output.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match unbuffered(&io::stdout()).and_then(|mut stdout| stdout.write_all(bytes)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output could not be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Passes on a hook's standard output: byte for byte, but escaped on a terminal.
pub(super) fn pass_on(bytes: &[u8]) -> anyhow::Result<()> {
    if io::stdout().is_terminal() { print(printable(bytes).as_bytes()) } else { print(bytes) }
}

/// Writes an entry about hooks to standard error: byte for byte, but escaped on a terminal.
pub(super) fn complain_of(bytes: impl FnOnce() -> Vec<u8>, shown: impl FnOnce() -> String) {
    if io::stderr().is_terminal() { complain(lines(shown()).as_bytes()) } else { complain(&bytes()) }
}

/// Text with a newline at its end, unless it is empty.
pub(super) fn lines(mut text: String) -> String {
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// Writes to standard error, escaped on a terminal. If that fails, only the exit status reports the problem.
pub(super) fn complain(bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if io::stderr().is_terminal() {
        let _ = io::stderr().write_all(printable(bytes).as_bytes());
    } else {
        let _ = io::stderr().write_all(bytes);
    }
}

/// The stream as a file: the standard library's streams hide EBADF, as if the stream were empty.
pub(super) fn unbuffered(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}
