//! Finding hooks: `<driver>`, then `<driver>.d/*`, then `<driver>.d/<object>/<operation>/<sub-operation>/*`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::trust::Trust;
use super::{Scope, file, settings};
use crate::event::Event;
use crate::report::Skipped;

/// What editors and package managers leave beside a hook, and a hook's settings.
const NOT_HOOKS: [&str; 7] = ["~", ".bak", ".toml", ".rpmsave", ".rpmnew", ".rpmorig", ".swp"];
/// Directories below `<driver>.d`: object, operation, sub-operation.
const EVENT_DEPTH: usize = 3;

/// A place where a hook may be.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) scope: Scope,
    /// Why what is there, one hook or a directory of them, cannot be used.
    pub(crate) problem: Option<String>,
}

/// What a hooks directory holds.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By driver, each driver's in order.
    pub(crate) drivers: Vec<(String, Vec<Found>)>,
    pub(crate) strays: Vec<Skipped>,
}

/// Why a hooks directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It is not there.
    #[error("there is no hooks directory {}: create it, or name another one", path.display())]
    Missing {
        /// The hooks directory.
        path: PathBuf,
    },
    /// It is something else.
    #[error("{} is not a directory: name the directory that holds the hooks", path.display())]
    NotADirectory {
        /// What was named.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the hooks directory {} could not be read: {error}", path.display())]
    Unreadable {
        /// The hooks directory.
        path: PathBuf,
        /// What the system said; the message above has it, so it is no `source` that would be told twice.
        error: io::Error,
    },
    /// Others than the runtime's own user could put hooks into it.
    #[error("the hooks directory {} is not to be trusted: it {why}", path.display())]
    Untrusted {
        /// The hooks directory.
        path: PathBuf,
        /// What is wrong with it, and how to mend it.
        why: String,
    },
}

impl LoadError {
    pub(crate) fn new(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory => Self::NotADirectory { path },
            _ => Self::Unreadable { path, error },
        }
    }
}

/// Looks through a hooks directory, for all drivers or for one.
pub(crate) fn find(hooks: &Path, only: Option<&str>, trust: Trust) -> Result<Findings, LoadError> {
    let unreadable = |error| LoadError::new(hooks, error);
    let found = open_directory(hooks).and_then(|directory| directory.metadata()).map_err(unreadable)?;
    trust.check(hooks, &found).map_err(|why| LoadError::Untrusted { path: hooks.to_owned(), why })?;
    let names = names(hooks).map_err(unreadable)?;

    let mut findings = Findings::default();
    for name in &names {
        let path = hooks.join(name);
        let driver = name.to_str().map(|n| n.strip_suffix(".d").unwrap_or(n));
        match driver.filter(|driver| Event::new(driver, "-", "-").is_ok()) {
            None => findings
                .strays
                .push(stray(path, "is not called: hooks are named for their driver, or lie in <driver>.d")),
            Some(driver) if only.is_some_and(|only| only != driver) => {}
            // `qemu` and `qemu.d` are one driver's.
            Some(driver) if findings.drivers.iter().any(|(seen, _)| seen == driver) => {}
            Some(driver) => {
                let found = find_driver(hooks, driver, trust, &mut findings.strays);
                findings.drivers.push((driver.to_owned(), found));
            }
        }
    }
    if only.is_none() {
        orphaned_settings(hooks, &mut findings);
    }
    Ok(findings)
}

fn find_driver(hooks: &Path, driver: &str, trust: Trust, strays: &mut Vec<Skipped>) -> Vec<Found> {
    let mut found = Vec::new();
    let general = hooks.join(driver);
    if general.symlink_metadata().is_ok() {
        found.push(Found { path: general, scope: Scope::default(), problem: None });
    }
    let directory = hooks.join(format!("{driver}.d"));
    match directory.metadata() {
        Ok(meta) if meta.is_dir() => find_below(&directory, &Scope::default(), trust, &mut found, strays),
        Ok(_) => strays.push(stray(directory, "is not called: it is a file, where a directory of hooks would be")),
        Err(_) if directory.symlink_metadata().is_ok() => found.push(Found {
            path: directory,
            scope: Scope::default(),
            problem: Some("it is a link to a directory that is not there: correct the link, or remove it".to_owned()),
        }),
        Err(_) => {}
    }
    found
}

/// Finds the hooks in `<driver>.d` or below: those of this directory first, then those for narrower events.
fn find_below(directory: &Path, scope: &Scope, trust: Trust, found: &mut Vec<Found>, strays: &mut Vec<Skipped>) {
    let names = match trusted_names(directory, trust) {
        Ok(names) => names,
        Err(why) => {
            found.push(Found { path: directory.to_owned(), scope: scope.clone(), problem: Some(why) });
            return;
        }
    };
    let depth = scope.0.len();
    let holds_hooks = depth == 0 || depth == EVENT_DEPTH;
    let (directories, files): (Vec<_>, Vec<_>) =
        names.into_iter().map(|name| (directory.join(&name), name)).partition(|(path, _)| path.is_dir());
    for (path, _) in files {
        if holds_hooks {
            found.push(Found { path, scope: scope.clone(), problem: None });
        } else {
            strays.push(stray(path, "is not called: hooks for one event lie in <object>/<operation>/<sub-operation>/"));
        }
    }
    for (path, name) in directories {
        if depth < EVENT_DEPTH {
            let narrower = Scope(scope.0.iter().cloned().chain([name]).collect());
            find_below(&path, &narrower, trust, found, strays);
        } else {
            strays.push(stray(path, "is not called: it is a directory, not a hook"));
        }
    }
}

fn trusted_names(directory: &Path, trust: Trust) -> Result<Vec<OsString>, String> {
    let unreadable = |error: io::Error| format!("the directory could not be read: {error}");
    let found = open_directory(directory).and_then(|opened| opened.metadata()).map_err(unreadable)?;
    trust.check(directory, &found).map_err(|why| format!("it {why}"))?;
    file::check_way_of_link(directory, trust)?;
    names(directory).map_err(unreadable)
}

/// A FIFO in a directory's place does not block this.
fn open_directory(directory: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECTORY.bits()).open(directory)
}

/// The names in a directory that may be hooks', in byte order.
fn names(directory: &Path) -> io::Result<Vec<OsString>> {
    let names: io::Result<Vec<OsString>> = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect();
    let mut names: Vec<OsString> = names?.into_iter().filter(|name| !is_ignored(name)).collect();
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let dpkg = name.windows(6).rposition(|w| w == b".dpkg-").is_some_and(|at| !name[at + 1..].contains(&b'.'));
    name.starts_with(b".") || dpkg || NOT_HOOKS.iter().any(|end| name.ends_with(end.as_bytes()))
}

/// Settings that are there for a hook that is not: a slip in the name that would leave a hook without its limits.
fn orphaned_settings(hooks: &Path, findings: &mut Findings) {
    let expected: Vec<PathBuf> =
        findings.drivers.iter().flat_map(|(_, found)| found).map(|found| settings::file_name(&found.path)).collect();
    let mut directories = vec![hooks.to_owned()];
    directories.extend(expected.iter().filter_map(|path| path.parent().map(Path::to_owned)));
    directories.sort();
    directories.dedup();
    for path in directories.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path()) {
        if path.extension() == Some(OsStr::new("toml")) && !expected.contains(&path) {
            let why = "is not read: no hook has this name; the settings of `x.wasm` are in `x.toml`, those of any other hook \
                       in its whole name and `.toml`";
            findings.strays.push(stray(path, why));
        }
    }
}

fn stray(path: PathBuf, why: &str) -> Skipped {
    Skipped { path, reason: why.to_owned() }
}
