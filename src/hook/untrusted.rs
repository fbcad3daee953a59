//! Finds everything in a hooks directory that others could change.

use std::path::{Path, PathBuf};

use super::discovery;
use super::trust::Trust;
use super::{fault, first, settings, walk};

/// The files and directories of a hooks directory that users other than root could change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Untrusted {
    /// What is wrong with them, and how to fix it. "It" is the hooks directory.
    pub why: String,
    /// One shell command that gives them to root alone. Empty if there is none, as for a home directory.
    pub command: String,
}

impl Untrusted {
    /// Checks the hooks directory, and each hook with its directory and its settings. `None` if nothing is wrong.
    pub(crate) fn find(hooks: &Path, first: &[(String, PathBuf)], trust: Trust) -> Option<Self> {
        let mut findings = discovery::find(hooks, None, Trust::not_enforced()).unwrap_or_default();
        first::find(first, None, Trust::not_enforced(), &mut findings);
        let mut paths = vec![hooks.to_owned()];
        paths.extend(findings.directories.iter().map(|directory| directory.path.clone()));
        for found in findings.drivers.into_iter().flat_map(|(_, found)| found) {
            paths.push(settings::file_name(&found.path));
            paths.push(found.path);
        }
        let mut faults: Vec<fault::Fault> = Vec::new();
        for fault in paths.iter().flat_map(|path| walk::faults(path, trust)) {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        (trust.is_enforced() && !faults.is_empty())
            .then(|| Self { why: fault::sentence(&faults, hooks), command: fault::command_for_all(&faults) })
    }
}
