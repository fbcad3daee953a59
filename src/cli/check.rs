//! `hookvisor check`: what would happen, and how to mend it.

use std::fmt::Write;
use std::path::Path;

use clap::Parser;
use hookvisor::{HookState, Inventory};

use super::libvirt;
use super::list::{details, json, kind};
use super::options::{Format, HooksArgs, SERVICE_PATH, STANDARD_HOOKS};
use super::streams::print;

/// Exit status where a hook would fail.
pub(super) const WOULD_FAIL: u8 = 1;

/// Check every file in the hooks directory, and say what would happen with it
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 if every hook can be called, 1 if one would fail, 125 if the directory cannot be read."
)]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// How the findings are written
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn check(args: Args) -> anyhow::Result<u8> {
    let is_installed = args.hooks.directory == Path::new(STANDARD_HOOKS);
    let inventory = args.hooks.builder().search_path(SERVICE_PATH).build()?.inventory();
    let text = match args.format {
        Format::Json => json(&inventory)?,
        Format::Text => text(&inventory),
    };
    print(text.as_bytes())?;
    let (problems, notes) = if is_installed { libvirt::findings()? } else { (Vec::new(), Vec::new()) };
    if args.format == Format::Text {
        let problems = problems.iter().map(|problem| format!("FAILS    libvirt: {problem}\n"));
        let notes = notes.iter().map(|note| format!("note: libvirt: {note}\n"));
        print(problems.chain(notes).collect::<String>().as_bytes())?;
    }
    if !problems.is_empty() {
        return Ok(WOULD_FAIL);
    }
    Ok(if count(&inventory, HookState::Broken) > 0 { WOULD_FAIL } else { 0 })
}

fn count(inventory: &Inventory, state: HookState) -> usize {
    inventory.hooks.iter().filter(|hook| hook.state == state).count()
}

fn text(inventory: &Inventory) -> String {
    let mut text = String::new();
    for hook in &inventory.hooks {
        let state = match hook.state {
            HookState::Ready => "ok",
            HookState::Skipped => "skipped",
            _ => "FAILS",
        };
        let reason = hook.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(text, "{state:<8} {:<6} {}{}{reason}", kind(hook), hook.path.display(), details(hook));
    }
    for stray in &inventory.strays {
        let _ = writeln!(text, "{:<8} {:<6} {} {}", "ignored", "", stray.path.display(), stray.reason);
    }
    for dispatched in &inventory.dispatched {
        let _ = writeln!(text, "note: {}", dispatched.reason);
    }
    let (ready, broken, skipped) =
        (count(inventory, HookState::Ready), count(inventory, HookState::Broken), count(inventory, HookState::Skipped));
    let _ = match inventory.hooks.len() {
        0 => writeln!(text, "no hooks in {}", inventory.directory.display()),
        _ => writeln!(text, "{ready} ok, {broken} would fail, {skipped} skipped"),
    };
    text
}
