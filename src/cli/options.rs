//! Options that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use hookvisor::{Event, EventError};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;

/// The `PATH` that systemd gives to libvirtd and its hooks. It can lack directories of an interactive shell's `PATH`.
pub(super) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of the installed hookvisor.
pub(super) const STANDARD_CONFIG: &str = "/etc/hookvisor/hookvisor.toml";

/// Where the hooks are.
#[derive(Debug, clap::Args)]
pub(super) struct HooksArgs {
    /// The hooks directory [default: from the configuration, or /etc/hookvisor/hooks]
    #[arg(id = "hooks", long = "hooks", value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// The configuration file: limits, hooks directory, cache
    #[arg(long, value_name = "FILE", default_value = STANDARD_CONFIG)]
    pub(super) config: PathBuf,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

/// The words of an event. Option-like words are accepted because [`words`](super::words) puts `--` before them.
#[derive(Debug, clap::Args)]
pub(super) struct EventArgs {
    /// The driver: qemu, lxc, network, or any name
    driver: String,
    /// The guest, or - for none
    object: String,
    /// What happens to it: prepare, start, started, stopped, release, …
    operation: String,
    /// The sub-operation [default: the usual one for the operation, or -]
    #[arg(value_name = "SUB-OPERATION")]
    sub_operation: Option<String>,
    /// One more argument for the hooks [default: -]
    extra: Option<String>,
}

impl EventArgs {
    /// The event, without a document.
    pub(super) fn event(&self) -> Result<Event, EventError> {
        let mut event = Event::new(&self.driver, &self.object, &self.operation)?;
        if let Some(sub_operation) = &self.sub_operation {
            event = event.with_sub_operation(sub_operation)?;
        }
        if let Some(extra) = &self.extra {
            event = event.with_extra(extra)?;
        }
        Ok(event)
    }
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Readable text
    Text,
    /// JSON, on standard output
    Json,
}

/// Parses a time limit such as `5s` or `1min 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("duration must be greater than zero, for example 5s or 1min".to_owned()),
        Err(error) => Err(format!("{error}; write for example 5s or 1min")),
    }
}
