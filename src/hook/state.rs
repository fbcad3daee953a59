//! `state = true`: a directory for a hook's own files, kept between calls.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown, geteuid};

use super::error::LaunchError;
use super::file;
use super::trust::Trust;

/// The variable with the path of a hook's directory.
pub(crate) const VARIABLE: &str = "HOOKVISOR_STATE";
/// The default parent of all hooks' directories.
const DEFAULT_ROOT: &str = "/var/lib/hookvisor/state";
/// The maximum length of a file name.
const LONGEST_NAME: usize = 255;
const FOR_OTHERS: u32 = 0o077;

/// The parent of all hooks' directories.
#[derive(Debug, Clone)]
pub(crate) struct StateRoot(PathBuf);

/// The open directory of one hook.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) path: PathBuf,
    pub(crate) directory: OwnedFd,
}

impl Default for StateRoot {
    fn default() -> Self {
        Self::at(DEFAULT_ROOT)
    }
}

impl StateRoot {
    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Opens the directory of a hook. Creates it before the first call, owned by the user that the hook runs as.
    pub(crate) fn open(&self, hook: &Path, user: Option<(u32, u32)>, trust: Trust) -> Result<State, LaunchError> {
        let name = name(hook)?;
        let root = self.root(trust).map_err(|why| self.unusable(&self.0, &why))?;
        let path = self.0.join(&name);
        let open = || -> Result<OwnedFd, Errno> {
            match mkdirat(&root, name.as_str(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno),
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&root, name.as_str(), flags, Mode::empty())
        };
        let directory = open().map_err(|errno| self.unusable(&path, errno.desc()))?;
        own(&directory, &path, user).map_err(|why| self.unusable(&path, &why))?;
        Ok(State { path, directory })
    }

    /// Other users can traverse it but not list it, since hooks may run as other users.
    fn root(&self, trust: Trust) -> Result<File, String> {
        let mut missing: Vec<&Path> = self.0.ancestors().take_while(|path| !path.exists()).collect();
        if let Some(present) = self.0.ancestors().nth(missing.len()) {
            file::open_trusted_directory(present, trust).map_err(|error| error.to_string())?;
        }
        while let Some(path) = missing.pop() {
            let mode = if missing.is_empty() { 0o711 } else { 0o755 };
            match DirBuilder::new().mode(mode).create(path) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                    return Err(format!("it could not be created: {error}"));
                }
                Ok(()) | Err(_) => {}
            }
        }
        file::open_trusted_directory(&self.0, trust).map_err(|error| error.to_string())
    }

    fn unusable(&self, path: &Path, why: &str) -> LaunchError {
        LaunchError::Refused(format!(
            "its settings have `state`, and its directory {} cannot be used: {why}",
            path.display()
        ))
    }
}

/// Gives a hook its directory. Refuses one that another user could have written to.
fn own(directory: &OwnedFd, path: &Path, user: Option<(u32, u32)>) -> Result<(), String> {
    let found = File::from(directory.try_clone().map_err(|error| error.to_string())?).metadata();
    let found = found.map_err(|error| error.to_string())?;
    let this = geteuid().as_raw();
    let (owner, group) = user.unwrap_or((this, found.gid()));
    let path = path.display();
    if ![owner, this].contains(&found.uid()) {
        return Err(format!("it is owned by user {}: remove it if the hook does not need its files", found.uid()));
    }
    if found.mode() & FOR_OTHERS != 0 {
        return Err(format!("other users can access it (mode {:04o}): run `chmod 700 {path}`", found.mode() & 0o7777));
    }
    if found.uid() != owner {
        let (owner, group) = (Uid::from_raw(owner), Gid::from_raw(group));
        fchown(directory.as_fd(), Some(owner), Some(group)).map_err(|errno| errno.desc().to_owned())?;
    }
    Ok(())
}

/// The name of a hook's directory: the hook's path, with `!` for `/`.
fn name(hook: &Path) -> Result<String, LaunchError> {
    let path = hook.as_os_str().as_bytes();
    let mut name = String::new();
    for &byte in path.strip_prefix(b"/").unwrap_or(path) {
        match byte {
            b'/' => name.push('!'),
            b'!' | b'%' | 0..=b' ' | 0x7f.. => name.push_str(&format!("%{byte:02x}")),
            byte => name.push(byte.into()),
        }
    }
    if name.len() > LONGEST_NAME {
        return Err(LaunchError::Refused(format!(
            "its settings have `state`, and its path is too long for the name of a directory ({} bytes)",
            name.len()
        )));
    }
    Ok(name)
}

impl State {
    /// The variable that tells the hook where its directory is.
    pub(crate) fn variable(&self) -> (String, String) {
        (VARIABLE.to_owned(), self.path.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn no_two_hooks_have_the_same_directory() {
        let of = |path: &str| name(Path::new(path)).unwrap_or_default();
        assert_eq!(of("/etc/hookvisor/hooks/qemu.d/10-x"), "etc!hookvisor!hooks!qemu.d!10-x");
        let paths = ["/a/b", "/a!b", "/a%21b", "/a b", "/a%b", "/a\u{e9}b", "/a\nb"];
        let names: std::collections::BTreeSet<String> = paths.map(of).into_iter().collect();
        assert_eq!(names.len(), paths.len(), "{names:?}");
        assert!(name(Path::new(&"/abc".repeat(70))).is_err());
    }

    #[test]
    fn a_directory_is_private_and_stays() -> Result<(), Box<dyn std::error::Error>> {
        let above = tempfile::tempdir()?;
        let root = StateRoot::at(above.path().join("lib/state"));
        let trust = Trust::of_this_process();
        let hook = Path::new("/hooks/x");
        let state = root.open(hook, None, trust)?;
        let mode = |path: &Path| fs::metadata(path).map(|found| found.mode() & 0o777);
        assert_eq!((mode(&state.path)?, mode(&above.path().join("lib/state"))?), (0o700, 0o711));
        fs::write(state.path.join("count"), "1")?;
        assert_eq!(root.open(hook, None, trust)?.path, state.path);
        assert!(state.path.join("count").exists());
        assert_eq!(state.variable(), (VARIABLE.to_owned(), state.path.display().to_string()));
        fs::set_permissions(&state.path, Permissions::from_mode(0o750))?;
        let why = root.open(hook, None, trust).map_or_else(|why| why.to_string(), |_| "opened".to_owned());
        assert!(why.contains("other users can access it (mode 0750): run `chmod 700 "), "{why}");
        fs::remove_dir_all(&state.path)?;
        std::os::unix::fs::symlink("/etc", &state.path)?;
        assert!(root.open(hook, None, trust).is_err());
        Ok(())
    }
}
