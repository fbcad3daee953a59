//! The installed configuration and its hooks.

use std::path::Path;
#[cfg(feature = "wasm")]
use std::path::PathBuf;

use hookvisor::{Config, ConfigError, Exec, Record, RuntimeBuilder};

use super::layout::Layout;
use super::options::{ConfigArgs, DirectoryArgs, HooksArgs, STANDARD_CONFIG};
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
    pub(super) fn of(args: impl Into<HooksArgs>) -> Result<Self, ConfigError> {
        let args = args.into();
        let config = Config::read(&args.place.config.file)?;
        Ok(Self::with(args, config))
    }

    /// Uses what can be read of an invalid configuration, and else the defaults. Options override both.
    pub(super) fn despite_errors(args: impl Into<HooksArgs>) -> Self {
        let args = args.into();
        let config = Config::despite_errors(&args.place.config.file);
        Self::with(args, config)
    }

    fn with(args: HooksArgs, mut config: Config) -> Self {
        let DirectoryArgs { directory, config: ConfigArgs { file } } = args.place;
        let own_hooks = directory.as_ref().is_none_or(|directory| *directory == config.hooks);
        let is_standard = directory.is_none() && file.as_os_str() == STANDARD_CONFIG;
        config.hooks = directory.unwrap_or(config.hooks);
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

    /// Prepares to run one hook file.
    pub(super) fn exec(&self, hook: &Path) -> Exec {
        let exec = Exec::new(hook).limits(self.config.limits.clone());
        let exec = self.config.state.iter().fold(exec, Exec::state_directory);
        #[cfg(feature = "wasm")]
        let exec = super::cache::CacheArgs::at(self.cache.clone()).when_needed().into_iter().fold(exec, Exec::cache);
        #[cfg(feature = "compiler")]
        let exec = exec.compiler(hookvisor::Compiler::this_program());
        exec
    }

    /// The record of events, to write to; `None` for any directory other than the installed one.
    pub(super) fn record(&self) -> Option<Record> {
        if self.own_hooks { record::of(&Layout::of_this_machine(), &self.config) } else { None }
    }

    /// The record of events, to read; `None` if the configuration turns it off.
    pub(super) fn history(&self) -> Option<Record> {
        self.config.history.record(Layout::of_this_machine().history())
    }
}
