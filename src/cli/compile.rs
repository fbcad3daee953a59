//! `hookvisor compile`: fills the cache.

use anyhow::Context;
use clap::Parser;
use hookvisor::{HookState, Kind};

use super::check::WOULD_FAIL;
use super::installed::Installed;
use super::options::HooksArgs;
use super::streams::{complain, print};

/// Compile the WebAssembly hooks now, so that later runs start faster
#[derive(Debug, Parser)]
#[command(
    after_help = "Exit status: 0 if every WebAssembly hook is compiled, 1 if one does not compile, 125 if the cache cannot be written."
)]
pub(super) struct Args {
    #[command(flatten)]
    hooks: HooksArgs,
}

pub(super) fn compile(args: Args) -> anyhow::Result<u8> {
    let installed = Installed::of(args.hooks)?;
    let cache = installed.required_cache()?.context("no cache directory: pass one with --cache DIR")?;
    let directory = cache.directory().display().to_string();
    let inventory = installed.builder()?.cache(cache).build()?.inventory();
    let (mut compiled, mut failed) = (0, 0);
    for hook in inventory.hooks.iter().filter(|hook| hook.kind == Kind::Wasm) {
        match (hook.state, &hook.reason) {
            (HookState::Ready, _) => compiled += 1,
            (HookState::Broken, Some(reason)) => {
                failed += 1;
                complain(format!("hookvisor: {}: {reason}\n", hook.path.display()).as_bytes());
            }
            _ => {}
        }
    }
    print(format!("{compiled} compiled into {directory}, {failed} failed\n").as_bytes())?;
    Ok(if failed > 0 { WOULD_FAIL } else { 0 })
}
