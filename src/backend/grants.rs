//! Checks the grants of a hook's settings when the hook is loaded.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{Mode, SFlag, fstat};

use crate::hook::error::LaunchError;
use crate::hook::file::{self, HookFile, OpenError};
use crate::hook::kind::Kind;
use crate::hook::secret;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::Access;
use crate::hook::trust::Trust;

/// Opens the target of a grant and keeps it open: a directory, or for a native hook also a file. Other users must not
/// control a link on the way to it.
pub(crate) fn open(place: &Path, trust: Trust) -> Result<OwnedFd, OpenError> {
    match file::open_granted_directory(place, trust) {
        Ok(directory) => Ok(directory.into()),
        // A file that can only be written cannot be opened like a directory.
        Err(OpenError::NotADirectory | OpenError::Io(_)) => {
            let (Some(directory), Some(name)) = (place.parent(), place.file_name()) else {
                return Err(OpenError::NotADirectory);
            };
            let directory = file::open_granted_directory(directory, trust)?;
            // It may be unreadable.
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let refused = |why: String| OpenError::Refused(why);
            let file = openat(&directory, name, flags, Mode::empty()).map_err(|e| refused(e.desc().to_owned()))?;
            match fstat(&file) {
                Ok(found) if found.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFLNK.bits() => {
                    Err(refused("it is a link to a file: write the path that it leads to".to_owned()))
                }
                Ok(_) => Ok(file),
                Err(errno) => Err(refused(errno.desc().to_owned())),
            }
        }
        Err(error) => Err(error),
    }
}

/// How often to try to connect while a listener's queue is full. The kernel does not tell when it has room.
pub(crate) const TRY_AGAIN: Duration = Duration::from_millis(10);

/// A granted Unix socket, whatever its path leads to meanwhile.
pub(crate) struct HeldSocket(OwnedFd);

impl HeldSocket {
    /// Where to connect to.
    pub(crate) fn address(&self) -> Result<UnixAddr, Errno> {
        UnixAddr::new(format!("/proc/self/fd/{}", self.0.as_raw_fd()).as_str())
    }
}

/// Opens a granted Unix socket, only as a reference. Other users must not control a link on the way to it.
pub(crate) fn open_socket(path: &Path, trust: Trust) -> Result<HeldSocket, Errno> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let directory = file::open_granted_directory(directory, trust).map_err(|error| match error {
        OpenError::NotFound(_) => Errno::ENOENT,
        _ => Errno::EACCES,
    })?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = openat(&directory, name, flags, Mode::empty())?;
    match fstat(&socket)?.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits() {
        true => Ok(HeldSocket(socket)),
        false => Err(Errno::ECONNREFUSED),
    }
}

/// Refuses grants that a call could not use.
pub(crate) fn check(settings: &Settings, kind: Kind, trust: Trust) -> Result<(), LaunchError> {
    let grants = |what: String| Err(LaunchError::Refused(format!("its settings grant {what}")));
    for directory in &settings.directories {
        let host = directory.host.display();
        if kind == Kind::Wasm && directory.access == Access::Write {
            return grants(format!(
                "the directory {host} with access = \"write\", which only a confined native hook can have: write \
                 \"read-write\""
            ));
        }
        if kind == Kind::Wasm && directory.is_pattern() && directory.is_renamed() {
            return grants(format!(
                "the directories that {host} matches, but `guest` is one name for all of them: remove `guest`"
            ));
        }
        // Its path is known only at the call.
        if directory.is_pattern() {
            continue;
        }
        let opened = match kind {
            Kind::Wasm => file::open_granted_directory(&directory.host, trust).map(drop),
            _ => open(&directory.host, trust).map(drop),
        };
        if let Err(error) = opened {
            return grants(format!("the directory {host}, which cannot be used: {error}"));
        }
    }
    for granted in &settings.secrets {
        secret::open(&granted.file, trust)?;
    }
    for command in &settings.commands {
        let program = command.program.display();
        match HookFile::open(&command.program, trust) {
            Ok(file) if file.is_executable() => {}
            Ok(_) => return grants(format!("the program {program}, which is not executable")),
            Err(LaunchError::NotFound(_)) => return grants(format!("the program {program}, which does not exist")),
            Err(why) => return grants(format!("the program {program}: {why}")),
        }
    }
    Ok(())
}
