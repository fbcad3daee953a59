//! What a confined hook needs in order to run: its own file, its interpreters, their loader, and what these read.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::backend::native::shebang;

/// What interpreters read: libraries, their own modules, locales, and the files of the C library. Everybody can read
/// all of it. A directory ends with a slash.
pub(super) const READ: [&CStr; 34] = [
    c"/usr/lib/",
    c"/usr/lib64/",
    c"/lib/",
    c"/lib64/",
    c"/usr/local/lib/",
    c"/usr/share/",
    c"/usr/local/share/",
    c"/etc/ld.so.cache",
    c"/etc/ld.so.preload",
    c"/etc/ld.so.conf",
    c"/etc/ld.so.conf.d/",
    c"/etc/ld-musl-x86_64.path",
    c"/etc/locale.alias",
    c"/etc/localtime",
    c"/etc/timezone",
    c"/etc/passwd",
    c"/etc/group",
    c"/etc/nsswitch.conf",
    c"/etc/os-release",
    c"/etc/perl/",
    c"/etc/python3/",
    c"/etc/inputrc",
    c"/etc/bash.bashrc",
    c"/proc/cpuinfo",
    c"/proc/filesystems",
    c"/proc/loadavg",
    c"/proc/meminfo",
    c"/proc/stat",
    c"/proc/uptime",
    c"/proc/version",
    c"/proc/sys/kernel/osrelease",
    c"/proc/sys/kernel/ngroups_max",
    c"/proc/sys/vm/overcommit_memory",
    c"/sys/devices/system/cpu/online",
];

/// [`READ`] without `/lib` and `/lib64` if they are links to others of these. A running system keeps such links.
pub(super) static READ_HERE: LazyLock<Vec<&CStr>> = LazyLock::new(|| {
    let is_listed = |target: PathBuf| READ.into_iter().any(|other| path(other) == target);
    let is_link = |place: &CStr| fs::canonicalize(path(place)).is_ok_and(|to| to != path(place) && is_listed(to));
    READ.into_iter().filter(|place| !([c"/lib/", c"/lib64/"].contains(place) && is_link(place))).collect()
});

/// Devices that belong to nobody: writing to them has no effect, and reading reveals nothing.
pub(super) const DEVICES: [&CStr; 4] = [c"/dev/null", c"/dev/zero", c"/dev/random", c"/dev/urandom"];

/// Files that interpreters open at their start and do not need.
const DISPENSABLE: [&CStr; 2] = [c"/proc/self", c"/dev/tty"];

/// How many nested interpreters the kernel follows.
const DEEPEST: usize = 5;
const PT_INTERP: u32 = 3;

/// Whether a confined hook can open a file, or does not need it, whatever its grants are.
pub(crate) fn always_allowed(file: &Path, writes: bool) -> bool {
    let below = |list: &[&CStr]| list.iter().any(|allowed| file.starts_with(path(allowed)));
    below(&DEVICES) || below(&DISPENSABLE) || (!writes && below(&READ))
}

pub(super) fn path(place: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(place.to_bytes()))
}

/// The files that start a hook: its own, its interpreters and its loaders. `head`: the first bytes of the hook, if they
/// are known.
pub(crate) fn executes(hook: &Path, head: &[u8], search: &OsStr) -> Vec<PathBuf> {
    let mut found = vec![hook.to_owned()];
    let mut loaders = Vec::new();
    let mut at = 0;
    while let Some(path) = found.get(at)
        && at < DEEPEST
    {
        let known = if at == 0 { head } else { &[] };
        let (next, into) = match followed_by(path, known, search) {
            Followed::Loader(loader) => (vec![loader], &mut loaders),
            Followed::Interpreters(interpreters) => (interpreters, &mut found),
        };
        for next in next {
            if !into.contains(&next) {
                into.push(next);
            }
        }
        at += 1;
    }
    found.extend(loaders);
    found
}

/// The files that the kernel executes for a file.
enum Followed {
    /// The kernel does not follow a loader any further.
    Loader(PathBuf),
    Interpreters(Vec<PathBuf>),
}

fn followed_by(path: &Path, head: &[u8], search: &OsStr) -> Followed {
    if head.starts_with(b"#!") {
        return Followed::Interpreters(shebang::interpreters(head, search));
    }
    let mut head = [0; 4096];
    let read = File::open(path).and_then(|file| file.read_at(&mut head, 0)).unwrap_or_default();
    let head = head.get(..read).unwrap_or_default();
    match loader(head) {
        Some(loader) => Followed::Loader(loader),
        None => Followed::Interpreters(shebang::interpreters(head, search)),
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
        let of_sh = executes(Path::new("/bin/sh"), &[], search);
        assert!(of_sh.len() == 2 && of_sh[1].to_string_lossy().contains("/ld-"), "{of_sh:?}");
        assert_eq!(
            shebang::interpreters(b"#!/usr/bin/env -S sh -e\n", search),
            ["/usr/bin/env", "/usr/bin/sh"].map(PathBuf::from)
        );
    }
}
