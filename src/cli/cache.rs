//! Where compiled code is kept between two runs.

use std::path::PathBuf;

use hookvisor::Cache;
#[cfg(feature = "compiler")]
use hookvisor::CacheError;

/// The cache of compiled WebAssembly.
#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    /// Where compiled WebAssembly is kept [default: /var/cache/hookvisor for root, ~/.cache/hookvisor for others]
    #[arg(id = "cache", long = "cache", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl CacheArgs {
    /// What the configuration says; the default where it says nothing.
    pub(super) fn at(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// The directory that was asked for.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        self.directory.clone()
    }

    /// The cache, where there is a place for one. If it turns out to be of no use, a hook takes longer to load, and that
    /// is all.
    pub(super) fn when_needed(self) -> Option<Cache> {
        self.directory.or_else(by_default).map(Cache::when_needed)
    }

    /// The cache, ready for use; `None` where there is no place for one.
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
