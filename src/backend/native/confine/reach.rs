//! The files that a confined hook may read and write, by its settings. This names files in notes; the kernel enforces the
//! grants.

use std::path::{Path, PathBuf};

use super::needs;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Access, Names};

/// Everything that a hook may open.
pub(crate) struct Reach {
    granted: Vec<(PathBuf, Access)>,
}

/// Whether a file may be read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct May {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Reach {
    /// `own`: the hook's directory. `executes`: the files that start it.
    pub(crate) fn of(settings: &Settings, names: Names<'_>, own: Option<&Path>, executes: &[PathBuf]) -> Self {
        let mut granted = Vec::new();
        let mut add = |place: &Path, access| granted.push((real(place), access));
        for place in needs::READ {
            add(needs::path(place), Access::Read);
        }
        for place in needs::DEVICES {
            add(needs::path(place), Access::ReadWrite);
        }
        executes.iter().for_each(|place| add(place, Access::Read));
        own.iter().for_each(|place| add(place, Access::ReadWrite));
        for directory in &settings.directories {
            for place in directory.places(names).unwrap_or_default() {
                add(&place, directory.access);
            }
        }
        Self { granted }
    }

    pub(crate) fn of_file(&self, file: &Path) -> May {
        let file = real(file);
        let mut may = May { read: false, write: false };
        for (_, access) in self.granted.iter().filter(|(place, _)| file.starts_with(place)) {
            may.read |= *access != Access::Write;
            may.write |= *access != Access::Read;
        }
        may
    }
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let found = |above: &Path| Some(above.canonicalize().ok()?.join(path.strip_prefix(above).ok()?));
    path.ancestors().find_map(found).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_followed_as_far_as_it_exists() {
        assert_eq!(real(Path::new("/proc/self/../no-such/x")), Path::new("/proc/no-such/x"));
        assert_eq!(real(Path::new("/")), Path::new("/"));
        assert_eq!(real(Path::new("no-such")), Path::new("no-such"));
    }
}
