//! `[[dir]]`: directories, and for confined hooks files, of the host.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer, de};

use super::names::{Names, substitute};
use super::paths::absolute;
use crate::hook::pattern::Pattern;

/// `[[dir]]`: a directory of the host, as a WASI pre-opened directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryGrant {
    #[serde(deserialize_with = "place")]
    pub(crate) host: PathBuf,
    guest: Option<String>,
    #[serde(default)]
    pub(crate) access: Access,
}

/// The access to a directory and everything below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    #[default]
    Read,
    /// Confined hooks only.
    Write,
    ReadWrite,
}

/// The most directories that one pattern may match.
const MOST_PLACES: usize = 256;

/// Directories whose grant allows more than it seems to, and what it allows.
const SENSITIVE: [(&str, &str); 3] = [
    ("/proc", "the kernel's settings"),
    ("/sys/kernel/security", "the policies of security modules"),
    ("/dev", "the shared memory of other programs"),
];

impl DirectoryGrant {
    /// A warning about this grant, for the administrator.
    pub(crate) fn warning(&self) -> Option<String> {
        let host = std::fs::canonicalize(&self.host).unwrap_or_else(|_| self.host.clone());
        let opened: Vec<String> = SENSITIVE
            .iter()
            .filter(|(path, _)| Path::new(path).starts_with(&host))
            .map(|(path, what)| format!("{path} ({what})"))
            .collect();
        (!opened.is_empty()).then(|| {
            format!(
                "its grant of {} opens {}: grant only the directory that the hook needs",
                self.host.display(),
                opened.join(", ")
            )
        })
    }

    /// Whether the granted paths depend on the event: the path has a name of the event or a shell pattern.
    pub(crate) fn is_pattern(&self) -> bool {
        let text = self.host.to_string_lossy();
        text.contains("{object}") || text.contains("{operation}") || is_glob(&text)
    }

    /// The paths for an event. A pattern may match nothing.
    pub(crate) fn places(&self, names: Names<'_>) -> Result<Vec<PathBuf>, String> {
        if !self.is_pattern() {
            return Ok(vec![self.host.clone()]);
        }
        let mut places = vec![PathBuf::from("/")];
        for component in self.host.components().skip(1) {
            places = below(&places, &component.as_os_str().to_string_lossy(), names)?;
            if places.len() > MOST_PLACES {
                return Err(format!("{} matches more than {MOST_PLACES} places", self.host.display()));
            }
        }
        Ok(places)
    }

    /// Whether the guest sees it under another name than the host.
    pub(crate) fn is_renamed(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| self.host.to_str() != Some(guest))
    }

    /// The name that the guest sees.
    #[cfg(feature = "wasm")]
    pub(crate) fn guest(&self, place: &Path) -> String {
        self.guest.clone().unwrap_or_else(|| place.to_string_lossy().into_owned())
    }
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The paths for one component of a pattern, below these.
fn below(places: &[PathBuf], component: &str, names: Names<'_>) -> Result<Vec<PathBuf>, String> {
    for (placeholder, name) in [("{object}", names.object), ("{operation}", names.operation)] {
        if component.contains(placeholder) && (name.is_empty() || name.starts_with('.') || name.contains(['/', '\0'])) {
            return Err(format!("the name {name:?} cannot be used in the path of a directory"));
        }
    }
    if !is_glob(component) {
        let name = substitute(component, names);
        return Ok(places.iter().map(|place| place.join(&name)).collect());
    }
    let (object, operation) = (globset::escape(names.object), globset::escape(names.operation));
    let pattern = substitute(component, Names { object: &object, operation: &operation });
    let pattern = Pattern::new(&pattern)?;
    let mut found = Vec::new();
    for place in places {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        found.extend(entries.filter(|entry| pattern.matches(entry.file_name().as_bytes())).map(|entry| entry.path()));
    }
    found.sort();
    Ok(found)
}

/// A path that may contain the event's names and shell patterns.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = absolute(deserializer)?;
    for component in path.components() {
        if component == Component::ParentDir {
            return Err(de::Error::custom(format!("{:?} contains \"..\"", path.display().to_string())));
        }
        let text = component.as_os_str().to_string_lossy();
        if is_glob(&text) {
            Pattern::new(&text).map_err(de::Error::custom)?;
        }
    }
    Ok(path)
}

impl fmt::Display for DirectoryGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = match self.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "read and write",
        };
        write!(f, "{may} {}", self.host.display())?;
        match &self.guest {
            Some(guest) => write!(f, " as {guest}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_may_be_of_the_event() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        for name in ["web1", "web2", "[x]", "cpu0/state", "cpu1/state", "cpu1/other"] {
            std::fs::create_dir_all(directory.path().join(name))?;
        }
        let root = directory.path().display();
        let places = |pattern: &str, object: &str| {
            let grant: Option<DirectoryGrant> = toml::from_str(&format!("host = '{root}/{pattern}'")).ok();
            let found = grant.map(|grant| grant.places(Names { object, operation: "start" }));
            let name = |path: &PathBuf| path.strip_prefix(directory.path()).ok()?.to_str().map(str::to_owned);
            found.and_then(Result::ok).map(|found| found.iter().filter_map(name).collect::<Vec<_>>())
        };
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(places("{object}", "web1"), some(&["web1"]));
        assert_eq!(places("cpu*/state", "web1"), some(&["cpu0/state", "cpu1/state"]));
        assert_eq!(places("{object}*", "web"), some(&["web1", "web2"]));
        // A guest's name is not a pattern, and does not lead out of a directory.
        assert_eq!(places("{object}*", "*"), some(&[]));
        assert_eq!(places("{object}?", "[x"), some(&["[x]"]));
        for object in ["..", ".", "", "a/b"] {
            assert_eq!(places("{object}", object), None, "{object:?}");
        }
        assert_eq!(places("../x", "web1"), None);
        Ok(())
    }
}
