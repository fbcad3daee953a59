//! Which files may decide what runs: as root, only files that only root could have written.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use super::acl;
use super::fault::{self, Fault, Place, Problem};

/// The ownership rule for files and their parent directories. It applies to every file that decides which code runs or what
/// it may access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trust(Option<Owners>);

/// Users who may own a trusted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owners {
    user: u32,
}

impl Owners {
    /// Whether a user is one of them. `host_root` is the user id under which the host's root appears; few files need it.
    fn include(self, user: u32, host_root: impl FnOnce() -> u32) -> bool {
        user == ROOT || user == self.user || user == host_root()
    }
}

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

impl Trust {
    /// The rule for this process. For a user other than root it allows everything, since hooks run with the user's own rights.
    pub(crate) fn of_this_process() -> Self {
        let user = nix::unistd::geteuid();
        Self(user.is_root().then(|| Owners { user: user.as_raw() }))
    }

    /// The rule for files with grants: only root could have written them, whoever runs the hook.
    pub(crate) fn in_root_alone() -> Self {
        Self(Some(Owners { user: ROOT }))
    }

    /// No rule, for a program that was already checked.
    pub(crate) fn not_enforced() -> Self {
        Self(None)
    }

    pub(crate) fn is_enforced(self) -> bool {
        self.0.is_some()
    }

    /// Refuses an opened file that users other than root could change. The error is a sentence without its full stop.
    pub(crate) fn check(self, path: &Path, file: &File, found: &Metadata) -> Result<(), String> {
        let fault = |problem| Fault { place: Place::File, path: path.to_owned(), problem };
        match self.problems(file, found) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(fault::sentence(&problems.into_iter().map(fault).collect::<Vec<_>>(), path)),
        }
    }

    /// Why users other than root could change a file or directory, from its opened file and its metadata.
    pub(super) fn problems(self, file: &File, found: &Metadata) -> Vec<Problem> {
        let mut problems = self.problems_of_owner(found);
        if !self.is_enforced() {
            return problems;
        }
        let (mode, group) = (found.mode() & 0o7777, found.gid());
        if mode & OTHERS_WRITE != 0 {
            problems.push(Problem::Others(mode));
        }
        // The group's bits are also the mask of an access control list.
        if mode & GROUP_WRITES != 0 {
            match acl::writer(file, |user| self.accepts(user)) {
                _ if group != ROOT => problems.push(Problem::Group { group, mode }),
                Ok(writer) => problems.extend(writer.map(Problem::List)),
                Err(error) => problems.push(Problem::Unknown(error.to_string())),
            }
        }
        problems
    }

    /// The same for a directory on the path to a file. In a sticky directory of root, such as /tmp, nobody else can
    /// replace root's files.
    pub(super) fn problems_of_way(self, directory: &File, found: &Metadata) -> Vec<Problem> {
        if found.mode() & STICKY != 0 { self.problems_of_owner(found) } else { self.problems(directory, found) }
    }

    /// The same for a symbolic link on the path to a file: its owner can replace it.
    pub(super) fn problems_of_owner(self, found: &Metadata) -> Vec<Problem> {
        let owner = found.uid();
        if self.accepts(owner) { Vec::new() } else { vec![Problem::Owner(owner)] }
    }

    fn accepts(self, owner: u32) -> bool {
        self.0.is_none_or(|owners| owners.include(owner, host_root))
    }
}

/// The owner of root's files as this process sees it. In a user namespace without root, such as a rootless container's,
/// this is the overflow user.
fn host_root() -> u32 {
    static KNOWN: OnceLock<u32> = OnceLock::new();
    *KNOWN.get_or_init(find_host_root)
}

fn find_host_root() -> u32 {
    // The host's root owns this file, and other users cannot mount over it.
    const OVERFLOW: &str = "/proc/sys/kernel/overflowuid";
    match fs::metadata(OVERFLOW).map(|found| found.uid()) {
        Ok(ROOT) | Err(_) => ROOT,
        Ok(owner) => match fs::read_to_string(OVERFLOW).map(|text| text.trim().parse()) {
            Ok(Ok(overflow)) if owner == overflow => overflow,
            _ => ROOT,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_user_who_is_not_root_runs_own_files_as_they_are() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::set_permissions(file.path(), Permissions::from_mode(0o777))?;
        assert_eq!(Trust(None).problems(file.as_file(), &file.as_file().metadata()?), []);
        Ok(())
    }

    /// A rootless container's root sees the host's root as the overflow user.
    #[test]
    fn the_host_s_root_is_trusted_under_another_number() {
        let include = |user, host_root| Owners { user: 0 }.include(user, || host_root);
        assert!(include(65534, 65534) && include(0, 65534) && !include(1000, 65534));
        assert!(!include(65534, 0));
    }
}
