//! Moves files and back, within one file system or across two.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The suffix of the temporary name under which a file is written.
pub(super) const NEW: &str = ".hookvisor-new";

/// Gives a file a second name, or copies it to another file system. The first name stays, so that the hook always
/// exists.
pub(super) fn second_name(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => {
            let new = beside(to);
            copy(from, &new)?;
            fs::rename(&new, to)
        }
        Ok(()) => Ok(()),
    }
}

/// Moves a file back and replaces whatever has its old name.
pub(super) fn back(from: &Path, to: &Path) -> io::Result<()> {
    // rename does nothing for two names of the same file.
    if is_one_file(from, to) {
        return fs::remove_file(from);
    }
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let new = beside(to);
            copy(from, &new)?;
            fs::rename(&new, to)?;
            fs::remove_file(from)
        }
        renamed => renamed,
    }
}

/// Whether two names belong to one file, or to a file and its copy, as an interrupted move leaves them.
pub(super) fn is_same(a: &Path, b: &Path) -> bool {
    let target = |path| fs::read_link(path).ok();
    let (Ok(found_a), Ok(found_b)) = (fs::symlink_metadata(a), fs::symlink_metadata(b)) else { return false };
    is_one_file(a, b)
        || (found_a.mode(), found_a.uid(), found_a.len()) == (found_b.mode(), found_b.uid(), found_b.len())
            && if found_a.is_symlink() {
                target(a) == target(b)
            } else {
                fs::read(a).ok().is_some_and(|bytes| fs::read(b).is_ok_and(|other| bytes == other))
            }
}

fn is_one_file(a: &Path, b: &Path) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

pub(super) fn beside(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(NEW);
    new.into()
}

/// Copies with everything that `cp` can keep: mode, owner, times, ACL, SELinux label; a link as a link.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut cp = Command::new("cp");
    cp.args(["--archive", "--no-target-directory", "--"]).args([from, to]).stdin(Stdio::null());
    let ran = cp.output()?;
    if ran.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&ran.stderr).trim().to_owned()))
}
