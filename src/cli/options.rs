//! Options that several subcommands share.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, ValueEnum};
use hookvisor::{Event, EventError};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;

/// The `PATH` that systemd gives to libvirtd and its hooks. It can lack directories of an interactive shell's `PATH`.
pub(super) const SERVICE_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The configuration of the installed hookvisor.
pub(super) const STANDARD_CONFIG: &str = "/etc/hookvisor/hookvisor.toml";

/// The configuration.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ConfigArgs {
    /// The configuration file: limits, hooks directory, cache
    #[arg(id = "config", long = "config", value_name = "FILE", default_value = STANDARD_CONFIG)]
    pub(super) file: PathBuf,
}

/// Where the hooks are.
#[derive(Debug, clap::Args)]
pub(super) struct DirectoryArgs {
    /// The hooks directory [default: from the configuration, or /etc/hookvisor/hooks]
    #[arg(id = "hooks", long = "hooks", value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    #[command(flatten)]
    pub(super) config: ConfigArgs,
}

/// Where the hooks are, for subcommands that load them.
#[derive(Debug, clap::Args)]
pub(super) struct HooksArgs {
    #[command(flatten)]
    pub(super) place: DirectoryArgs,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

/// The configuration of a subcommand that runs one hook file.
#[derive(Debug, clap::Args)]
pub(super) struct FileArgs {
    #[command(flatten)]
    pub(super) config: ConfigArgs,
    #[cfg(feature = "wasm")]
    #[command(flatten)]
    pub(super) cache: CacheArgs,
}

impl ConfigArgs {
    /// The configuration of the installed hookvisor.
    pub(super) fn standard() -> Self {
        Self { file: STANDARD_CONFIG.into() }
    }
}

impl From<ConfigArgs> for HooksArgs {
    fn from(config: ConfigArgs) -> Self {
        DirectoryArgs { directory: None, config }.into()
    }
}

impl From<DirectoryArgs> for HooksArgs {
    fn from(place: DirectoryArgs) -> Self {
        Self {
            place,
            #[cfg(feature = "wasm")]
            cache: CacheArgs::at(None),
        }
    }
}

impl From<FileArgs> for HooksArgs {
    fn from(args: FileArgs) -> Self {
        Self {
            place: DirectoryArgs { directory: None, config: args.config },
            #[cfg(feature = "wasm")]
            cache: args.cache,
        }
    }
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

/// Exits with the message and the usage of a subcommand, like a clap error.
pub(super) fn usage_error<A: CommandFactory>(subcommand: &str, error: &impl std::fmt::Display) -> ! {
    A::command().bin_name(format!("hookvisor {subcommand}")).error(ErrorKind::ValueValidation, error).exit()
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    // Without help of their own, so that the help of a subcommand stays short.
    Text,
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
