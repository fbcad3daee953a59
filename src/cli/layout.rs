//! Paths of an installation, on this machine or in another root directory.

use std::path::{Path, PathBuf};
use std::{env, io};

/// libvirt's hooks directory, as distributions compile it in.
const LIBVIRT_HOOKS: &str = "etc/libvirt/hooks";
/// Where install keeps libvirt's former hooks: next to libvirt's directory, so that `..` means the same in both.
const KEPT_SCRIPTS: &str = "etc/libvirt/hookvisor";
const KEPT_DIRECTORIES: &str = "etc/libvirt/hookvisor.d";

/// The small program of a package, without the compiler, and its full program, which the small one executes.
pub(super) const SMALL_PROGRAM: &str = "hookvisor-hook";
const FULL_PROGRAM: &str = "libexec/hookvisor/hookvisor";

/// The full program of the package that this small program belongs to.
#[cfg(all(feature = "wasm", not(feature = "compiler")))]
pub(super) fn packaged_full_program(small: &Path) -> Option<PathBuf> {
    Some(small.parent()?.parent()?.join(FULL_PROGRAM))
}

/// This program's file. For the full program of a package, it is the small one that users and daemons call.
pub(super) fn this_program() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    let prefix = own.ancestors().nth(Path::new(FULL_PROGRAM).iter().count()).filter(|_| own.ends_with(FULL_PROGRAM));
    let small = prefix.map(|prefix| prefix.join("bin").join(SMALL_PROGRAM));
    Ok(small.filter(|small| small.is_file()).unwrap_or(own))
}

/// The paths of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn of_this_machine() -> Self {
        Self::below("/")
    }

    pub(super) fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The installation that a libvirt hook belongs to, found from the hook's absolute path.
    ///
    /// libvirt calls its hooks by a compiled-in path, so this is `/`, `/usr/local`, or the root of an image. No environment
    /// variable changes it, because daemons inherit variables from the process that started them.
    pub(super) fn of_libvirt_hook(path: &Path) -> Self {
        let directory = path.parent().filter(|directory| directory.is_absolute() && directory.ends_with(LIBVIRT_HOOKS));
        let root = directory.and_then(|directory| directory.ancestors().nth(Path::new(LIBVIRT_HOOKS).iter().count()));
        root.map_or_else(Self::of_this_machine, Self::below)
    }

    /// The cache directory; `None` on this machine, where it depends on the user.
    #[cfg(feature = "wasm")]
    pub(super) fn cache(&self) -> Option<PathBuf> {
        (self.root != Path::new("/")).then(|| self.root.join("var/cache/hookvisor"))
    }

    /// The default file for the record of events.
    pub(super) fn history(&self) -> PathBuf {
        self.root.join("var/log/hookvisor/history.jsonl")
    }

    pub(super) fn libvirt_hooks(&self) -> PathBuf {
        self.root.join(LIBVIRT_HOOKS)
    }

    /// The scripts that libvirt called before `hookvisor libvirt install`, under their own names.
    pub(super) fn kept_scripts(&self) -> PathBuf {
        self.root.join(KEPT_SCRIPTS)
    }

    /// The hooks of `<driver>.d` that `hookvisor libvirt install` took over, each in its `<driver>.d`.
    ///
    /// They are not in [`kept_scripts`](Self::kept_scripts), where `<driver>.d` is a link to libvirt's directory: a
    /// dispatcher script that looks there for a guest's directory also finds those created later.
    pub(super) fn kept_directories(&self) -> PathBuf {
        self.root.join(KEPT_DIRECTORIES)
    }

    /// The former hooks of a driver, which hookvisor runs first, in libvirt's order.
    pub(super) fn kept_hooks(&self, driver: &str) -> [PathBuf; 2] {
        [self.kept_scripts().join(driver), self.kept_directories().join(format!("{driver}.d"))]
    }

    /// Whether a path belongs to a kept hook, in any root directory.
    pub(super) fn keeps(path: &Path) -> bool {
        let is_kept = |directory: &Path| directory.ends_with(KEPT_SCRIPTS) || directory.ends_with(KEPT_DIRECTORIES);
        path.ancestors().skip(1).any(is_kept)
    }

    /// The file in which `hookvisor libvirt install` records its changes.
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("var/lib/hookvisor/libvirt.json")
    }

    /// The binfmt entry for `.wasm` files, which systemd registers at boot.
    pub(super) fn binfmt(&self) -> PathBuf {
        self.root.join("etc/binfmt.d/hookvisor.conf")
    }

    pub(super) fn config(&self) -> PathBuf {
        self.root.join("etc/hookvisor/hookvisor.toml")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_libvirt_hook_finds_the_configuration_beside_libvirts() {
        let config = |path: &str| Layout::of_libvirt_hook(Path::new(path)).config();
        for (path, root) in [
            ("/etc/libvirt/hooks/qemu", "/"),
            ("/usr/local/etc/libvirt/hooks/qemu", "/usr/local"),
            ("/tmp/image/etc/libvirt/hooks/network", "/tmp/image"),
            ("/opt/bin/qemu", "/"),
            ("etc/libvirt/hooks/qemu", "/"),
            ("qemu", "/"),
        ] {
            assert_eq!(config(path), Path::new(root).join("etc/hookvisor/hookvisor.toml"), "{path}");
        }
    }
}
