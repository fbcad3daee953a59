//! `hookvisor check`: reports problems with the hooks, and how to fix them.

use std::fmt::Write;

use clap::Parser;
use hookvisor::{Config, HookState, Inventory, printable};
use serde::Serialize;

use super::installed::Installed;
use super::libvirt;
use super::list::{details, kind, load};
use super::options::{Format, HooksArgs};
use super::streams::print;

/// Exit status if a hook would fail.
pub(super) const WOULD_FAIL: u8 = 1;

/// Report how each file in the hooks directory will be treated, and how to fix any problem
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 if every hook can be called, 1 if one would fail or a file looks misplaced, 125 if the directory cannot be read."
)]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn check(args: Args) -> anyhow::Result<u8> {
    let mut findings = Findings::default();
    let config = args.hooks.place.config.file.clone();
    let installed = match Config::read(&config) {
        Ok(_) => Installed::of(args.hooks)?,
        Err(error) => {
            findings.problems.push(format!("every start is vetoed: {error}"));
            Installed::despite_errors(args.hooks)
        }
    };
    let (runtime, untrusted) = load(&installed)?;
    findings.notes.extend(untrusted);
    for driver in installed.config.drivers.keys() {
        if let Some(meant) = runtime.similar_driver(driver) {
            findings.problems.push(format!(
                "[drivers.{driver}] in {} is for an unknown driver: did you mean {meant}? If so, correct it; \
                 otherwise add `known_drivers = [\"{driver}\"]`",
                config.display()
            ));
        }
    }
    let inventory = runtime.inventory();
    if installed.is_standard {
        let (problems, notes) = libvirt::findings()?;
        findings.problems.extend(problems);
        findings.notes.extend(notes);
    }
    findings.problems.dedup();
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&Checked { inventory: &inventory, findings: &findings })? + "\n",
        Format::Text => printable(text(&inventory, &findings).as_bytes()),
    };
    print(text.as_bytes())?;
    let is_broken = count(&inventory, HookState::Broken) > 0;
    let is_broken = is_broken || !findings.problems.is_empty() || !inventory.mistakes.is_empty();
    Ok(if is_broken { WOULD_FAIL } else { 0 })
}

/// Findings that concern no single hook: the configuration, and the installation as libvirt's hook.
#[derive(Debug, Default, Serialize)]
struct Findings {
    problems: Vec<String>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Checked<'a> {
    #[serde(flatten)]
    inventory: &'a Inventory,
    #[serde(flatten)]
    findings: &'a Findings,
}

fn count(inventory: &Inventory, state: HookState) -> usize {
    inventory.hooks.iter().filter(|hook| hook.state == state).count()
}

fn text(inventory: &Inventory, findings: &Findings) -> String {
    let mut text = String::new();
    for problem in &findings.problems {
        let _ = writeln!(text, "{:<8} {problem}", "FAILS");
    }
    for hook in &inventory.hooks {
        let state = match hook.state {
            HookState::Ready => "ok",
            HookState::Skipped => "skipped",
            _ => "FAILS",
        };
        let reason = hook.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let _ = writeln!(text, "{state:<8} {:<6} {}{}{reason}", kind(hook), hook.path.display(), details(hook));
    }
    for mistake in &inventory.mistakes {
        let _ = writeln!(text, "{:<8} {:<6} {} {}", "MISTAKE", "", mistake.path.display(), mistake.reason);
    }
    for stray in &inventory.strays {
        let _ = writeln!(text, "{:<8} {:<6} {} {}", "ignored", "", stray.path.display(), stray.reason);
    }
    for hook in &inventory.hooks {
        for warning in &hook.warnings {
            let _ = writeln!(text, "warning: {}: {warning}", hook.path.display());
        }
    }
    for dispatched in &inventory.dispatched {
        let _ = writeln!(text, "note: {}", dispatched.reason);
    }
    for note in &findings.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let (ready, broken, skipped) =
        (count(inventory, HookState::Ready), count(inventory, HookState::Broken), count(inventory, HookState::Skipped));
    let _ = match inventory.hooks.len() {
        0 => writeln!(text, "no hooks in {}", inventory.directory.display()),
        _ => writeln!(text, "{ready} ok, {broken} would fail, {skipped} skipped"),
    };
    text
}
