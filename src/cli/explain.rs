//! `hookvisor explain`: shows which hooks an event would call, and why.

use std::fmt::Write;

use clap::Parser;
use hookvisor::{ExplainedHook, Explanation, HookState, Mode, printable};

use super::installed::Installed;
use super::list::kind;
use super::options::{EventArgs, Format, HooksArgs, SERVICE_PATH, usage_error};
use super::streams::print;

/// Show which hooks an event would call, with which rights, and why it would skip the others
#[derive(Debug, Parser)]
#[command(after_help = "\
Nothing is run or compiled. To see whether a WebAssembly module compiles, use `check`.

Example: hookvisor explain qemu web1 prepare")]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    event: EventArgs,
}

pub(super) fn explain(args: Args) -> anyhow::Result<u8> {
    let event = args.event.event().unwrap_or_else(|error| usage_error::<Args>("explain", &error));
    let explanation = Installed::of(args.hooks)?.builder()?.search_path(SERVICE_PATH).explain(&event)?;
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Format::Text => printable(text(&explanation).as_bytes()),
    };
    print(text.as_bytes())?;
    Ok(0)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { directory, driver, object, operation, sub_operation, extra, stage, failure, .. } = explanation;
    let mut text = format!(
        "{driver} {object} {operation} {sub_operation} {extra}: {stage} stage, hooks of {}\n{failure}\n",
        directory.display()
    );
    let (called, passed_over): (Vec<_>, Vec<_>) = explanation.hooks.iter().partition(|hook| hook.called);
    match called.len() {
        0 => text += "\nno hook is called\n",
        _ => text += "\ncalled, in this order:\n",
    }
    for (number, hook) in called.iter().enumerate() {
        let _ = writeln!(text, "{:>3}. {:<6} {}", number + 1, kind(&hook.hook), hook.hook.path.display());
        let _ = writeln!(text, "     why      {}", hook.why);
        for (name, value) in details(hook) {
            let _ = writeln!(text, "     {name:<8} {value}");
        }
    }
    if !passed_over.is_empty() {
        text += "\nnot called:\n";
    }
    for hook in passed_over {
        let _ = writeln!(text, "     {:<6} {}: {}", kind(&hook.hook), hook.hook.path.display(), hook.why);
    }
    if !explanation.near_misses.is_empty() {
        text += "\nnear misses:\n";
    }
    for miss in &explanation.near_misses {
        let _ = writeln!(text, "     {} {}", miss.path.display(), miss.reason);
    }
    text
}

fn details(explained: &ExplainedHook) -> Vec<(&'static str, String)> {
    let hook = &explained.hook;
    let mut details = vec![(
        "settings",
        explained.settings.as_ref().map_or("none".to_owned(), |settings| settings.display().to_string()),
    )];
    if hook.state == HookState::Broken {
        return details;
    }
    details.push(("timeout", format!("{}s", hook.timeout.as_secs_f64())));
    if hook.mode == Mode::Monitor {
        details.push(("mode", "monitor: a failure is reported and does not veto".to_owned()));
    }
    details.extend(hook.may.iter().map(|may| ("may", may.clone())));
    details
}
