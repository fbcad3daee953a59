//! A test hook that uses the SDK. The event's extra argument selects what it does: `<what>` or `<what>=<how>`.

use std::error::Error;

use hookvisor_guest::{Command, CommandError, Event, Verdict, hook, log, setting};

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
        other => return Err(format!("{other:?} is nothing to do").into()),
    })
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
