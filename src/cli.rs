//! The command line: what it takes, and what each subcommand exits with.

mod binfmt;
#[cfg(feature = "wasm")]
mod cache;
mod check;
#[cfg(feature = "compiler")]
mod compile;
mod driver;
mod exec;
mod interrupt;
mod layout;
mod libvirt;
mod list;
mod log;
mod new;
mod run;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use hookvisor::{Runtime, RuntimeBuilder};

/// The exit status for a failure of the runtime itself, as distinct from a hook's.
const RUNTIME_FAILED: u8 = 125;

/// Runs a daemon's hooks: ordinary scripts, and WebAssembly in a sandbox
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A hook is an executable file DIR/DRIVER or DIR/DRIVER.d/*, called with the event as its arguments and the document on \
its standard input. Before a start, a hook that fails vetoes it; after a shutdown, it is reported.

Exit status: that of the first hook that failed, as a shell gives it (128 + n for signal n, 124 out of time, 134 a trap, \
127 not found, 126 not runnable); 0 where none did; 125 if hookvisor itself failed; 2 for a usage error.

Environment: HOOKVISOR_LOG=error|warn|info|debug|trace, what is logged to standard error (default: warn).";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    List(list::Args),
    Check(check::Args),
    Exec(exec::Args),
    #[cfg(feature = "compiler")]
    Compile(compile::Args),
    New(new::Args),
    Libvirt(libvirt::Args),
    Binfmt(binfmt::Args),
}

/// Where the hooks are.
#[derive(Debug, clap::Args)]
struct HooksArgs {
    /// The hooks directory
    #[arg(id = "hooks", long = "hooks", value_name = "DIR", default_value = "/etc/hookvisor/hooks")]
    directory: PathBuf,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    cache: cache::CacheArgs,
}

impl HooksArgs {
    /// A builder of the runtime for them.
    fn builder(self) -> RuntimeBuilder {
        let builder = Runtime::builder(self.directory);
        #[cfg(feature = "wasm")]
        let builder = self.cache.when_needed().into_iter().fold(builder, RuntimeBuilder::cache);
        builder
    }
}

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a person
    Text,
    /// For a program, on standard output
    Json,
}

/// What the program is depends on the name that it is called by: a driver's name makes it libvirt's hook, the
/// interpreter's name makes it what runs a `.wasm` file, any other name is this command line.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    ExitCode::from(guarded(|| {
        if let Some(hook) = driver::Hook::called_as(&name) {
            hook.run(arguments)
        } else if exec::is_interpreter(&name) {
            exec::interpret(arguments)
        } else {
            command_line()
        }
    }))
}

fn command_line() -> anyhow::Result<u8> {
    let cli = Cli::parse();
    log::to_stderr(matches!(cli.command, Command::Run(_) | Command::Exec(_)));
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::List(args) => list::list(args),
        Command::Check(args) => check::check(args),
        Command::Exec(args) => exec::exec(args),
        #[cfg(feature = "compiler")]
        Command::Compile(args) => compile::compile(args),
        Command::New(args) => new::new(args),
        Command::Libvirt(args) => libvirt::libvirt(args),
        Command::Binfmt(args) => binfmt::binfmt(&args),
    }
}

/// Whatever goes wrong in here, even a panic, is told and never looks like a success.
fn guarded(run: impl FnOnce() -> anyhow::Result<u8>) -> u8 {
    panic::set_hook(Box::new(|panic| failed(&format!("a mistake in hookvisor itself, please report it: {panic}"))));
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            failed(&format!("{error:#}"));
            RUNTIME_FAILED
        }
        Err(_told_by_the_panic_hook) => RUNTIME_FAILED,
    }
}

/// Tells of a failure of hookvisor itself.
fn failed(why: &str) {
    tracing::error!(target: log::REPORTED, "{why}");
    complain(format!("hookvisor: {why}\n").as_bytes());
}

/// The arguments as text, which is all that hooks take.
fn texts(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Vec<String>> {
    let text = |argument: OsString| {
        argument.into_string().map_err(|bytes| anyhow::anyhow!("the argument {bytes:?} is not UTF-8"))
    };
    arguments.map(text).collect()
}

/// The whole of standard input; nothing if that is a terminal, where nobody means to type a document.
fn document() -> anyhow::Result<Vec<u8>> {
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
fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match unbuffered(&io::stdout()).and_then(|mut stdout| stdout.write_all(bytes)) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output could not be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes what went wrong to standard error. If that fails too, the exit status has to say it.
fn complain(bytes: &[u8]) {
    let _ = io::stderr().write_all(bytes);
}

/// The stream itself: the standard library's own takes one that cannot be read or written for one that is empty.
fn unbuffered(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

/// An argument of a time limit, such as `5s` or `1min 30s`.
fn duration(text: &str) -> Result<std::time::Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("no time at all; write one like 5s or 1min".to_owned()),
        Err(error) => Err(format!("{error}; write one like 5s or 1min")),
    }
}

#[cfg(test)]
mod tests {
    use super::{RUNTIME_FAILED, guarded};

    #[test]
    #[expect(clippy::panic, reason = "what a panic comes to is the question")]
    fn a_panic_is_a_failure_of_the_runtime() {
        assert_eq!(guarded(|| panic!("as the test wants")), RUNTIME_FAILED);
        assert_eq!(guarded(|| Err(anyhow::anyhow!("as the test wants"))), RUNTIME_FAILED);
        assert_eq!(guarded(|| Ok(3)), 3);
    }
}
