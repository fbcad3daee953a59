//! A test hook that uses the SDK. The event's extra argument selects what it does: `<what>` or `<what>=<how>`.

use std::error::Error;
use std::io::{self, Read, Write};

use hookvisor_guest::{Command, CommandError, Event, UnixStream, Verdict, hook, log, setting};

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    let (what, how) =
        event.extra().and_then(|extra| extra.split_once('=')).unwrap_or((event.extra().unwrap_or(""), ""));
    Ok(match what {
        "status" => match how.parse()? {
            0 => Verdict::proceed(),
            status => Verdict::veto_with_status(status, format!("status {status}")),
        },
        "read" => Verdict::veto(format!("no owner in {} bytes", event.document()?.len())),
        "shout" => Verdict::replace(event.document()?.to_ascii_uppercase()),
        "driver" => Verdict::veto(event.driver().ok_or("no driver")?),
        "setting" => Verdict::veto(setting(how).ok_or("not set")?),
        "log" => {
            log::error!("an error");
            log::warn!("a warning");
            log::info!("an info\nof two lines");
            log::debug!("a debug line");
            log::trace!("a trace");
            Verdict::proceed()
        }
        // The words of a command. `_` is a space within a word, `%n` a newline and `%0` a NUL.
        "run" => {
            let written = |word: &str| word.replace('_', " ").replace("%n", "\n").replace("%0", "\0");
            let mut words = how.split(' ').map(written);
            let mut command = Command::new(words.next().unwrap_or_default());
            Verdict::veto(told(command.args(words).stdin(event.document()?).output()))
        }
        // A command with one argument of this many control characters, or with this many empty arguments.
        "long" => Verdict::veto(told(Command::new("/bin/sh").arg("\u{1}".repeat(how.parse()?)).output())),
        "many" => Verdict::veto(told(Command::new("/bin/sh").args(vec![""; how.parse()?]).output())),
        "long-name" => Verdict::veto(told(Command::new("\u{1}".repeat(how.parse()?)).output())),
        _ => connect(what, how, event.document()?)?,
    })
}

/// What it does with Unix sockets.
fn connect(what: &str, how: &str, document: &[u8]) -> Result<Verdict, Box<dyn Error>> {
    Ok(match what {
        // Sends the document to each of these sockets. `%n` and `%0` are as above.
        "unix" => {
            let paths = how.split(' ').map(|path| path.replace("%n", "\n").replace("%0", "\0"));
            let said: Vec<_> = paths.map(|path| said(ask(&path, document).map(|_| "connected".to_owned()))).collect();
            Verdict::veto(said.join("\n"))
        }
        "ask" => Verdict::veto(ask(how, document).map(|answer| String::from_utf8_lossy(&answer).into_owned())?),
        "drain" => {
            let read = io::copy(&mut UnixStream::connect(how)?, &mut io::sink())?;
            Verdict::veto(format!("{read} bytes"))
        }
        // Writes until it fails.
        "flood" => {
            let mut socket = UnixStream::connect(how)?;
            let error = (0..).find_map(|_| socket.write_all(&[b'x'; 100_000]).err());
            Verdict::veto(said(error.map_or(Ok(String::new()), Err)))
        }
        // Connects until it fails.
        "hoard" => {
            let mut sockets = Vec::new();
            let error = loop {
                match UnixStream::connect(how) {
                    Ok(socket) => sockets.push(socket),
                    Err(error) => break error,
                }
            };
            let count = sockets.len();
            drop(sockets);
            let again = UnixStream::connect(how).is_ok();
            Verdict::veto(format!("{count} connections, then {error}; after closing them: {again}"))
        }
        other => return Err(format!("{other:?} is nothing to do").into()),
    })
}

/// Sends the document to a socket, and reads its answer to the end.
fn ask(path: &str, document: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = UnixStream::connect(path)?;
    socket.write_all(document)?;
    socket.shutdown_write()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(answer)
}

/// The kind of the error, which is the same on every target.
fn said(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| error.kind().to_string())
}

fn told(ran: Result<hookvisor_guest::Output, CommandError>) -> String {
    match ran {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            format!("it {}, wrote {} bytes and said {said:?}", output.status, output.stdout.len())
        }
        Err(error) if error.is_refusal() => format!("refused: {error}"),
        Err(error) => format!("not run: {error}"),
    }
}
