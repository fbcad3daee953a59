//! Opens a file component by component, and checks everything on its path that decides which file it is.

use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::fault::{self, Fault, Place, Problem};
use super::trust::Trust;

/// How many symbolic links the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;
/// How many directories a [`OneLook`] keeps open.
const MOST_REACHED: usize = 64;
/// How long a [`OneLook`] uses what it has examined.
const FRESH: Duration = Duration::from_millis(10);
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

/// Opens the file or directory at an absolute path, and examines it. The error names everything on the path that cannot be
/// trusted.
pub(super) fn open(path: &Path, trust: Trust, way: Way) -> Result<(File, Metadata), WalkError> {
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

/// An open directory on the path.
struct Standing {
    directory: File,
    found: Metadata,
    /// The names from the root to it, without links.
    depth: usize,
    name: OsString,
    /// `None` for the root.
    parent: Option<Rc<Standing>>,
}

impl Standing {
    fn path(&self) -> PathBuf {
        self.parent.as_ref().map_or_else(|| "/".into(), |parent| parent.path().join(&self.name))
    }

    /// Whether it is on the way of these names, which are in reverse.
    fn leads_to(&self, names: &[OsString]) -> bool {
        let Some(parent) = &self.parent else { return true };
        names.len() >= self.depth && names[names.len() - self.depth] == self.name && parent.leads_to(names)
    }
}

/// Directories that walks reached without a fault, each with the rule that it was judged by.
struct Reached {
    since: Instant,
    places: Vec<(Trust, Rc<Standing>)>,
}

impl Reached {
    fn nothing() -> Self {
        Self { since: Instant::now(), places: Vec::new() }
    }
}

thread_local! {
    /// There while a [`OneLook`] exists, which drops it. A destructor of the thread's would cost a start two pages.
    static REACHED: RefCell<ManuallyDrop<Option<Reached>>> = const { RefCell::new(ManuallyDrop::new(None)) };
}

fn set_reached(reached: Option<Reached>) {
    drop(REACHED.with_borrow_mut(|before| std::mem::replace(&mut **before, reached)));
}

/// While this exists, the walks of this thread open each directory once in [`FRESH`], and judge it by what they found then.
/// A later walk does not see that the owner of such a directory has changed or replaced it meanwhile.
pub struct OneLook {
    is_outermost: bool,
    _of_this_thread: PhantomData<Rc<()>>,
}

impl OneLook {
    /// Begins one, unless there is one already.
    #[must_use]
    pub fn begin() -> Self {
        let is_outermost = REACHED.with_borrow(|reached| reached.is_none());
        if is_outermost {
            set_reached(Some(Reached::nothing()));
        }
        Self { is_outermost, _of_this_thread: PhantomData }
    }

    /// Ends what exists in this thread. A program that was started may change any directory.
    pub(crate) fn end_all() {
        set_reached(None);
    }
}

impl Drop for OneLook {
    fn drop(&mut self) {
        if self.is_outermost {
            set_reached(None);
        }
    }
}

struct Walk {
    trust: Trust,
    way: Way,
    faults: Vec<Fault>,
}

impl Walk {
    /// Opens the file at the path. After a fault, the file is untrusted, so it is opened without reading.
    fn open(&mut self, path: &Path) -> io::Result<(File, Metadata)> {
        let mut pending = components(path);
        let mut here = self.start(&mut pending)?;
        let mut links = 0;
        while let Some(next) = pending.pop() {
            if next == ".." {
                here = here.parent.clone().unwrap_or(here);
                continue;
            }
            if self.way != Way::Links {
                self.add(Place::Directory, || here.path(), self.trust.problems_of_way(&here.directory, &here.found));
            }
            let opened = self.look(&here.directory, &next)?;
            let found = opened.metadata()?;
            if found.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                self.add(Place::Link, || here.path().join(&next), self.trust.problems_of_owner(&found));
                let target = rustix::fs::readlinkat(&opened, "", Vec::new())?;
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                pending.extend(components(&target));
                if target.is_absolute() {
                    here = self.start(&mut pending)?;
                }
            } else if found.is_dir() {
                let depth = here.depth + 1;
                here = Rc::new(Standing { directory: opened, found, depth, name: next, parent: Some(here) });
                self.remember(&here);
            } else if pending.is_empty() {
                let file = if self.faults.is_empty() {
                    rustix::fs::openat(&here.directory, next.as_os_str(), READ, Mode::empty())?.into()
                } else {
                    opened
                };
                return self.arrived(Place::File, || here.path().join(&next), file);
            } else {
                return Err(Errno::NOTDIR.into());
            }
        }
        let directory =
            if self.faults.is_empty() { read_directory(&here.directory)? } else { here.directory.try_clone()? };
        self.arrived(Place::Directory, || here.path(), directory)
    }

    /// Where to begin: at the root, or at the deepest directory of the path that an earlier walk has reached. Removes
    /// its components.
    fn start(&self, pending: &mut Vec<OsString>) -> io::Result<Rc<Standing>> {
        let reached = REACHED.with_borrow_mut(|reached| {
            let reached = reached.as_mut().filter(|_| self.can_use_reached())?;
            if reached.since.elapsed() > FRESH {
                *reached = Reached::nothing();
            }
            let places = reached.places.iter().filter(|(trust, place)| *trust == self.trust && place.leads_to(pending));
            places.map(|(_, place)| Rc::clone(place)).max_by_key(|place| place.depth)
        });
        if let Some(place) = reached {
            pending.truncate(pending.len() - place.depth);
            return Ok(place);
        }
        let directory = File::from(rustix::fs::open("/", LOOK | OFlags::DIRECTORY, Mode::empty())?);
        let found = directory.metadata()?;
        Ok(Rc::new(Standing { directory, found, depth: 0, name: OsString::new(), parent: None }))
    }

    /// Walks of [`Way::Links`] do not examine directories, and after a fault the path has to be told.
    fn can_use_reached(&self) -> bool {
        self.way != Way::Links && self.faults.is_empty()
    }

    fn remember(&self, place: &Rc<Standing>) {
        if self.can_use_reached() {
            REACHED.with_borrow_mut(|reached| {
                if let Some(reached) = reached.as_mut().filter(|reached| reached.places.len() < MOST_REACHED) {
                    reached.places.push((self.trust, Rc::clone(place)));
                }
            });
        }
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

    fn arrived(&mut self, place: Place, path: impl Fn() -> PathBuf, file: File) -> io::Result<(File, Metadata)> {
        let found = file.metadata()?;
        // The caller refuses devices in any case.
        if self.way == Way::Whole && (found.is_file() || found.is_dir()) {
            self.add(place, path, self.trust.problems(&file, &found));
        }
        Ok((file, found))
    }

    fn add(&mut self, place: Place, path: impl Fn() -> PathBuf, problems: Vec<Problem>) {
        for problem in problems {
            let fault = Fault { place, path: path(), problem };
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn content(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        let opened = open(path, Trust::not_enforced(), Way::Whole);
        let (mut file, _) = opened.map_err(|error| io::Error::other(format!("{error:?}")))?;
        file.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn one_look_follows_the_same_paths_and_ends_with_its_guard() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let at = |name: &str| root.path().join(name);
        fs::create_dir_all(at("a/b"))?;
        fs::write(at("a/file"), "a")?;
        fs::write(at("a/b/file"), "b")?;
        symlink(at("a/b"), at("absolute"))?;
        symlink("a/b", at("relative"))?;
        let paths = ["a/file", "a/b/file", "a/b/../file", "absolute/file", "relative/../file", "a/../a/b/file"];
        let apart: Vec<String> = paths.iter().map(|path| content(&at(path))).collect::<Result<_, _>>()?;
        assert_eq!(apart, ["a", "b", "a", "b", "a", "b"]);

        let look = OneLook::begin();
        for _ in 0..2 {
            let together: Vec<String> = paths.iter().map(|path| content(&at(path))).collect::<Result<_, _>>()?;
            assert_eq!(together, apart);
        }
        drop(OneLook::begin());
        assert!(REACHED.with_borrow(|reached| reached.is_some()), "an inner one ends nothing");
        drop(look);
        assert!(REACHED.with_borrow(|reached| reached.is_none()));

        fs::rename(at("a"), at("old"))?;
        fs::create_dir(at("a"))?;
        fs::write(at("a/file"), "new")?;
        assert_eq!(content(&at("a/file"))?, "new");
        Ok(())
    }
}
