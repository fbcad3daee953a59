//! The directory for compiled WebAssembly.

use std::path::PathBuf;

use hookvisor::Cache;
#[cfg(feature = "compiler")]
use hookvisor::CacheError;

/// The cache of compiled WebAssembly.
#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    /// The directory for compiled WebAssembly [default: /var/cache/hookvisor for root, ~/.cache/hookvisor for others]
    #[arg(id = "cache", long = "cache", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl CacheArgs {
    /// Uses this directory; the default directory for `None`.
    pub(super) fn at(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// The configured directory.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.directory.clone()
    }

    /// The cache, or `None` if no directory is known. A cache that cannot be used only makes loading slower.
    pub(super) fn when_needed(self) -> Option<Cache> {
        self.directory.or_else(by_default).map(Cache::when_needed)
    }

    /// The opened cache, or `None` if no directory is known.
    #[cfg(feature = "compiler")]
    pub(super) fn required(self) -> Result<Option<Cache>, CacheError> {
        self.directory.or_else(by_default).map(Cache::open).transpose()
    }
}

fn by_default() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/cache/hookvisor".into());
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    base.map(|base| base.join("hookvisor"))
}
