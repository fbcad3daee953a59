//! What a confined hook needs in order to run: its own file, its interpreters, their loader, and what these read.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::backend::native::shebang;

/// What interpreters read: libraries, their own modules, locales, and the files of the C library. Everybody can read
/// all of it. A directory ends with a slash.
pub(super) const READ: [&str; 37] = [
    "/usr/lib/",
    "/usr/lib32/",
    "/usr/lib64/",
    "/usr/libx32/",
    "/lib/",
    "/lib32/",
    "/lib64/",
    "/usr/local/lib/",
    "/usr/share/",
    "/usr/local/share/",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d/",
    "/etc/ld-musl-x86_64.path",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/perl/",
    "/etc/python3/",
    "/etc/inputrc",
    "/etc/bash.bashrc",
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/ngroups_max",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu/online",
];

/// Devices that belong to nobody: writing to them has no effect, and reading reveals nothing.
pub(super) const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Files that interpreters open at their start and do not need.
const DISPENSABLE: [&str; 2] = ["/proc/self", "/dev/tty"];

/// How many nested interpreters the kernel follows.
const DEEPEST: usize = 5;
const PT_INTERP: u32 = 3;

/// Whether a confined hook can open a file, or does not need it, whatever its grants are.
pub(crate) fn always_allowed(path: &Path, writes: bool) -> bool {
    let below = |list: &[&str]| list.iter().any(|allowed| path.starts_with(allowed));
    below(&DEVICES) || below(&DISPENSABLE) || (!writes && below(&READ))
}

/// The files that start a hook: its own, its interpreters and its loaders.
pub(crate) fn executes(hook: &Path, search: &OsStr) -> Vec<PathBuf> {
    let mut found = vec![hook.to_owned()];
    let mut at = 0;
    while let Some(path) = found.get(at).cloned()
        && at < DEEPEST
    {
        for next in followed_by(&path, search) {
            if !found.contains(&next) {
                found.push(next);
            }
        }
        at += 1;
    }
    found
}

/// The files that the kernel executes for this file.
fn followed_by(path: &Path, search: &OsStr) -> Vec<PathBuf> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let mut head = [0; 4096];
    let Ok(read) = file.read_at(&mut head, 0) else { return Vec::new() };
    let head = head.get(..read).unwrap_or_default();
    match loader(head) {
        Some(loader) => vec![loader],
        None => shebang::interpreters(head, search),
    }
}

/// The dynamic loader that a 64-bit program names in its first page.
fn loader(head: &[u8]) -> Option<PathBuf> {
    let number = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        let mut number = [0; 8];
        number.get_mut(..size)?.copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(number)).ok()
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for entry in 0..count {
        let at = table.checked_add(entry.checked_mul(size)?)?;
        if number(at, 4)? == PT_INTERP as usize {
            let (offset, length) = (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?);
            let name = head.get(offset..offset.checked_add(length)?)?;
            return Some(OsStr::from_bytes(name.strip_suffix(b"\0")?).into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_and_a_script_execute_their_loader_and_interpreter() {
        let search = OsStr::new("/usr/bin:/bin");
        let of_sh = executes(Path::new("/bin/sh"), search);
        assert!(of_sh.len() == 2 && of_sh[1].to_string_lossy().contains("/ld-"), "{of_sh:?}");
        assert_eq!(
            shebang::interpreters(b"#!/usr/bin/env -S sh -e\n", search),
            ["/usr/bin/env", "/usr/bin/sh"].map(PathBuf::from)
        );
    }
}
