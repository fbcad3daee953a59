//! Which record an event goes to.

use std::path::Path;

use hookvisor::{Config, Record};

use super::layout::Layout;

/// The record of an installation. `None` if its configuration wants none, or if it names no file and this user may not write
/// the default one.
pub(super) fn of(layout: &Layout, config: &Config) -> Option<Record> {
    let may_write = config.history.file.is_some() || nix::unistd::geteuid().is_root();
    may_write.then(|| config.history.record(layout.history())).flatten()
}

/// The record for hooks of this directory: a directory that is not the installed one is an experiment, and not recorded.
pub(super) fn of_hooks(directory: &Path) -> anyhow::Result<Option<Record>> {
    let layout = Layout::of_this_machine();
    let config = Config::read(&layout.config())?;
    Ok(if config.hooks == directory { of(&layout, &config) } else { None })
}
