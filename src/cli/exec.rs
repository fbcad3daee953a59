//! `hookvisor exec`: runs one hook file.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::Parser;
use hookvisor::{Exec, HookReport};

use super::installed::Installed;
use super::interrupt::Interrupts;
use super::log;
use super::options::{ConfigArgs, FileArgs, Format};
use super::streams::{complain, complain_of, document, pass_on, print, texts};

/// Run one hook file, native or wasm, with any arguments
#[derive(Debug, Parser)]
#[command(after_help = "\
Passes on the hook's standard output, and reports a failure on standard error. Uses the settings file next to the hook. \
With --format json, standard output gets one JSON object with the result and the hook's output instead.

Example: hookvisor exec ./20-policy.wasm web1 start begin - < web1.xml")]
pub(super) struct Args {
    #[command(flatten)]
    settings: FileArgs,
    /// Use the grants in the hook's settings even if users other than root can write the file
    #[arg(long)]
    trust_grants: bool,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The hook's file
    hook: PathBuf,
    /// Arguments for the hook, passed unchanged
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<String>,
}

pub(super) fn exec(args: Args) -> anyhow::Result<u8> {
    let installed = Installed::of(args.settings)?;
    let exec = installed.exec(&args.hook).confine_all(installed.config.confine_all);
    let exec = if args.trust_grants { exec.trust_grants() } else { exec };
    run(exec, &args.arguments, args.format)
}

/// The link that the kernel runs for a `.wasm` file: `hookvisor-exec FILE [ARG…]`. binfmt cannot pass a subcommand, and a
/// file could have the same name as one.
pub(super) const INTERPRETER: &str = "hookvisor-exec";

pub(super) fn is_interpreter(called_as: &OsStr) -> bool {
    Path::new(called_as).file_name() == Some(OsStr::new(INTERPRETER))
}

/// Runs a file as its interpreter, with the limits of the installed configuration.
pub(super) fn interpret(mut arguments: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
    let installed = Installed::of(ConfigArgs::standard())?;
    log::as_configured(installed.config.log.as_ref());
    let Some(hook) = arguments.next() else {
        anyhow::bail!("{INTERPRETER} runs a file: {INTERPRETER} FILE [ARG…]");
    };
    let exec = installed.exec(Path::new(&hook)).confine_all(installed.config.confine_all);
    run(exec, &texts(arguments)?, Format::Text)
}

fn run(exec: Exec, arguments: &[String], format: Format) -> anyhow::Result<u8> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let document = bytes::Bytes::from(document()?);
    let interrupts = Interrupts::catch()?;
    let ended = exec.cancel(&interrupts.cancel).run(&arguments, document.clone());
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    if matches!(ended.termination, hookvisor::Termination::NotLaunched(hookvisor::LaunchError::NotCompiled(_))) {
        super::full::take_over(&document);
    }
    interrupts.release()?;
    match format {
        Format::Json => print(format!("{}\n", ended.to_json()).as_bytes())?,
        Format::Text => pass_on_output(&ended)?,
    }
    interrupts.obey()?;
    Ok(ended.termination.exit_status())
}

/// Passes on the hook's standard output, and reports a failure.
fn pass_on_output(ended: &HookReport) -> anyhow::Result<()> {
    let entry = || ended.entry(None).map(|entry| [entry, b"\n".to_vec()].concat()).unwrap_or_default();
    complain_of(entry, || ended.shown_entry(None).unwrap_or_default());
    if ended.stdout_dropped > 0 {
        let note = format!("hookvisor: {} more bytes of its standard output were dropped\n", ended.stdout_dropped);
        complain(note.as_bytes());
    }
    pass_on(&ended.stdout)
}
