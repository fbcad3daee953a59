//! `hookvisor learn`: runs a hook once, watches it, and prints the settings it needs.

mod grants;
mod warnings;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Parser;
use hookvisor::{HookReport, Kind, Termination};
use serde_json::{Value, json};

use self::grants::Learned;
use super::installed::Installed;
use super::interrupt::Interrupts;
use super::options::{EventArgs, FileArgs, Format, usage_error};
use super::streams::{complain, document, print};

/// Run a hook once, watch it, and print the minimal settings that allow what it did
#[derive(Debug, Parser)]
#[command(after_help = "\
The hook really runs, and its effects are real. During this run, nothing is refused: a native hook is not confined, and a \
WebAssembly hook can open the host's files and run commands. The document is read from standard input. The settings go to \
standard output, the hook's output to standard error. With --format json, standard output gets both. Nothing is installed: \
review the settings, then save them next to the hook.

One run shows only one path through the hook. Run it for each operation and merge the results:

  hookvisor learn 10-hook qemu web1 prepare < web1.xml > 10-hook.toml
  hookvisor learn --merge 10-hook.toml 10-hook qemu web1 release < web1.xml > new.toml && mv new.toml 10-hook.toml

Requires strace for native hooks.")]
pub(super) struct Args {
    /// Merge with the settings from an earlier run
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    #[command(flatten)]
    settings: FileArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// The hook's file
    hook: PathBuf,
    #[command(flatten)]
    event: EventArgs,
}

pub(super) fn learn(args: Args) -> anyhow::Result<u8> {
    let event = args.event.event().unwrap_or_else(|error| usage_error::<Args>("learn", &error));
    let installed = Installed::of(args.settings)?;
    if let Some(why) = installed.config.refusal(&event) {
        usage_error::<Args>("learn", &why);
    }
    let hook = fs::canonicalize(&args.hook).with_context(|| format!("{} could not be found", args.hook.display()))?;
    // Read this first: if it is invalid, the hook must not run.
    let mut learned = Learned::of(hook.clone());
    if let Some(file) = &args.merge {
        let earlier = fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display()))?;
        learned.merge(&earlier).with_context(|| file.display().to_string())?;
    }
    let event = event.with_document(document()?);
    let interrupts = Interrupts::catch()?;
    let (report, needs) = installed.exec(&hook).cancel(&interrupts.cancel).learn(&event);
    if let Termination::NotLaunched(why) = &report.termination {
        bail!("{} could not be run: {why}", hook.display());
    }
    learned.add(&needs, &event);
    let settings = format!(
        "# Learned by `hookvisor learn`: read it before you use it.\n{}",
        learned.to_toml(report.kind == Kind::Native)
    );
    match args.format {
        Format::Json => {
            let hook: Value = serde_json::from_str(&report.to_json())?;
            print(format!("{}\n", json!({"settings": settings, "hook": hook})).as_bytes())?;
        }
        Format::Text => {
            print(settings.as_bytes())?;
            tell(&report);
        }
    }
    interrupts.obey()?;
    Ok(report.termination.exit_status())
}

/// Passes on the hook's output, and says how it ended.
fn tell(report: &HookReport) {
    complain(&report.stdout);
    match report.entry(None) {
        None => complain(&report.stderr),
        Some(mut entry) => {
            entry.extend_from_slice(b"\nhookvisor: the settings cover only this run, which failed\n");
            complain(&entry);
        }
    }
}
