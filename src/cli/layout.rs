//! Where things are on a machine, or below another root.

use std::path::{Path, PathBuf};

/// libvirt's hooks directory, as distributions compile it in.
const LIBVIRT_HOOKS: &str = "etc/libvirt/hooks";

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

    /// The installation that a hook of libvirt's belongs to: that of the root which its own absolute name begins with.
    ///
    /// libvirt calls its hooks by the name that it was compiled with, so this is `/`, or `/usr/local` for a libvirt from
    /// there, or the root that an image was made below. No variable can say something else: daemons inherit variables
    /// from whoever started them, while only the caller of a program says its name, and runs it with the rights that it
    /// has anyway.
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
    fn a_hook_of_libvirts_finds_the_configuration_beside_libvirts() {
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
