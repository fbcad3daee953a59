//! Hooks outside the hooks directory that run before all others.

use std::path::{Path, PathBuf};

use super::discovery::{Findings, Found, is_absent, trusted_names, unexamined};
use super::scope::Scope;
use super::trust::Trust;

/// Adds the hooks at these paths, by driver, before the driver's other hooks.
pub(crate) fn find(first: &[(String, PathBuf)], only: Option<&str>, trust: Trust, findings: &mut Findings) {
    // In reverse, since each is inserted at the front.
    for (driver, path) in first.iter().rev().filter(|(driver, _)| only.is_none_or(|only| only == driver)) {
        let found = at(path, trust, findings);
        match findings.drivers.iter_mut().find(|(name, _)| name == driver) {
            Some((_, hooks)) => drop(hooks.splice(0..0, found)),
            None => findings.drivers.push((driver.clone(), found)),
        }
    }
}

fn at(path: &Path, trust: Trust, findings: &mut Findings) -> Vec<Found> {
    let place = |path, problem| Found { path, scope: Scope::default(), problem };
    if path.symlink_metadata().is_err_and(|error| is_absent(&error)) {
        return Vec::new();
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => match trusted_names(path, trust, &mut findings.directories) {
            Ok(names) => {
                let paths = names.into_iter().map(|name| path.join(name));
                paths.filter(|path| !path.is_dir()).map(|path| place(path, None)).collect()
            }
            Err(why) => vec![place(path.to_owned(), Some(why))],
        },
        Err(error) if !is_absent(&error) => vec![place(path.to_owned(), Some(unexamined(&error)))],
        _ => vec![place(path.to_owned(), None)],
    }
}
