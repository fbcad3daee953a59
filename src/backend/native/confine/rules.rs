//! The files of a confined hook, as a Landlock ruleset.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated, RulesetError, Scope,
    make_bitflags,
};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::support::Support;
use super::{kernel, needs};
use crate::hook::error::LaunchError;
use crate::hook::settings::grants::Access;

/// All rights that this version knows are denied, except this one.
pub(super) fn ruleset<'a>(
    support: Support,
    granted: impl Iterator<Item = (BorrowedFd<'a>, Access)>,
    executes: &[PathBuf],
    shim: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, LaunchError> {
    let abi = support.abi();
    let known = <AccessFs as landlock::Access>::from_all(abi);
    let read = make_bitflags!(AccessFs::{ReadFile | ReadDir});
    let execute = make_bitflags!(AccessFs::{Execute | ReadFile});
    let create = || -> Result<RulesetCreated, RulesetError> {
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(known)?;
        if support.signals() {
            ruleset = ruleset.scope(<Scope as landlock::Access>::from_all(abi))?;
        }
        ruleset.create()
    };
    let failed = |why: String| LaunchError::Host { what: "could not create its Landlock rules", why };
    let ruleset = create().map_err(|error| failed(error.to_string()))?;
    let ruleset = Option::<OwnedFd>::from(ruleset)
        .ok_or_else(|| LaunchError::Refused("this kernel has no Landlock".to_owned()))?;
    let rules = Rules { ruleset: ruleset.as_fd(), known };
    let add = || -> Result<(), Errno> {
        for path in needs::READ {
            rules.allow(Path::new(path), if path.ends_with('/') { read } else { AccessFs::ReadFile.into() })?;
        }
        for path in needs::DEVICES {
            rules.allow(Path::new(path), make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}))?;
        }
        for path in executes {
            rules.allow(path, execute)?;
        }
        for (opened, access) in granted {
            rules.allow_granted(opened, rights(access))?;
        }
        shim.map_or(Ok(()), |shim| rules.allow_opened(shim, execute))
    };
    add().map_err(|errno| failed(errno.desc().to_owned()))?;
    Ok(ruleset)
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
}

impl Rules<'_> {
    /// Allows access to existing files. Missing ones cannot be reached anyway.
    fn allow(&self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), Errno> {
        match openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()) {
            Ok(opened) => self.allow_opened(opened.as_fd(), access),
            Err(_) => Ok(()),
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
