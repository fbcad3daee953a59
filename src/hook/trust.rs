//! Whose files are run: when the runtime is root, only those that nobody else could have written.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The rule for files and directories.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trust {
    /// The effective user, where that is one whom others could want to write hooks for.
    enforced_for: Option<u32>,
}

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

impl Trust {
    /// The rule for this process: enforced as root; another user's hooks run with no more than that user's own rights.
    pub(crate) fn of_this_process() -> Self {
        let user = nix::unistd::geteuid();
        Self { enforced_for: user.is_root().then_some(user.as_raw()) }
    }

    /// Refuses what others may write, or another user owns, in words that follow its name. The metadata is that of the
    /// opened file.
    pub(crate) fn check(self, path: &Path, found: &Metadata) -> Result<(), String> {
        let Some(user) = self.enforced_for else { return Ok(()) };
        let (path, mode) = (path.display(), found.mode());
        if found.uid() != ROOT && found.uid() != user {
            return Err(format!(
                "belongs to user {}, who could change it: run `chown root {path}` if you trust it",
                found.uid()
            ));
        }
        if mode & OTHERS_WRITE != 0 {
            return Err(format!("is writable by others (mode {:04o}): run `chmod o-w {path}`", mode & 0o7777));
        }
        // A group of root's own, as on systems whose users have a group each, is root alone.
        if mode & GROUP_WRITES != 0 && found.gid() != ROOT {
            return Err(format!(
                "is writable by group {} (mode {:04o}): run `chmod g-w {path}`",
                found.gid(),
                mode & 0o7777
            ));
        }
        Ok(())
    }

    /// Checks the directories that lead to a file outside the hooks directory, where a link pointed: in none of them may
    /// somebody else put another file in its place. A sticky directory such as /tmp does not let them.
    pub(crate) fn check_way(self, target: &Path) -> Result<(), String> {
        if self.enforced_for.is_none() {
            return Ok(());
        }
        for directory in target.ancestors().skip(1) {
            let found = directory.metadata().map_err(|e| format!("{}: {e}", directory.display()))?;
            if found.mode() & STICKY == 0 {
                self.check(directory, &found).map_err(|why| format!("{} {why}", directory.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_user_who_is_not_root_runs_own_files_as_they_are() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o777))?;
        assert_eq!(Trust { enforced_for: None }.check(file.path(), &file.as_file().metadata()?), Ok(()));
        Ok(())
    }

    #[test]
    fn root_runs_what_only_root_could_have_written() -> std::io::Result<()> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(());
        }
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path();
        let check = |mode, user, group| {
            chown(path, Some(user), Some(group))?;
            fs::set_permissions(path, Permissions::from_mode(mode))?;
            let said = Trust::of_this_process().check(path, &file.as_file().metadata()?);
            Ok::<_, std::io::Error>(said.err().unwrap_or_default().replace(&path.display().to_string(), "F"))
        };
        assert_eq!(check(0o755, 0, 0)?, "");
        assert_eq!(check(0o775, 0, 0)?, "");
        assert_eq!(check(0o775, 0, 7)?, "is writable by group 7 (mode 0775): run `chmod g-w F`");
        assert_eq!(check(0o777, 0, 0)?, "is writable by others (mode 0777): run `chmod o-w F`");
        assert_eq!(check(0o755, 7, 0)?, "belongs to user 7, who could change it: run `chown root F` if you trust it");
        Ok(())
    }
}
