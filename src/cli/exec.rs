//! `hookvisor exec`: runs one hook file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Parser;
use hookvisor::{Config, Exec};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;
use super::interrupt::Interrupts;
use super::layout::Layout;
use super::log;
use super::streams::{complain, complain_of, document, pass_on, texts};

/// Run one hook file, native or wasm, with any arguments
#[derive(Debug, Parser)]
#[command(after_help = "\
Passes on the hook's standard output, and reports a failure on standard error. Uses the settings file next to the hook.

Example: hookvisor exec ./20-policy.wasm web1 start begin - < web1.xml")]
pub(super) struct Args {
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    cache: super::cache::CacheArgs,
    /// Use the grants in the hook's settings even if users other than root can write the file
    #[arg(long)]
    trust_grants: bool,
    /// The hook's file
    hook: PathBuf,
    /// Arguments for the hook, passed unchanged
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<String>,
}

pub(super) fn exec(args: Args) -> anyhow::Result<u8> {
    let config = Config::read(&Layout::of_this_machine().config())?;
    run(args, config)
}

/// The link that the kernel runs for a `.wasm` file: `hookvisor-exec FILE [ARG…]`. binfmt cannot pass a subcommand, and a
/// file could have the same name as one.
pub(super) const INTERPRETER: &str = "hookvisor-exec";

pub(super) fn is_interpreter(called_as: &OsStr) -> bool {
    Path::new(called_as).file_name() == Some(OsStr::new(INTERPRETER))
}

/// Runs a file as its interpreter, with the limits of the installed configuration.
pub(super) fn interpret(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    let config = Config::read(&Layout::of_this_machine().config())?;
    log::as_configured(config.log.as_ref());
    let Some(hook) = arguments.next() else {
        anyhow::bail!("{INTERPRETER} runs a file: {INTERPRETER} FILE [ARG…]");
    };
    let args = Args {
        trust_grants: false,
        hook: hook.into(),
        arguments: texts(arguments)?,
        #[cfg(feature = "wasm")]
        cache: CacheArgs::at(config.cache.clone()),
    };
    run(args, config)
}

fn run(args: Args, config: Config) -> anyhow::Result<u8> {
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    let document = bytes::Bytes::from(document()?);
    let interrupts = Interrupts::catch()?;
    let exec = Exec::new(args.hook).limits(config.limits).confine_all(config.confine_all).cancel(&interrupts.cancel);
    let exec = config.state.into_iter().fold(exec, Exec::state_directory);
    let exec = if args.trust_grants { exec.trust_grants() } else { exec };
    #[cfg(feature = "wasm")]
    let exec = args.cache.when_needed().into_iter().fold(exec, Exec::cache);
    #[cfg(feature = "compiler")]
    let exec = exec.compiler(hookvisor::Compiler::this_program());
    let ended = exec.run(&arguments, document.clone());
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    if matches!(ended.termination, hookvisor::Termination::NotLaunched(hookvisor::LaunchError::NotCompiled(_))) {
        super::full::take_over(&document);
    }
    interrupts.release()?;
    let entry = || ended.entry(None).map(|entry| [entry, b"\n".to_vec()].concat()).unwrap_or_default();
    complain_of(entry, || ended.shown_entry(None).unwrap_or_default());
    if ended.stdout_dropped > 0 {
        let note = format!("hookvisor: {} more bytes of its standard output were dropped\n", ended.stdout_dropped);
        complain(note.as_bytes());
    }
    pass_on(&ended.stdout)?;
    interrupts.obey()?;
    Ok(ended.termination.exit_status())
}
