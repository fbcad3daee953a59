//! A native hook: it runs commands and connects to sockets itself, and logs to stderr.

use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{self, ExitCode, Stdio};
use std::thread;

use crate::{Command, CommandError, ExitStatus, Output};

/// The environment variables that commands inherit. A hook of the runtime has no others.
const KEPT: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"];

pub(crate) fn run(command: &Command) -> Result<Output, CommandError> {
    let program = command.program();
    if program.contains('/') && !Path::new(program).is_absolute() {
        return Err(CommandError::not_started(program, "its path has to be absolute"));
    }
    let ran = spawn(command).map_err(|error| CommandError::not_started(program, &error.to_string()));
    ran.map(|(status, stdout, stderr)| Output::new(status, stdout, stderr))
}

fn spawn(command: &Command) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
    let mut child = process::Command::new(command.program())
        .args(command.arguments())
        .env_clear()
        .env("LC_ALL", "C")
        .envs(KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    let output = thread::scope(|threads| {
        // Write while reading, since a program may write before it has read everything. It may also ignore its stdin.
        threads.spawn(|| stdin.map(|mut stdin| stdin.write_all(command.input())));
        child.wait_with_output()
    })?;
    let signal = || output.status.signal().and_then(|signal| u32::try_from(signal).ok()).unwrap_or_default();
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    let status = code.map_or_else(|| ExitStatus::Signaled(signal()), ExitStatus::Exited);
    Ok((status, output.stdout, output.stderr))
}

#[derive(Debug)]
pub(crate) struct Connection(UnixStream);

impl Connection {
    pub(crate) fn connect(path: &str) -> io::Result<Self> {
        UnixStream::connect(path).map(Self)
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }
}

#[cfg(feature = "log")]
pub(crate) fn log(level: log::Level, message: &str) {
    let line = format!("{}: {message}\n", level.as_str().to_ascii_lowercase());
    // A closed stderr cannot be reported to anybody.
    let _ = io::stderr().write_all(line.as_bytes());
}

pub(crate) fn end_with(status: u8) -> ExitCode {
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]);
        command
    }

    #[test]
    fn a_program_gets_its_arguments_and_its_input() -> Result<(), CommandError> {
        let output = sh("cat; printf '<%s>' \"$@\"; echo said >&2").args(["a b", "", "$HOME"]).stdin("in ").run()?;
        assert_eq!(output, Output::new(ExitStatus::Exited(0), b"in <a b><><$HOME>".into(), b"said\n".into()));
        Ok(())
    }

    #[test]
    fn it_runs_where_and_with_what_the_runtime_would_give_it() -> Result<(), CommandError> {
        let output = sh("pwd; env").run()?;
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(lines.starts_with("/\n"), "{lines}");
        let known = |name: &&str| KEPT.contains(name) || ["LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"].contains(name);
        let names = lines.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name);
        assert_eq!(names.filter(|name| !known(name)).collect::<Vec<_>>(), [""; 0]);
        Ok(())
    }

    #[test]
    fn input_and_output_larger_than_a_pipe_pass() -> Result<(), CommandError> {
        let input = vec![b'x'; 3_000_000];
        assert_eq!(sh("exec cat").stdin(input.clone()).run()?.stdout, input);
        assert_eq!(sh("exit 0").stdin(input).status()?, ExitStatus::Exited(0));
        Ok(())
    }

    #[test]
    fn how_it_ended_is_told() -> Result<(), CommandError> {
        assert_eq!(sh("exit 200").output()?.status, ExitStatus::Exited(200));
        assert_eq!(sh("kill -9 $$").output()?.status, ExitStatus::Signaled(9));
        let failed = sh("echo no such table >&2; exit 3").run().err().map(|error| error.to_string());
        assert_eq!(failed.as_deref(), Some("/bin/sh exited with 3: no such table"));
        Ok(())
    }

    #[test]
    fn a_program_that_cannot_be_run_differs_from_one_that_failed() {
        let error = |program| Command::new(program).output().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error("/nowhere/nft").starts_with("/nowhere/nft could not be run: No such file"));
        assert!(error("no-such-program").starts_with("no-such-program could not be run: No such file"));
        assert_eq!(error("sbin/nft"), "sbin/nft could not be run: its path has to be absolute");
    }
}
