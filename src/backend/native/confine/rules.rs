//! The files of a confined hook, as a Landlock ruleset.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope, make_bitflags,
};

use super::needs;
use super::support::Support;
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
    let make = || -> Result<RulesetCreated, RulesetError> {
        let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(known)?;
        if support.signals() {
            ruleset = ruleset.scope(<Scope as landlock::Access>::from_all(abi))?;
        }
        let mut rules = Rules { ruleset: ruleset.create()?, known };
        for path in needs::READ {
            rules.allow(Path::new(path), read)?;
        }
        for path in needs::DEVICES {
            rules.allow(Path::new(path), make_bitflags!(AccessFs::{ReadFile | WriteFile | Truncate}))?;
        }
        for path in executes {
            rules.allow(path, execute)?;
        }
        for (opened, access) in granted {
            rules.allow_opened(opened, rights(access))?;
        }
        if let Some(shim) = shim {
            rules.ruleset = rules.ruleset.add_rule(PathBeneath::new(shim, execute))?;
        }
        Ok(rules.ruleset)
    };
    let ruleset = make()
        .map_err(|error| LaunchError::Host { what: "could not create its Landlock rules", why: error.to_string() })?;
    Option::<OwnedFd>::from(ruleset).ok_or_else(|| LaunchError::Refused("this kernel has no Landlock".to_owned()))
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

struct Rules {
    ruleset: RulesetCreated,
    known: BitFlags<AccessFs>,
}

impl Rules {
    /// Allows access to existing files. Missing ones cannot be reached anyway.
    fn allow(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        match PathFd::new(path) {
            Ok(opened) => self.allow_opened(opened.as_fd(), access),
            Err(_) => Ok(()),
        }
    }

    fn allow_opened(&mut self, opened: BorrowedFd<'_>, access: BitFlags<AccessFs>) -> Result<(), RulesetError> {
        let is_directory =
            nix::sys::stat::fstat(opened).is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFDIR);
        let of_files = make_bitflags!(AccessFs::{Execute | ReadFile | WriteFile | Truncate});
        let access = access & self.known & if is_directory { self.known } else { of_files };
        (&mut self.ruleset).add_rule(PathBeneath::new(opened, access)).map(drop)
    }
}
