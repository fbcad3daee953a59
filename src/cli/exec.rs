//! `hookvisor exec`: one hook's file.

use std::path::PathBuf;

use clap::Parser;
use hookvisor::Exec;

use super::{complain, document, print};

/// Run one hook file, native or wasm, with any arguments
#[derive(Debug, Parser)]
#[command(after_help = "\
The hook's standard output is passed on; a failure is reported on standard error. The hook's own settings, beside its \
file, hold.

Example: hookvisor exec ./20-policy.wasm web1 start begin - < web1.xml")]
pub(super) struct Args {
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    cache: super::cache::CacheArgs,
    /// The hook's file
    hook: PathBuf,
    /// What the hook is called with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    arguments: Vec<String>,
}

pub(super) fn exec(args: Args) -> anyhow::Result<u8> {
    let arguments: Vec<&str> = args.arguments.iter().map(String::as_str).collect();
    let exec = Exec::new(args.hook);
    #[cfg(feature = "wasm")]
    let exec = args.cache.when_needed().into_iter().fold(exec, Exec::cache);
    let ended = exec.run(&arguments, document()?);
    if let Some(mut entry) = ended.entry(None) {
        entry.push(b'\n');
        complain(&entry);
    }
    if ended.stdout_dropped > 0 {
        let note = format!("hookvisor: {} more bytes of its standard output were dropped\n", ended.stdout_dropped);
        complain(note.as_bytes());
    }
    print(&ended.stdout)?;
    Ok(ended.termination.exit_status())
}
