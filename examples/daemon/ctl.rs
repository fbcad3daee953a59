//! The client.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Args;

#[derive(Args)]
pub(crate) struct Ctl {
    /// Where the daemon listens
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The command for the daemon
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Ctl {
    /// Prints the answer. Fails if the answer is `no`.
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        for word in &self.command {
            let is_one = !word.is_empty() && !word.contains(char::is_whitespace);
            ensure!(is_one, "{word:?} cannot be passed on: words are separated by blanks, and there is no quoting");
        }
        let mut daemon =
            UnixStream::connect(&self.socket).with_context(|| format!("no daemon at {}", self.socket.display()))?;
        writeln!(daemon, "{}", self.command.join(" "))?;
        let mut answer = Vec::new();
        for line in BufReader::new(daemon).lines() {
            match line? {
                end if end.is_empty() => return tell(&answer.join("\n")),
                line => answer.push(line),
            }
        }
        anyhow::bail!("the daemon has not answered")
    }
}

fn tell(answer: &str) -> anyhow::Result<ExitCode> {
    let (verdict, text) = answer.split_once(' ').unwrap_or((answer, ""));
    if verdict == "ok" {
        if !text.is_empty() {
            writeln!(io::stdout(), "{text}")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(io::stderr(), "no: {text}")?;
    Ok(ExitCode::FAILURE)
}
