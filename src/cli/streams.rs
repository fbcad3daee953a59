//! Arguments and the three standard streams.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use anyhow::Context;

/// The arguments as text, which is all that hooks take.
pub(super) fn texts(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<String>> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|bytes| anyhow::anyhow!("the argument {bytes:?} is not UTF-8"))
    };
    arguments.map(text).collect()
}

/// The whole of standard input; nothing if that is a terminal, where nobody means to type a document.
pub(super) fn document() -> anyhow::Result<Vec<u8>> {
    let mut document = Vec::new();
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let read = unbuffered(&stdin).and_then(|mut stdin| stdin.read_to_end(&mut document));
        read.context("the document could not be read from standard input")?;
    }
    Ok(document)
}

/// Writes what a person or a program asked for to standard output. Whoever has closed it does not want it; a disk that
/// is full is an error, since what is missing could be taken for what was meant.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match unbuffered(&io::stdout()).and_then(|mut stdout| stdout.write_all(bytes)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output could not be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what went wrong to standard error. If that fails too, the exit status has to say it.
pub(super) fn complain(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

/// The stream itself: the standard library's own takes one that cannot be read or written for one that is empty.
pub(super) fn unbuffered(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}
