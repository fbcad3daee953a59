//! `hookvisor list`: lists the hooks in call order.

use std::fmt::Write;

use clap::Parser;
use hookvisor::{HookInfo, HookState, Inventory, Kind, LoadError, Mode, Runtime, printable};

use super::installed::Installed;
use super::options::{Format, HooksArgs, SERVICE_PATH};
use super::streams::print;

/// Minimum width of the driver column: the longest libvirt driver name.
const DRIVER_WIDTH: usize = 8;

/// List the hooks in call order
#[derive(Debug, Parser)]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn list(args: Args) -> anyhow::Result<u8> {
    let (runtime, untrusted) = load(&Installed::of(args.hooks)?)?;
    let inventory = runtime.inventory();
    let text = match args.format {
        Format::Json => json(&inventory)?,
        Format::Text => {
            let note = untrusted.map(|note| format!("note: {note}\n")).unwrap_or_default();
            printable((text(&inventory) + &note).as_bytes())
        }
    };
    print(text.as_bytes())?;
    Ok(0)
}

/// The hooks as libvirt's hook will find them, and a note with one command for everything that others could change.
pub(super) fn load(installed: &Installed) -> anyhow::Result<(Runtime, Option<String>)> {
    let builder = installed.builder()?.search_path(SERVICE_PATH);
    let untrusted = builder.untrusted();
    let runtime = match (builder.build(), &untrusted) {
        // Report everything, not only the faults of the directory.
        (Err(LoadError::Untrusted { path, .. }), Some(all)) => {
            return Err(LoadError::Untrusted { path, why: all.why.clone() }.into());
        }
        (built, _) => built?,
    };
    let command = untrusted.map(|all| all.command).filter(|command| !command.is_empty());
    let hooks = runtime.inventory().hooks;
    // The reason of a single hook may be enough.
    let is_told = |command: &String| hooks.iter().flat_map(|hook| &hook.reason).any(|reason| reason.contains(command));
    let command = command.filter(|command| !is_told(command));
    let note = command.map(|command| format!("if you trust these files, give them to root alone: run `{command}`"));
    Ok((runtime, note))
}

pub(super) fn json(inventory: &Inventory) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(inventory)? + "\n")
}

fn text(inventory: &Inventory) -> String {
    let mut text = String::new();
    let width = inventory.hooks.iter().map(|hook| hook.driver.chars().count()).max().unwrap_or(0).max(DRIVER_WIDTH);
    for hook in &inventory.hooks {
        let reason = hook.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let state = match hook.state {
            HookState::Ready => String::new(),
            HookState::Skipped => format!(" (skipped{reason})"),
            _ => format!(" (cannot be run{reason})"),
        };
        let _ =
            writeln!(text, "{:<width$} {:<6} {}{state}{}", hook.driver, kind(hook), hook.path.display(), details(hook));
    }
    for dispatched in &inventory.dispatched {
        let _ = writeln!(text, "note: {}", dispatched.reason);
    }
    text
}

pub(super) fn kind(hook: &HookInfo) -> &'static str {
    match hook.kind {
        Kind::Wasm => "wasm",
        _ => "native",
    }
}

/// The hook's filters, rights and timeout, as `; …` fragments.
pub(super) fn details(hook: &HookInfo) -> String {
    let mut details = Vec::new();
    if !hook.event.is_empty() {
        details.push(format!("only for {}", hook.event.join(" ")));
    }
    if let Some(operations) = &hook.operations {
        details.push(format!("only for operations {}", operations.join(", ")));
    }
    if let Some(operations) = &hook.not_operations {
        details.push(format!("not for operations {}", operations.join(", ")));
    }
    if let Some(objects) = &hook.objects {
        details.push(format!("only for objects {}", objects.join(", ")));
    }
    if !hook.may.is_empty() {
        details.push(format!("may {}", hook.may.join(", ")));
    }
    if hook.mode == Mode::Monitor {
        details.push("monitor mode: failures do not veto".to_owned());
    }
    if hook.state == HookState::Ready {
        details.push(format!("timeout {}s", hook.timeout.as_secs_f64()));
    }
    details.iter().fold(String::new(), |all, detail| all + "; " + detail)
}
