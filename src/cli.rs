//! The command line: its options, subcommands and exit statuses.

mod binfmt;
#[cfg(feature = "wasm")]
mod cache;
mod check;
#[cfg(feature = "compiler")]
mod compile;
mod disable;
mod driver;
mod exec;
mod explain;
#[cfg(all(feature = "wasm", not(feature = "compiler")))]
mod full;
mod history;
mod installed;
mod interrupt;
mod layout;
mod learn;
mod libvirt;
mod list;
mod log;
pub(crate) mod new;
mod options;
mod record;
mod run;
mod streams;
mod words;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, Ordering};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};

use self::log::failed;

/// Exit status when hookvisor itself fails, as opposed to a hook.
const RUNTIME_FAILED: u8 = 125;

/// Exit status for a command line that this program does not understand, as clap exits.
#[cfg(all(feature = "wasm", not(feature = "compiler")))]
const USAGE_ERROR: u8 = 2;

/// Exit status when hookvisor itself fails. It is 0 for operations where libvirt would destroy a running guest.
static STATUS_OF_FAILURE: AtomicU8 = AtomicU8::new(RUNTIME_FAILED);

/// Runs hooks for daemons such as libvirtd: ordinary executables, and WebAssembly modules in a sandbox
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: CliCommand,
}

/// Subcommands that take an event, or a hook and its arguments, after their options.
const TAKE_WORDS: [&str; 4] = ["run", "exec", "explain", "learn"];

const AFTER_HELP: &str = "\
A hook is an executable file DIR/DRIVER or DIR/DRIVER.d/*. It gets the event as its arguments and the document on its \
standard input. If a hook fails before a guest starts, the start is vetoed. If one fails after a guest stops, the failure \
is reported.

Exit status: 0 if no hook failed; otherwise the status of the first hook that failed, as in a shell (128 + n for signal \
n, 124 timed out, 134 trapped, 127 not found, 126 not executable); 125 if hookvisor itself failed; 2 for a usage error.

Environment: HOOKVISOR_LOG=error|warn|info|debug|trace sets the log level on standard error (default: warn).";

#[derive(Debug, Subcommand)]
enum CliCommand {
    Run(run::Args),
    List(list::Args),
    Check(check::Args),
    Exec(exec::Args),
    Explain(explain::Args),
    Disable(disable::Args),
    Enable(disable::EnableArgs),
    History(history::Args),
    Learn(learn::Args),
    #[cfg(feature = "compiler")]
    Compile(compile::Args),
    New(new::Args),
    Libvirt(libvirt::Args),
    Binfmt(binfmt::Args),
}

/// The name of the program selects its role. A driver's name: libvirt's hook. `hookvisor-exec`: the interpreter of
/// `.wasm` files. Any other name: the command line. The launcher that libvirt calls passes on its own name.
pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args_os().peekable();
    let mut name = arguments.next().unwrap_or_default();
    let is_launched = arguments.next_if(|first| first == driver::LAUNCHED).is_some();
    if is_launched {
        name = arguments.next().unwrap_or_default();
    }
    // A write beyond RLIMIT_FSIZE then fails with an error instead of killing the program.
    let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    ExitCode::from(guarded(|| {
        if let Some(hook) = driver::DriverLink::called_as(&name) {
            let arguments: Vec<OsString> = arguments.collect();
            if hook.guest_is_running(&arguments) {
                STATUS_OF_FAILURE.store(0, Ordering::Relaxed);
            }
            hook.run(arguments)
        } else if is_launched {
            anyhow::bail!("{name:?} is not a libvirt hook: its name is not that of a driver")
        } else if exec::is_interpreter(&name) {
            exec::interpret(arguments)
        } else if let Some(status) = compile_module() {
            Ok(status)
        } else {
            command_line()
        }
    }))
}

/// Compiles a module, if this process was started for that.
fn compile_module() -> Option<u8> {
    #[cfg(feature = "compiler")]
    return hookvisor::Compiler::serve(std::env::args_os());
    #[cfg(not(feature = "compiler"))]
    None
}

fn command_line() -> anyhow::Result<u8> {
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    if full::hand_over() {
        return Ok(USAGE_ERROR);
    }
    // `Cli::parse_from` would build the command a second time, which takes a tenth of a millisecond.
    let command = Cli::command();
    let arguments = words::protect(&command, &TAKE_WORDS, std::env::args_os().collect());
    let parsed = Cli::from_arg_matches(&command.get_matches_from(arguments));
    let cli = parsed.unwrap_or_else(|error| error.exit());
    log::to_stderr(matches!(cli.command, CliCommand::Run(_) | CliCommand::Exec(_)));
    match cli.command {
        CliCommand::Run(args) => run::run(args),
        CliCommand::List(args) => list::list(args),
        CliCommand::Check(args) => check::check(args),
        CliCommand::Exec(args) => exec::exec(args),
        CliCommand::Explain(args) => explain::explain(args),
        CliCommand::Disable(args) => disable::disable(args),
        CliCommand::Enable(args) => disable::enable(args),
        CliCommand::History(args) => history::history(args),
        CliCommand::Learn(args) => learn::learn(args),
        #[cfg(feature = "compiler")]
        CliCommand::Compile(args) => compile::compile(args),
        CliCommand::New(args) => new::new(args),
        CliCommand::Libvirt(args) => libvirt::libvirt(args),
        CliCommand::Binfmt(args) => binfmt::binfmt(&args),
    }
}

/// Reports every error and panic, and returns a failure status for it.
fn guarded(run: impl FnOnce() -> anyhow::Result<u8>) -> u8 {
    panic::set_hook(Box::new(|panic| {
        failed(&format!("internal error, please report this bug: {panic}"));
        end_if_nothing_unwinds();
    }));
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            failed(&format!("{error:#}"));
            STATUS_OF_FAILURE.load(Ordering::Relaxed)
        }
        Err(_told_by_the_panic_hook) => STATUS_OF_FAILURE.load(Ordering::Relaxed),
    }
}

/// Exits with the failure status. The package's drop-in is built with `panic = "abort"`, so a panic would raise SIGABRT.
#[cfg_attr(panic = "abort", expect(clippy::exit, reason = "nothing unwinds to the end of `main`"))]
fn end_if_nothing_unwinds() {
    #[cfg(panic = "abort")]
    std::process::exit(STATUS_OF_FAILURE.load(Ordering::Relaxed).into());
}

#[cfg(test)]
mod tests {
    use super::{RUNTIME_FAILED, guarded};

    #[test]
    #[expect(clippy::panic, reason = "the test needs a panic")]
    fn a_panic_is_a_failure_of_the_runtime() {
        assert_eq!(guarded(|| panic!("as the test wants")), RUNTIME_FAILED);
        assert_eq!(guarded(|| Err(anyhow::anyhow!("as the test wants"))), RUNTIME_FAILED);
        assert_eq!(guarded(|| Ok(3)), 3);
    }
}
