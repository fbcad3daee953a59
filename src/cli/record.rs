//! Selects the record of events.

use hookvisor::{Config, Record};

use super::layout::Layout;

/// The record of an installation. `None` if the configuration turns it off, or if it names no file and the user is not root,
/// who alone can write the default file.
pub(super) fn of(layout: &Layout, config: &Config) -> Option<Record> {
    let may_write = config.history.file.is_some() || nix::unistd::geteuid().is_root();
    may_write.then(|| config.history.record(layout.history())).flatten()
}
