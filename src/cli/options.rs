//! Options that several subcommands have.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;

/// The `PATH` that systemd gives libvirtd, and so its hooks: what a person's own shell finds may not be there.
pub(super) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of the installed hookvisor.
pub(super) const STANDARD_CONFIG: &str = "/etc/hookvisor/hookvisor.toml";

/// Where the hooks are.
#[derive(Debug, clap::Args)]
pub(super) struct HooksArgs {
    /// The hooks directory [default: as the configuration says, /etc/hookvisor/hooks if it does not]
    #[arg(id = "hooks", long = "hooks", value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// The configuration: limits, hooks directory, cache
    #[arg(long, value_name = "FILE", default_value = STANDARD_CONFIG)]
    pub(super) config: PathBuf,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    pub(super) cache: CacheArgs,
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
