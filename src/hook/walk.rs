//! Opens a file component by component, and checks everything that decides which file a path leads to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::trust::Trust;

/// How many symbolic links the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The file is opened for reading. A FIFO does not block, and what was checked is no link.
const READ: OFlags =
    OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// What has to be trusted on the way to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Every link and every directory: nobody else can put another file there.
    Full,
    /// Links alone: nobody else can lead the path elsewhere.
    Links,
}

#[derive(Debug)]
pub(super) enum WalkError {
    Io(io::Error),
    /// A complete sentence without its full stop.
    Untrusted(String),
}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// A directory on the way, open, and its path without links.
struct Place {
    directory: File,
    path: PathBuf,
}

/// Opens the file or directory that an absolute path leads to. The caller checks what was opened.
pub(super) fn open(path: &Path, trust: Trust, way: Way) -> Result<File, WalkError> {
    let root = rustix::fs::open("/", LOOK | OFlags::DIRECTORY, Mode::empty())?;
    let mut places = vec![Place { directory: root.into(), path: "/".into() }];
    let mut pending = components(path);
    let mut links = 0;
    while let Some(next) = pending.pop() {
        let Some(here) = places.last() else { return Err(Errno::NOENT.into()) };
        if next == ".." {
            if places.len() > 1 {
                places.pop();
            }
            continue;
        }
        if way == Way::Full {
            let found = here.directory.metadata().map_err(WalkError::Io)?;
            trust
                .check_way(&here.path, &here.directory, &found)
                .map_err(|why| WalkError::Untrusted(format!("the directory {} {why}", here.path.display())))?;
        }
        let path = here.path.join(&next);
        let opened = File::from(rustix::fs::openat(&here.directory, next.as_os_str(), LOOK, Mode::empty())?);
        let found = opened.metadata().map_err(WalkError::Io)?;
        if found.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::LOOP.into());
            }
            trust.check_link(&path, &found).map_err(|why| WalkError::Untrusted(format!("{} {why}", path.display())))?;
            let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            if target.is_absolute() {
                places.truncate(1);
            }
            pending.extend(components(&target));
        } else if found.is_dir() {
            places.push(Place { directory: opened, path });
        } else if pending.is_empty() {
            return Ok(rustix::fs::openat(&here.directory, next.as_os_str(), READ, Mode::empty())?.into());
        } else {
            return Err(Errno::NOTDIR.into());
        }
    }
    match places.pop() {
        Some(place) => read_directory(&place.directory).map_err(WalkError::Io),
        None => Err(Errno::NOENT.into()),
    }
}

fn read_directory(directory: &File) -> io::Result<File> {
    Ok(rustix::fs::openat(directory, ".", READ | OFlags::DIRECTORY, Mode::empty())?.into())
}

/// The components of a path, last one first. The root, where it has one, is where a walk begins.
fn components(path: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsStr::new("..").to_owned()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect();
    names.reverse();
    names
}
