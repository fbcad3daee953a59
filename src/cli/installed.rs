//! The installed configuration and its hooks.

#[cfg(feature = "wasm")]
use std::path::PathBuf;

use hookvisor::{Config, ConfigError, Record, RuntimeBuilder};

use super::layout::Layout;
use super::options::{HooksArgs, STANDARD_CONFIG};
use super::{libvirt, record};

/// The configuration for one run of the command line.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) config: Config,
    /// Whether these are the hooks that this machine's daemons call: no option names another directory or configuration.
    pub(super) is_standard: bool,
    own_hooks: bool,
    #[cfg(feature = "wasm")]
    cache: Option<PathBuf>,
}

impl Installed {
    /// Reads the configuration, as libvirt's hook does. Options override it.
    pub(super) fn of(args: HooksArgs) -> Result<Self, ConfigError> {
        let config = Config::read(&args.config)?;
        Ok(Self::with(args, config))
    }

    /// Uses the defaults instead of an invalid configuration. Options override them.
    pub(super) fn without_config(args: HooksArgs) -> Self {
        let config = Config::despite_errors(&args.config);
        Self::with(args, config)
    }

    fn with(args: HooksArgs, mut config: Config) -> Self {
        let own_hooks = args.directory.as_ref().is_none_or(|directory| *directory == config.hooks);
        let is_standard = args.directory.is_none() && args.config.as_os_str() == STANDARD_CONFIG;
        config.hooks = args.directory.unwrap_or(config.hooks);
        Self {
            #[cfg(feature = "wasm")]
            cache: args.cache.directory().or_else(|| config.cache.clone()),
            config,
            is_standard,
            own_hooks,
        }
    }

    /// A runtime builder for these hooks.
    pub(super) fn builder(&self) -> anyhow::Result<RuntimeBuilder> {
        let mut builder = self.config.runtime();
        if self.is_standard {
            for (driver, path) in libvirt::kept_hooks()? {
                builder = builder.run_first(driver, path);
            }
        }
        #[cfg(feature = "wasm")]
        let builder = super::cache::CacheArgs::at(self.cache.clone())
            .when_needed()
            .into_iter()
            .fold(builder, RuntimeBuilder::cache);
        #[cfg(feature = "compiler")]
        let builder = builder.compiler(hookvisor::Compiler::this_program());
        Ok(builder)
    }

    /// The opened cache, or `None` if no directory is known.
    #[cfg(feature = "compiler")]
    pub(super) fn required_cache(&self) -> Result<Option<hookvisor::Cache>, hookvisor::CacheError> {
        super::cache::CacheArgs::at(self.cache.clone()).required()
    }

    /// The record of events; `None` for any directory other than the installed one.
    pub(super) fn record(&self) -> Option<Record> {
        if self.own_hooks { record::of(&Layout::of_this_machine(), &self.config) } else { None }
    }
}
