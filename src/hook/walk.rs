//! Opens a file component by component, and checks everything on its path that decides which file it is.

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
/// Opens the file for reading. A FIFO does not block. The last component is no link any more.
const READ: OFlags =
    OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// What must be trusted on the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Every link and directory: no other user can put another file there.
    Full,
    /// Only links: no other user can redirect the path.
    Links,
}

#[derive(Debug)]
pub(super) enum WalkError {
    Io(io::Error),
    /// A whole sentence without its full stop.
    Untrusted(String),
}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// An open directory on the path, and its path without links.
struct Place {
    directory: File,
    path: PathBuf,
}

/// Opens the file or directory at an absolute path. The caller checks the opened file.
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

/// The components of a path in reverse. A walk starts at the root, so the root is left out.
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
