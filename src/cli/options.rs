//! Options that several subcommands have.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use hookvisor::{Runtime, RuntimeBuilder};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;

/// The `PATH` that systemd gives libvirtd, and so its hooks: what a person's own shell finds may not be there.
pub(super) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The hooks directory of the installed hookvisor, where its configuration does not name another.
pub(super) const STANDARD_HOOKS: &str = "/etc/hookvisor/hooks";

/// Where the hooks are.
#[derive(Debug, clap::Args)]
pub(super) struct HooksArgs {
    /// The hooks directory
    #[arg(id = "hooks", long = "hooks", value_name = "DIR", default_value = STANDARD_HOOKS)]
    pub(super) directory: PathBuf,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

impl HooksArgs {
    /// A builder of the runtime for them.
    pub(super) fn builder(self) -> RuntimeBuilder {
        let builder = Runtime::builder(self.directory);
        #[cfg(feature = "wasm")]
        let builder = self.cache.when_needed().into_iter().fold(builder, RuntimeBuilder::cache);
        #[cfg(feature = "compiler")]
        let builder = builder.compiler(hookvisor::Compiler::this_program());
        builder
    }
}

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For a person
    Text,
    /// For a program, on standard output
    Json,
}

/// An argument of a time limit, such as `5s` or `1min 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("no time at all; write one like 5s or 1min".to_owned()),
        Err(error) => Err(format!("{error}; write one like 5s or 1min")),
    }
}
