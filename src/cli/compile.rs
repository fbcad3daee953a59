//! `hookvisor compile`: fills the cache.

use anyhow::Context;
use clap::Parser;
use hookvisor::{HookState, Kind};
use serde::Serialize;

use super::check::WOULD_FAIL;
use super::installed::Installed;
use super::options::{Format, HooksArgs};
use super::streams::{complain, print};

/// Compile the WebAssembly hooks now, so that later runs start faster
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 if every WebAssembly hook is compiled, 1 if one does not compile, 125 if the cache cannot be written."
)]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// What was compiled, and what was not.
#[derive(Debug, Serialize)]
struct Compiled {
    directory: String,
    compiled: Vec<String>,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    path: String,
    reason: String,
}

pub(super) fn compile(args: Args) -> anyhow::Result<u8> {
    let installed = Installed::of(args.hooks)?;
    let cache = installed.required_cache()?.context("no cache directory: pass one with --cache DIR")?;
    let directory = cache.directory().display().to_string();
    let mut result = Compiled { directory, compiled: Vec::new(), failed: Vec::new() };
    let inventory = installed.builder()?.cache(cache).build()?.inventory();
    for hook in inventory.hooks.into_iter().filter(|hook| hook.kind == Kind::Wasm) {
        let path = hook.path.display().to_string();
        match (hook.state, hook.reason) {
            (HookState::Ready, _) => result.compiled.push(path),
            (HookState::Broken, Some(reason)) => result.failed.push(Failed { path, reason }),
            _ => {}
        }
    }
    match args.format {
        Format::Json => print((serde_json::to_string_pretty(&result)? + "\n").as_bytes())?,
        Format::Text => show(&result)?,
    }
    Ok(if result.failed.is_empty() { 0 } else { WOULD_FAIL })
}

fn show(result: &Compiled) -> anyhow::Result<()> {
    for Failed { path, reason } in &result.failed {
        complain(format!("hookvisor: {path}: {reason}\n").as_bytes());
    }
    let (compiled, failed) = (result.compiled.len(), result.failed.len());
    print(format!("{compiled} compiled into {}, {failed} failed\n", result.directory).as_bytes())
}
