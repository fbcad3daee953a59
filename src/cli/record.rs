//! Which record an event goes to.

use hookvisor::{Config, Record};

use super::layout::Layout;

/// The record of an installation. `None` if its configuration wants none, or if it names no file and this user may not write
/// the default one.
pub(super) fn of(layout: &Layout, config: &Config) -> Option<Record> {
    let may_write = config.history.file.is_some() || nix::unistd::geteuid().is_root();
    may_write.then(|| config.history.record(layout.history())).flatten()
}
