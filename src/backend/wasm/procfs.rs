//! Recognizes files in procfs that belong to a process: its memory, environment and descriptors. Hooks never open them,
//! whatever their grants are, since one of the processes is the host.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs, statfs};

/// The inode of procfs's root (PROC_ROOT_INO).
const ROOT: u64 = 1;

/// Whether an open file or directory belongs to a process. True if this cannot be determined.
pub(super) fn is_of_a_process(file: &File) -> bool {
    match fstatfs(file) {
        Ok(found) if found.filesystem_type() != PROC_SUPER_MAGIC => false,
        Ok(_) => {
            fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).map_or(true, |path| is_below_a_process(&path))
        }
        Err(_) => true,
    }
}

/// The same for a path within procfs, which may be mounted anywhere.
fn is_below_a_process(path: &Path) -> bool {
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let is_procfs = |path: &Path| statfs(path).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
    let Some(mount) = ancestors.into_iter().find(|path| is_procfs(path)) else { return true };
    if !fs::metadata(mount).is_ok_and(|found| found.ino() == ROOT) {
        // A part of procfs has its own mount.
        return true;
    }
    match path.strip_prefix(mount).map(|below| below.components().next()) {
        Ok(None) => false,
        Ok(Some(Component::Normal(name))) => {
            name == "self" || name == "thread-self" || name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        }
        Ok(Some(_)) | Err(_) => true,
    }
}

/// Makes reads fail that would block, such as of /proc/kmsg. Other files are not affected.
pub(super) fn never_wait(file: &File) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_process_s_own_files_belong_to_it() {
        let belongs = |path: &str| File::open(path).map(|file| is_of_a_process(&file)).ok();
        for path in ["/proc/self", "/proc/self/environ", "/proc/self/task", "/proc/thread-self/environ", "/proc/1"] {
            assert_eq!(belongs(path), Some(true), "{path}");
        }
        for path in ["/proc", "/proc/sys", "/proc/sys/kernel/ostype", "/proc/meminfo", "/", "/etc/passwd"] {
            assert_eq!(belongs(path), Some(false), "{path}");
        }
    }
}
