//! Where things are on a machine, or below another root.

use std::path::{Path, PathBuf};

/// libvirt's hooks directory, as distributions compile it in.
const LIBVIRT_HOOKS: &str = "etc/libvirt/hooks";
/// Where install keeps libvirt's former hooks. It is beside libvirt's directory, so that `..` means the same in both.
const KEPT_SCRIPTS: &str = "etc/libvirt/hookvisor";
const KEPT_DIRECTORIES: &str = "etc/libvirt/hookvisor.d";

/// The places of an installation.
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

    /// The installation that a libvirt hook belongs to: the root that its own absolute name begins with.
    ///
    /// libvirt calls its hooks by the name that it was compiled with, so this is `/`, or `/usr/local` for a libvirt from
    /// there, or the root of an image. No variable can change it: daemons inherit variables from whoever started them.
    pub(super) fn of_libvirt_hook(path: &Path) -> Self {
        let directory = path.parent().filter(|directory| directory.is_absolute() && directory.ends_with(LIBVIRT_HOOKS));
        let root = directory.and_then(|directory| directory.ancestors().nth(Path::new(LIBVIRT_HOOKS).iter().count()));
        root.map_or_else(Self::of_this_machine, Self::below)
    }

    /// Where compiled hooks are kept; `None` on the machine itself, where it depends on the user.
    #[cfg(feature = "wasm")]
    pub(super) fn cache(&self) -> Option<PathBuf> {
        (self.root != Path::new("/")).then(|| self.root.join("var/cache/hookvisor"))
    }

    /// Where events are recorded, if the configuration names no file.
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
    /// It is apart from [`kept_scripts`](Self::kept_scripts), where `<driver>.d` is a link: a dispatcher that looks for a
    /// guest's directory there finds those that are made later, too.
    pub(super) fn kept_directories(&self) -> PathBuf {
        self.root.join(KEPT_DIRECTORIES)
    }

    /// What hookvisor runs before a libvirt driver's own hooks: what libvirt would have called, in libvirt's order.
    pub(super) fn kept_hooks(&self, driver: &str) -> [PathBuf; 2] {
        [self.kept_scripts().join(driver), self.kept_directories().join(format!("{driver}.d"))]
    }

    /// Whether a path is one of a kept hook, in whatever root.
    pub(super) fn keeps(path: &Path) -> bool {
        let is_kept = |directory: &Path| directory.ends_with(KEPT_SCRIPTS) || directory.ends_with(KEPT_DIRECTORIES);
        path.ancestors().skip(1).any(is_kept)
    }

    /// What `hookvisor libvirt install` has done.
    pub(super) fn state(&self) -> PathBuf {
        self.root.join("var/lib/hookvisor/libvirt.json")
    }

    /// What the kernel is told of `.wasm` files when the system starts.
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
