//! The files of a confined hook, as a Landlock ruleset.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetError, Scope,
    make_bitflags,
};
use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::support::Support;
use super::{kernel, needs};
use crate::hook::error::LaunchError;
use crate::hook::settings::grants::Access;

/// A ruleset that denies all rights that this version knows.
pub(super) fn deny_all(support: Support) -> Result<OwnedFd, LaunchError> {
    let create = || -> Result<RulesetCreated, RulesetError> {
        let mut ruleset =
            Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(known(support))?;
        if support.signals() {
            ruleset = ruleset.scope(<Scope as landlock::Access>::from_all(support.abi()))?;
        }
        ruleset.create()
    };
    let ruleset = create().map_err(|error| failed(error.to_string()))?;
    Option::<OwnedFd>::from(ruleset).ok_or_else(|| LaunchError::Refused("this kernel has no Landlock".to_owned()))
}

fn known(support: Support) -> BitFlags<AccessFs> {
    <AccessFs as landlock::Access>::from_all(support.abi())
}

fn failed(why: String) -> LaunchError {
    LaunchError::Host { what: "could not create its Landlock rules", why }
}

/// Allows what a hook needs, and what it is granted. What is opened for the rules is left in `opened`: closing it takes
/// time, and can be done when the rules are no longer waited for.
pub(super) fn allow<'a>(
    support: Support,
    ruleset: BorrowedFd<'_>,
    granted: impl Iterator<Item = (BorrowedFd<'a>, Access)>,
    executes: &[PathBuf],
    shim: Option<BorrowedFd<'_>>,
    opened: &mut Vec<OwnedFd>,
) -> Result<(), LaunchError> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let execute = make_bitflags!(AccessFs::{Execute | ReadFile});
    let mut rules = Rules { ruleset, known: known(support), opened };
    let add = || -> Result<(), Errno> {
        for &place in needs::READ_HERE.iter() {
            let is_directory = place.to_bytes().ends_with(b"/");
            rules.allow(place, if is_directory { read } else { AccessFs::ReadFile.into() })?;
        }
        for device in needs::DEVICES {
            rules.allow(device, make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}))?;
        }
        for file in executes {
            rules.allow(file.as_path(), execute)?;
        }
        for (place, access) in granted {
            rules.allow_granted(place, rights(access))?;
        }
        shim.map_or(Ok(()), |shim| rules.allow_opened(shim, execute))
    };
    add().map_err(|errno| failed(errno.desc().to_owned()))
}

/// The rights of a granted directory. They exclude executing files, and creating devices and sockets.
fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let write = make_bitflags!(AccessFs::{
        WriteFile | Truncate | MakeReg | MakeDir | MakeSym | MakeFifo | RemoveFile | RemoveDir | Refer
    });
    match access {
        Access::Read => read,
        Access::Write => write,
        Access::ReadWrite => read | write,
    }
}

struct Rules<'a> {
    ruleset: BorrowedFd<'a>,
    known: BitFlags<AccessFs>,
    opened: &'a mut Vec<OwnedFd>,
}

impl Rules<'_> {
    /// Allows access to existing files. Missing ones cannot be reached anyway.
    fn allow(&mut self, path: &(impl NixPath + ?Sized), access: BitFlags<AccessFs>) -> Result<(), Errno> {
        let Some(place) = self.open(path)? else { return Ok(()) };
        self.allow_opened(place.as_fd(), access)?;
        self.opened.push(place);
        Ok(())
    }

    /// `None` for what cannot be reached.
    fn open(&mut self, path: &(impl NixPath + ?Sized)) -> Result<Option<OwnedFd>, Errno> {
        let open = || openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let opened = match open() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.opened.clear();
                open()
            }
            opened => opened,
        };
        match opened {
            Ok(place) => Ok(Some(place)),
            // It may exist.
            Err(lack @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => Err(lack),
            Err(_) => Ok(None),
        }
    }

    /// Allows access to a directory, or to a file as far as the rights are those of files.
    fn allow_granted(&self, opened: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> Result<(), Errno> {
        let is_directory =
            nix::sys::stat::fstat(opened).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFDIR);
        let of_files = make_bitflags!(AccessFs::{Execute | ReadFile | WriteFile | Truncate});
        self.allow_opened(opened, if is_directory { access } else { access & of_files })
    }

    fn allow_opened(&self, opened: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> Result<(), Errno> {
        kernel::add_landlock_rule(self.ruleset, opened, (access & self.known).bits())
    }
}
