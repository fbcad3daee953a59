//! What a hook uses of the host, as a watched run shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// After an address that is used by UDP.
pub(crate) const UDP: &str = " (UDP)";

/// What a hook used of the host in one run, beyond what every hook may use. See [`Exec::learn`](crate::Exec::learn).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Needs {
    /// The files and directories that it opened or changed, by their absolute paths.
    pub files: BTreeMap<String, FileUse>,
    /// The commands that it ran: program and arguments.
    pub commands: BTreeSet<(String, Vec<String>)>,
    /// The addresses that it connected to, each with its port, and with ` (UDP)` if it sent datagrams there.
    pub connections: BTreeSet<String>,
    /// What no setting can grant, and what to do instead.
    pub not_grantable: BTreeSet<String>,
}

/// How a file was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileUse {
    /// Whether it was written, created or removed.
    pub writes: bool,
    /// Whether it is a directory that was opened itself.
    pub is_directory: bool,
}

impl FileUse {
    /// The directory to grant for this use of `path`: the one that was opened itself, or the one that contains the file.
    pub fn directory<'a>(&self, path: &'a str) -> &'a str {
        if self.is_directory { path } else { directory_of(path) }
    }
}

/// The directory that contains a file. `/` contains itself.
pub(crate) fn directory_of(path: &str) -> &str {
    Path::new(path).parent().and_then(Path::to_str).unwrap_or(path)
}

impl Needs {
    /// Adds a use of a file to the earlier ones.
    pub(crate) fn file(&mut self, path: String, writes: bool, is_directory: bool) {
        let found = self.files.entry(path).or_default();
        found.writes |= writes;
        found.is_directory |= is_directory;
    }
}

/// Collects what a running hook uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Needs>>);

impl Watch {
    pub(crate) fn add(&self, add: impl FnOnce(&mut Needs)) {
        add(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn take(&self) -> Needs {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
