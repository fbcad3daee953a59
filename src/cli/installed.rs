//! The installed hookvisor: what its configuration says, and which hooks it runs.

#[cfg(feature = "wasm")]
use std::path::PathBuf;

use hookvisor::{Config, ConfigError, Record, RuntimeBuilder};

use super::layout::Layout;
use super::options::{HooksArgs, STANDARD_CONFIG};
use super::{libvirt, record};

/// The configuration that holds for a call of the command line.
#[derive(Debug)]
pub(super) struct Installed {
    pub(super) config: Config,
    /// Whether the hooks are the ones that this machine's daemons call, and not a directory that the caller names.
    pub(super) is_standard: bool,
    own_hooks: bool,
    #[cfg(feature = "wasm")]
    cache: Option<PathBuf>,
}

impl Installed {
    /// Reads the configuration, as it is read when libvirt calls; options override it.
    pub(super) fn of(args: HooksArgs) -> Result<Self, ConfigError> {
        let config = Config::read(&args.config)?;
        Ok(Self::with(args, config))
    }

    /// The defaults, where the configuration cannot be used; options override them.
    pub(super) fn without_config(args: HooksArgs) -> Self {
        let config = Config::without(&args.config);
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

    /// A builder of the runtime for the hooks.
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

    /// The cache, ready for use; `None` where there is no place for one.
    #[cfg(feature = "compiler")]
    pub(super) fn required_cache(&self) -> Result<Option<hookvisor::Cache>, hookvisor::CacheError> {
        super::cache::CacheArgs::at(self.cache.clone()).required()
    }

    /// The record of events. A directory that is not the installed one is an experiment, and not recorded.
    pub(super) fn record(&self) -> Option<Record> {
        if self.own_hooks { record::of(&Layout::of_this_machine(), &self.config) } else { None }
    }
}
