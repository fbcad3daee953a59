//! Finds hooks: `<driver>`, then `<driver>.d/*`, then `<driver>.d/<object>/<operation>/<sub-operation>/*`.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use rustix::fs::RawDir;

use super::file::{self, OpenError};
use super::scope::Scope;
use super::skipped::Skipped;
use super::trust::Trust;
use super::{dispatcher, mask, settings};
use crate::convention::LIBVIRT_DRIVERS;
use crate::convention::rules::ConventionError;
use crate::event::Event;

/// The backup files of editors and package managers, and settings files.
const NOT_HOOKS: [&str; 8] = ["~", ".bak", ".disabled", ".toml", ".rpmsave", ".rpmnew", ".rpmorig", ".swp"];
/// The levels of directories below `<driver>.d`: object, operation, sub-operation.
const EVENT_DEPTH: usize = 3;

/// A path that may be a hook.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    pub(crate) scope: Scope,
    /// Why the hook, or its directory, cannot be used.
    pub(crate) problem: Option<String>,
}

/// The contents of a hooks directory.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// By driver. Each driver's hooks are in call order.
    pub(crate) drivers: Vec<(String, Vec<Found>)>,
    pub(crate) strays: Vec<Skipped>,
    /// Directories whose hooks another hook runs, with the evidence.
    pub(crate) dispatched: Vec<Skipped>,
    /// The directories that were read.
    pub(crate) directories: Vec<DirectoryStamp>,
}

/// Bytes of directory entries that are read at once. A name has at most 255 bytes.
const ENTRIES_AT_ONCE: usize = 4 << 10;
/// Longer than a tick of the kernel's clock (10 ms at 100 Hz).
const LONGEST_TICK: Duration = Duration::from_millis(20);

/// The state of a directory before it was read.
#[derive(Debug)]
pub(crate) struct DirectoryStamp {
    pub(super) path: PathBuf,
    was: Identity,
}

/// Identifies the file of a name, and the link itself if it is one: device, inode, and change time. For a directory,
/// the change time is also that of its entries.
type Identity = [(u64, u64, i64, i64); 2];

impl DirectoryStamp {
    /// Waits until any later change has a later time: at most one tick of the kernel's clock.
    fn at(path: &Path) -> io::Result<Self> {
        let began = Instant::now();
        loop {
            let was = identity(path)?;
            if !may_change_unseen(&was) || began.elapsed() > LONGEST_TICK {
                return Ok(Self { path: path.to_owned(), was });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Whether the directory and its entries are unchanged.
    pub(crate) fn is_unchanged(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.was)
    }
}

/// Whether a file was changed within the current clock tick. Another change in this tick would have the same time. A
/// time in the future, as a file server's clock may give, does not count.
fn may_change_unseen(identity: &Identity) -> bool {
    let Ok(now) = clock_gettime(ClockId::CLOCK_REALTIME_COARSE) else { return false };
    let now = (now.tv_sec(), now.tv_nsec());
    identity.iter().any(|&(_, _, seconds, nanoseconds)| (seconds, nanoseconds) >= now && seconds <= now.0 + 1)
}

fn identity(path: &Path) -> io::Result<Identity> {
    let of = |found: &fs::Metadata| (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
    let name = fs::symlink_metadata(path)?;
    let file = if name.is_symlink() { of(&fs::metadata(path)?) } else { of(&name) };
    Ok([file, of(&name)])
}

/// Why a hooks directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It does not exist.
    #[error("there is no hooks directory {}: create it, or name another one", path.display())]
    Missing {
        /// The hooks directory.
        path: PathBuf,
    },
    /// It is not a directory.
    #[error("{} is not a directory: name the directory that holds the hooks", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("the hooks directory {} could not be read: {error}", path.display())]
    Unreadable {
        /// The hooks directory.
        path: PathBuf,
        /// The system's error. The message includes it, so it is not a `source`.
        error: io::Error,
    },
    /// It kept changing while it was read.
    #[error("the hooks directory {} keeps changing while it is read: try again later", path.display())]
    Changing {
        /// The hooks directory.
        path: PathBuf,
    },
    /// Other users could put hooks into it.
    #[error("the hooks directory {} cannot be trusted: {why}", path.display())]
    Untrusted {
        /// The hooks directory.
        path: PathBuf,
        /// What is wrong, and how to fix it.
        why: String,
    },
    /// A convention of the runtime is invalid.
    #[error(transparent)]
    Convention(#[from] ConventionError),
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

    fn of_opening(path: &Path, error: OpenError) -> Self {
        let directory = path.to_owned();
        match error {
            OpenError::NotFound(_) => Self::Missing { path: directory },
            OpenError::NotADirectory => Self::NotADirectory { path: directory },
            OpenError::Io(error) => Self::Unreadable { path: directory, error },
            OpenError::Refused(why) => Self::Untrusted { path: directory, why },
        }
    }
}

/// Finds the hooks of all drivers, or of one.
pub(crate) fn find(hooks: &Path, only: Option<&str>, trust: Trust) -> Result<Findings, LoadError> {
    let unreadable = |error| LoadError::new(hooks, error);
    let mut findings =
        Findings { directories: vec![DirectoryStamp::at(hooks).map_err(unreadable)?], ..Findings::default() };
    let opened = file::open_trusted_directory(hooks, trust).map_err(|error| LoadError::of_opening(hooks, error))?;
    let names = names(&opened, |name| !is_ignored(name)).map_err(unreadable)?;

    for name in &names {
        let path = hooks.join(name);
        let driver = name.to_str().map(|n| n.strip_suffix(".d").unwrap_or(n));
        match driver.filter(|driver| Event::new(driver, "-", "-").is_ok()) {
            driver if is_libvirts(hooks) && driver.is_none_or(|driver| !LIBVIRT_DRIVERS.contains(&driver)) => {
                if only.is_none() {
                    let reason = beside_libvirts_hooks(&path);
                    findings.strays.push(stray(path, &reason));
                }
            }
            None => findings
                .strays
                .push(stray(path, "is not called: hooks are named after their driver, or are in <driver>.d")),
            Some(driver) if only.is_some_and(|only| only != driver) => {}
            // `qemu` and `qemu.d` belong to the same driver.
            Some(driver) if findings.drivers.iter().any(|(seen, _)| seen == driver) => {}
            Some(driver) => {
                let found = find_driver(hooks, driver, trust, &mut findings);
                findings.drivers.push((driver.to_owned(), found));
            }
        }
    }
    if only.is_none() {
        orphaned_settings(hooks, &mut findings);
        ignored_files(&mut findings);
    }
    Ok(findings)
}

/// Whether this is libvirt's own directory, by its path. libvirt calls only files that are named after its drivers.
pub(crate) fn is_libvirts(hooks: &Path) -> bool {
    hooks.ends_with("libvirt/hooks")
}

/// Whether a directory has a hook of a libvirt driver, as a copy of libvirt's directory does.
pub(crate) fn looks_like_libvirts(hooks: &Path) -> bool {
    LIBVIRT_DRIVERS.iter().any(|driver| hooks.join(driver).is_file() || hooks.join(format!("{driver}.d")).is_dir())
}

/// What a file next to libvirt's hooks is.
pub(crate) fn beside_libvirts_hooks(path: &Path) -> String {
    match (path.metadata(), fs::read_link(path)) {
        (Ok(found), _) if found.is_dir() => "is not a hook: it is a directory, which hooks may use".to_owned(),
        (Err(_), Ok(target)) => format!("is not a hook: it is a link to {}, which does not exist", target.display()),
        _ => "is not a hook: libvirt calls only files that are named after one of its drivers".to_owned(),
    }
}

/// Adds the files that are ignored because of their names, without settings files.
fn ignored_files(findings: &mut Findings) {
    let directories = findings.directories.iter().map(|directory| directory.path.clone());
    let mut ignored: Vec<PathBuf> = directories
        .flat_map(fs::read_dir)
        .flatten()
        .flatten()
        .filter(|entry| is_ignored(&entry.file_name()) && !mask::is_aside(&entry.file_name()) && !entry.path().is_dir())
        .map(|entry| entry.path())
        .filter(|path| path.extension() != Some(OsStr::new("toml")))
        .collect();
    ignored.sort();
    for path in ignored {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let why = match NOT_HOOKS.iter().find(|end| name.ends_with(end.as_bytes())) {
            Some(end) => format!("is not called: names that end in {end} are ignored"),
            None if name.starts_with(b".") => "is not called: names that begin with . are ignored".to_owned(),
            None => "is not called: dpkg keeps old files under such names".to_owned(),
        };
        findings.strays.push(stray(path, &why));
    }
}

fn find_driver(hooks: &Path, driver: &str, trust: Trust, findings: &mut Findings) -> Vec<Found> {
    let mut found = Vec::new();
    let place = |path, problem| Found { path, scope: Scope::default(), problem };
    let general = hooks.join(driver);
    match general.symlink_metadata() {
        Ok(_) => found.push(place(general, None)),
        Err(error) if is_absent(&error) => {}
        Err(error) => found.push(place(general, Some(unexamined(&error)))),
    }
    let directory = hooks.join(format!("{driver}.d"));
    match directory.metadata() {
        Ok(meta) if meta.is_dir() => {
            let general = found.first().map(|found| found.path.clone());
            find_below(&directory, &Scope::default(), trust, &mut found, findings);
            if let Some(general) = general.filter(|_| found.iter().any(|found| !found.scope.0.is_empty())) {
                leave_to_dispatcher(&general, driver, trust, &mut found, findings);
            }
        }
        Ok(_) => {
            findings
                .strays
                .push(stray(directory, "is not called: it is a file, but this name is for a directory of hooks"));
        }
        Err(error) if !is_absent(&error) => found.push(place(directory, Some(unexamined(&error)))),
        Err(_) if directory.symlink_metadata().is_ok() => {
            let why = "it is a link to a directory that does not exist: correct the link, or remove it";
            found.push(place(directory, Some(why.to_owned())));
        }
        Err(_) => {}
    }
    refuse_shared_settings(&mut found);
    found
}

/// Refuses hooks that share a settings file, such as `20-policy` and `20-policy.wasm`.
fn refuse_shared_settings(found: &mut [Found]) {
    let is_callable = |path: &Path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.mode() & 0o111 != 0);
    let places: Vec<(PathBuf, PathBuf)> =
        found.iter().map(|found| (found.path.clone(), settings::file_name(&found.path))).collect();
    for (hook, (_, file)) in found.iter_mut().zip(&places).filter(|(hook, _)| hook.problem.is_none()) {
        let shares = |(other, its): &&(PathBuf, PathBuf)| *other != hook.path && its == file && is_callable(other);
        if let Some((other, _)) = places.iter().find(shares).filter(|_| file.symlink_metadata().is_ok()) {
            let (file, other) = (file.display(), other.display());
            hook.problem = Some(format!("its settings {file} are also those of {other}: rename one of the hooks"));
        }
    }
}

/// Removes the per-event hooks from hookvisor's list if the driver's own hook runs them.
fn leave_to_dispatcher(general: &Path, driver: &str, trust: Trust, found: &mut Vec<Found>, findings: &mut Findings) {
    if let Some(reason) = dispatcher::reason(general, driver, trust) {
        let directory = general.with_file_name(format!("{driver}.d"));
        found.retain(|found| found.scope.0.is_empty());
        findings.strays.retain(|stray| !stray.path.starts_with(&directory));
        findings.dispatched.push(Skipped { path: directory, reason });
    }
}

/// Finds the hooks in `<driver>.d` or below: first those of this directory, then those of narrower events.
fn find_below(directory: &Path, scope: &Scope, trust: Trust, found: &mut Vec<Found>, findings: &mut Findings) {
    let place = |path, problem| Found { path, scope: scope.clone(), problem };
    let names = match trusted_names(directory, trust, &mut findings.directories) {
        Ok(names) => names,
        Err(why) => {
            found.push(place(directory.to_owned(), Some(why)));
            return;
        }
    };
    let depth = scope.0.len();
    let mut directories = Vec::new();
    for name in names {
        let path = directory.join(&name);
        match path.metadata() {
            Ok(meta) if meta.is_dir() => directories.push((path, name)),
            // It may be a directory of hooks.
            Err(error) if !is_absent(&error) => found.push(place(path, Some(unexamined(&error)))),
            _ if depth == 0 || depth == EVENT_DEPTH => found.push(place(path, None)),
            _ => {
                let why = "is not called: per-event hooks are in <object>/<operation>/<sub-operation>/";
                findings.strays.push(stray(path, why));
            }
        }
    }
    for (path, name) in directories {
        if depth < EVENT_DEPTH {
            let narrower = Scope(scope.0.iter().cloned().chain([name]).collect());
            find_below(&path, &narrower, trust, found, findings);
        } else {
            findings.strays.push(stray(path, "is not called: it is a directory, not a hook"));
        }
    }
}

/// Whether the path does not exist. A permission error is not absence.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn unexamined(error: &io::Error) -> String {
    format!("it could not be examined: {error}")
}

pub(super) fn trusted_names(
    directory: &Path,
    trust: Trust,
    seen: &mut Vec<DirectoryStamp>,
) -> Result<Vec<OsString>, String> {
    let unreadable = |error: io::Error| format!("the directory could not be read: {error}");
    seen.push(DirectoryStamp::at(directory).map_err(unreadable)?);
    let opened = file::open_trusted_directory(directory, trust).map_err(|error| match error {
        OpenError::Io(error) => unreadable(error),
        other => other.to_string(),
    })?;
    // A directory below `<driver>.d` belongs to an object, whatever its name: libvirt allows `db.bak` and `vm~`.
    names(&opened, |name| !is_ignored(name) || directory.join(name).is_dir()).map_err(unreadable)
}

/// The names in an open directory that may belong to hooks, in byte order.
fn names(directory: &File, is_kept: impl Fn(&OsStr) -> bool) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(ENTRIES_AT_ONCE);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
        if name != "." && name != ".." && is_kept(&name) {
            names.push(name);
        }
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

pub(crate) fn is_ignored(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let dpkg = name.windows(6).rposition(|w| w == b".dpkg-").is_some_and(|at| !name[at + 1..].contains(&b'.'));
    name.starts_with(b".") || dpkg || NOT_HOOKS.iter().any(|end| name.ends_with(end.as_bytes()))
}

/// Settings files without a hook. With a misspelt name, the intended hook would run without its limits.
fn orphaned_settings(hooks: &Path, findings: &mut Findings) {
    let expected: Vec<PathBuf> =
        findings.drivers.iter().flat_map(|(_, found)| found).map(|found| settings::file_name(&found.path)).collect();
    let mut directories = vec![hooks.to_owned()];
    directories.extend(expected.iter().filter_map(|path| path.parent().map(Path::to_owned)));
    directories.sort();
    directories.dedup();
    for path in directories.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path()) {
        if path.extension() == Some(OsStr::new("toml")) && !expected.contains(&path) && !path.is_dir() {
            let why =
                "is not read: its hook does not exist; `x.toml` is for `x.wasm` or `x`, and `x.sh.toml` is for `x.sh`";
            findings.strays.push(stray(path, why));
        }
    }
}

fn stray(path: PathBuf, why: &str) -> Skipped {
    Skipped::new(path, why)
}
