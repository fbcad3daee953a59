//! The program as its users call it.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use assert_cmd::Command;

use super::Hooks;

/// Longer than anything takes here. Whatever hangs is killed, and fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The result of a call. The hooks directory appears as `DIR`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command without the developer's environment.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.timeout(PATIENCE).env_clear().env("PATH", "/usr/bin:/bin").current_dir("/");
    command
}

/// Writes directly to standard error: the test harness shows printed text only on failure.
pub(crate) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The program itself.
pub(crate) fn hookvisor() -> Command {
    command(env!("CARGO_BIN_EXE_hookvisor"))
}

impl Hooks {
    /// Calls a subcommand that takes `--hooks` for this directory.
    pub(crate) fn call(&self, arguments: &[&str]) -> Ran {
        let (subcommand, rest) = arguments.split_first().unwrap();
        self.ran(self.command(subcommand).arg("--hooks").arg(self.path()).args(rest))
    }

    /// Calls `exec` for a file of this directory.
    pub(crate) fn exec(&self, file: &str, arguments: &[&str], document: &str) -> Ran {
        self.ran(self.command("exec").arg(self.path().join(file)).args(arguments).write_stdin(document))
    }

    /// A subcommand that keeps compiled code in this directory.
    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = hookvisor();
        command.arg(subcommand);
        #[cfg(feature = "wasm")]
        command.arg("--cache").arg(self.cache());
        command
    }

    fn cache(&self) -> PathBuf {
        self.path().join(".cache")
    }

    /// Calls a shell, for redirections that only a shell can do. `$HOOKS` is this directory.
    pub(crate) fn shell(&self, script: &str) -> Ran {
        let mut shell = command("sh");
        shell.arg("-c").arg(self.function() + script).env("HOOKS", self.path());
        self.ran(&mut shell)
    }

    /// `hookvisor` for a shell.
    pub(crate) fn function(&self) -> String {
        let cache = if cfg!(feature = "wasm") { format!("--cache {:?}", self.cache()) } else { String::new() };
        let program = env!("CARGO_BIN_EXE_hookvisor");
        format!("hookvisor() {{ subcommand=$1; shift; {program:?} \"$subcommand\" {cache} \"$@\"; }}\n")
    }

    pub(crate) fn ran(&self, command: &mut Command) -> Ran {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.path().display().to_string(), "DIR");
        let status = output.status.code().expect("it was not killed");
        Ran { status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}
