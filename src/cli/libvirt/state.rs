//! The record of what install has done, and what is in its place now.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hookvisor::Config;
use serde::{Deserialize, Serialize};

use super::launcher;
use crate::cli::layout::Layout;

/// One root: what was done, and where things are.
#[derive(Debug)]
pub(super) struct Site {
    root: PathBuf,
    pub(super) layout: Layout,
    pub(super) state: State,
}

/// What install has done. Later versions read these fields too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The directories that install created, outermost first, below the root.
    pub(super) directories: Vec<PathBuf>,
    /// By driver.
    pub(super) drivers: BTreeMap<String, Takeover>,
}

impl State {
    /// The moved hooks of all drivers.
    pub(super) fn moved(&self) -> impl Iterator<Item = &Moved> {
        self.drivers.values().flat_map(|taken| &taken.moved)
    }
}

/// How install took over one driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Takeover {
    /// The program that runs as the driver's hook.
    pub(super) program: String,
    /// How libvirt reaches it.
    #[serde(rename = "entry")]
    pub(super) entry_point: EntryPoint,
    /// The hooks that libvirt called before.
    pub(super) moved: Vec<Moved>,
    /// The links that replace moved links, below the root.
    pub(super) links: Vec<PathBuf>,
}

/// What libvirt finds as its hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum EntryPoint {
    /// A script that runs the program, and fails if that is missing.
    Launcher,
    /// A link to the program.
    Link,
}

/// A moved hook. Both paths are below the root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Moved {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
}

/// What is at the path of a driver's hook.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Nothing,
    /// What install put there.
    Installed(Takeover),
    /// A link to hookvisor that install did not make.
    LinkedByHand(PathBuf),
    /// What an install put there whose record is missing.
    Unrecorded,
    /// The administrator's hook. Install was not run.
    Own,
    /// Something else than install put there.
    Replaced(Takeover),
    /// Nothing, although install put something there.
    Removed(Takeover),
}

impl Site {
    pub(super) fn read(root: PathBuf) -> anyhow::Result<Self> {
        let layout = Layout::below(&root);
        let path = layout.state();
        let state = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).context(format!("{} could not be read", path.display())),
        };
        Ok(Self { root, layout, state })
    }

    /// Writes the record. Removes the file if the record is empty.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let path = self.layout.state();
        let written = if self.state.drivers.is_empty() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        } else {
            let text = serde_json::to_string_pretty(&self.state)? + "\n";
            let new = path.with_extension("json.new");
            fs::write(&new, text).and_then(|()| fs::File::open(&new)?.sync_all()).and_then(|()| fs::rename(&new, &path))
        };
        written.with_context(|| format!("{} could not be written", path.display()))
    }

    pub(super) fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the form of the record.
    pub(super) fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_owned()
    }

    /// A path as the running machine has it.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        Path::new("/").join(self.below(path))
    }

    /// A path from the record.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// The file at the end of a chain of links. Absolute links are relative to the root.
    pub(super) fn end_of_links(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..40 {
            let Ok(target) = fs::read_link(&path) else { return Some(path) };
            path = match target.strip_prefix("/") {
                Ok(below) => self.at(below),
                Err(_) => path.parent()?.join(target),
            };
        }
        None
    }

    /// hookvisor's own hooks directory, if its configuration can be read.
    pub(super) fn hooks(&self) -> PathBuf {
        let file = self.layout.config();
        let hooks = Config::read(&file).unwrap_or_else(|_| Config::without(&file)).hooks;
        if hooks.starts_with(&self.root) { hooks } else { self.at(hooks.strip_prefix("/").unwrap_or(&hooks)) }
    }

    /// Where libvirt looks for a driver's hook.
    pub(super) fn hook(&self, driver: &str) -> PathBuf {
        self.layout.libvirt_hooks().join(driver)
    }

    /// Where libvirt looks for further hooks.
    pub(super) fn directory(&self, driver: &str) -> PathBuf {
        self.layout.libvirt_hooks().join(format!("{driver}.d"))
    }

    /// The files of `<driver>.d` that libvirt runs itself: all executable regular files, in byte order.
    pub(super) fn run_by_libvirt(&self, driver: &str) -> Vec<PathBuf> {
        let directory = self.directory(driver);
        let runs = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        names(&directory).into_iter().map(|name| directory.join(name)).filter(runs).collect()
    }

    pub(super) fn find(&self, driver: &str) -> anyhow::Result<Finding> {
        let path = self.hook(driver);
        let taken = self.state.drivers.get(driver).cloned();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(taken.map_or(Finding::Nothing, Finding::Removed));
            }
            Err(error) => return Err(error).context(format!("{} could not be examined", path.display())),
        };
        let target = if found.is_symlink() { fs::read_link(&path).ok() } else { None };
        let is_launcher = found.is_file() && launcher::is_one(&path);
        Ok(match (taken, target) {
            (Some(taken), Some(target))
                if taken.entry_point == EntryPoint::Link && target == Path::new(&taken.program) =>
            {
                Finding::Installed(taken)
            }
            (Some(taken), None) if taken.entry_point == EntryPoint::Launcher && is_launcher => {
                Finding::Installed(taken)
            }
            (Some(taken), _) => Finding::Replaced(taken),
            (None, Some(target)) if target.file_name().is_some_and(|name| name == "hookvisor") => {
                Finding::LinkedByHand(target)
            }
            (None, _) if is_launcher => Finding::Unrecorded,
            (None, _) if found.is_dir() => {
                bail!(
                    "{} is a directory: libvirt calls a file of that name, so move the directory away",
                    path.display()
                )
            }
            (None, _) => Finding::Own,
        })
    }
}

/// The names in a directory, in byte order. Empty if it cannot be read.
pub(super) fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    names
}
