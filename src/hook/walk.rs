//! Opens a file component by component, and checks everything on its path that decides which file it is.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::fault::{self, Fault, Place, Problem};
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
    /// Every link and directory, and the file itself: no other user can change its content.
    Whole,
    /// Every link and directory: no other user can put another file there.
    ToIt,
    /// Only links: no other user can redirect the path.
    Links,
}

#[derive(Debug)]
pub(super) enum WalkError {
    Io(io::Error),
    /// A whole sentence without its full stop.
    Untrusted(String),
}

/// Opens the file or directory at an absolute path. The error names everything on the path that cannot be trusted.
pub(super) fn open(path: &Path, trust: Trust, way: Way) -> Result<File, WalkError> {
    let mut walk = Walk { trust, way, faults: Vec::new() };
    let opened = walk.open(path);
    match walk.faults.as_slice() {
        [] => opened.map_err(WalkError::Io),
        faults => Err(WalkError::Untrusted(fault::sentence(faults, path))),
    }
}

/// What others could change on the path to a file, and the file itself.
pub(super) fn faults(path: &Path, trust: Trust) -> Vec<Fault> {
    let mut walk = Walk { trust, way: Way::Whole, faults: Vec::new() };
    // Even a path to a missing file can have faults.
    let _ = walk.open(path);
    walk.faults
}

/// An open directory on the path, and its path without links.
struct Standing {
    directory: File,
    path: PathBuf,
}

struct Walk {
    trust: Trust,
    way: Way,
    faults: Vec<Fault>,
}

impl Walk {
    /// Opens the file at the path. After a fault, the file is untrusted, so it is opened without reading.
    fn open(&mut self, path: &Path) -> io::Result<File> {
        let root = rustix::fs::open("/", LOOK | OFlags::DIRECTORY, Mode::empty())?;
        let mut places = vec![Standing { directory: root.into(), path: "/".into() }];
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
            if self.way != Way::Links {
                let found = here.directory.metadata()?;
                self.add(Place::Directory, &here.path, self.trust.problems_of_way(&here.directory, &found));
            }
            let path = here.path.join(&next);
            let opened = self.look(&here.directory, &next)?;
            let found = opened.metadata()?;
            if found.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                self.add(Place::Link, &path, self.trust.problems_of_owner(&found));
                let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                if target.is_absolute() {
                    places.truncate(1);
                }
                pending.extend(components(&target));
            } else if found.is_dir() {
                places.push(Standing { directory: opened, path });
            } else if pending.is_empty() {
                let file = if self.faults.is_empty() {
                    rustix::fs::openat(&here.directory, next.as_os_str(), READ, Mode::empty())?.into()
                } else {
                    opened
                };
                return self.arrived(Place::File, &path, file);
            } else {
                return Err(Errno::NOTDIR.into());
            }
        }
        let Some(end) = places.pop() else { return Err(Errno::NOENT.into()) };
        let directory = if self.faults.is_empty() { read_directory(&end.directory)? } else { end.directory };
        self.arrived(Place::Directory, &end.path, directory)
    }

    /// Opens a name with O_PATH. After a fault, another user's file system could block the caller, so it is not
    /// entered.
    fn look(&self, directory: &File, name: &OsStr) -> io::Result<File> {
        let opened = if self.faults.is_empty() {
            rustix::fs::openat(directory, name, LOOK, Mode::empty())
        } else {
            rustix::fs::openat2(directory, name, LOOK, Mode::empty(), ResolveFlags::NO_XDEV)
        };
        Ok(opened?.into())
    }

    fn arrived(&mut self, place: Place, path: &Path, file: File) -> io::Result<File> {
        if self.way == Way::Whole {
            let found = file.metadata()?;
            if !found.is_file() && !found.is_dir() {
                // The caller refuses devices in any case.
                return Ok(file);
            }
            self.add(place, path, self.trust.problems(&file, &found));
        }
        Ok(file)
    }

    fn add(&mut self, place: Place, path: &Path, problems: Vec<Problem>) {
        for problem in problems {
            let fault = Fault { place, path: path.to_owned(), problem };
            if !self.faults.contains(&fault) {
                self.faults.push(fault);
            }
        }
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
