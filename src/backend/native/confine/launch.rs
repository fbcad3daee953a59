//! One launch of a confined hook.

use std::ffi::{CStr, CString, OsStr, c_long};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{panic, thread};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};

use super::filter::Filter;
use super::support::{SHIM, Support};
use super::{kernel, needs, rules};
use crate::backend::native::error::host_error;
use crate::backend::native::kernel::AllSignalsBlocked;
use crate::backend::native::spawn::{CHANNEL_FD, Confined, RULESET_FD, Restriction, above_assigned};
use crate::backend::{Call, grants};
use crate::hook::error::LaunchError;
use crate::hook::file::OpenError;
use crate::hook::secret;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Access, Names, SecretGrant};
use crate::hook::state::State;
use crate::hook::trust::Trust;

/// Where the shim's file system is mounted while programs are covered. Every system has this directory.
const STAGE: &CStr = c"/proc";
const STAGED_SHIM: &CStr = c"/proc/shim";
/// The stack of the thread that makes the shim and the rules, in bytes.
const STACK_SIZE: usize = 128 << 10;

/// What all launches of a hook have in common.
pub(super) struct Common {
    pub(super) support: Support,
    pub(super) trust: Trust,
    pub(super) settings: Arc<Settings>,
    /// The hook's path. The filter recognizes its address.
    pub(super) program: CString,
    pub(super) filter: Filter,
    /// User and group.
    pub(super) user: Option<(u32, u32)>,
    /// The programs of its commands.
    pub(super) covered: Vec<CString>,
}

impl Common {
    /// The opened directories and files of one call.
    fn granted(&self, names: Names<'_>) -> Result<Vec<(OwnedFd, Access)>, LaunchError> {
        let mut granted = Vec::new();
        for directory in &self.settings.directories {
            let refused = |place: &Path, why: String| {
                let place = place.display();
                LaunchError::Refused(format!("its settings grant {place}, which cannot be used: {why}"))
            };
            let places = directory.places(names).map_err(|why| refused(&directory.host, why))?;
            for place in places {
                match grants::open(&place, self.trust) {
                    Ok(opened) => granted.push((opened, directory.access)),
                    Err(OpenError::NotFound(_)) if directory.is_pattern() => {}
                    Err(error) => return Err(refused(&place, error.to_string())),
                }
            }
        }
        for SecretGrant { file, .. } in &self.settings.secrets {
            granted.push((secret::open(file, self.trust)?.into(), Access::Read));
        }
        Ok(granted)
    }
}

/// A prepared launch.
pub(crate) struct Prepared<'a> {
    common: &'a Common,
    hook: &'a Path,
    /// The first bytes of the hook.
    head: &'a [u8],
    names: Names<'a>,
    /// The hook's PATH.
    search: &'a OsStr,
    state: Option<&'a State>,
    shim: Option<Shim>,
    ruleset: OwnedFd,
    /// A pair of sockets. The child sends its filter's descriptor, and receives a byte when the shim exists, and another one
    /// when the ruleset is complete.
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(
        common: &'a Common,
        call: &'a Call<'_>,
        head: &'a [u8],
        search: &'a OsStr,
        state: Option<&'a State>,
    ) -> Result<Self, LaunchError> {
        let shim = if common.covered.is_empty() { None } else { Some(Shim::new()?) };
        let failed = |errno| host_error("could not create a pair of sockets", errno);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(failed)?;
        let moved = |fd| above_assigned(fd).map_err(|errno| host_error("could not move a descriptor", errno));
        let (theirs, ruleset) = (moved(theirs)?, moved(rules::deny_all(common.support)?)?);
        let (hook, names) = (call.path, call.names());
        Ok(Self { common, hook, head, names, search, state, shim, ruleset, ours, theirs })
    }

    /// The child's steps in order: each gives up what an earlier one needs.
    pub(crate) fn steps(&self) -> Confined<'_> {
        let Common { settings, filter, user, covered, .. } = self.common;
        let Filter { asking, last } = filter;
        let mut before = Vec::new();
        if let Some(shim) = &self.shim {
            before.extend([
                Restriction::MountNamespace,
                Restriction::Attach { mount: shim.mount.as_raw_fd(), directory: STAGE },
                Restriction::Wait { socket: self.theirs.as_raw_fd() },
            ]);
            before.extend(covered.iter().map(|file| Restriction::Cover { file, by: STAGED_SHIM }));
            before.push(Restriction::Detach { directory: STAGE });
        }
        let limit = |resource: c_long, most: Option<u64>| Some(Restriction::Limit { resource, most: most? });
        before.extend(limit(libc::RLIMIT_AS as c_long, settings.memory.map(|memory| memory.as_u64())));
        before.extend(limit(libc::RLIMIT_NPROC as c_long, settings.processes));
        before.extend(limit(libc::RLIMIT_CORE as c_long, Some(0)));
        before.extend(user.map(|(user, group)| Restriction::User { user, group }));
        before.extend([Restriction::Capabilities, Restriction::NoNewPrivileges]);
        // The hook itself needs fewer descriptors than its launch.
        let mut after: Vec<_> = limit(libc::RLIMIT_NOFILE as c_long, settings.files).into_iter().collect();
        after.extend([Restriction::Wait { socket: CHANNEL_FD }, Restriction::Landlock(RULESET_FD)]);
        let (channel, ruleset) = (self.theirs.as_fd(), self.ruleset.as_fd());
        Confined { before, filter: asking, last_filter: last.as_deref(), after, channel, ruleset }
    }

    /// Launches the hook while another thread makes what only the last steps of the launch need: each takes a fifth of a
    /// millisecond, and the launch suspends its thread. Also returns the files that the hook executes when it starts.
    pub(crate) fn launch<T>(&self, launch: impl FnOnce() -> T) -> (T, Result<Vec<PathBuf>, LaunchError>) {
        thread::scope(|scope| {
            // The host's signal handlers run in its own threads. A thread starts with the signal mask of its creator.
            let blocked = AllSignalsBlocked::for_this_thread().map_err(io::Error::from);
            let helper = blocked.and_then(|_blocked| {
                thread::Builder::new().stack_size(STACK_SIZE).spawn_scoped(scope, || self.complete())
            });
            match helper {
                Ok(helper) => {
                    let launched = launch();
                    (launched, helper.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)))
                }
                // The host can have no more threads now.
                Err(_) => {
                    let completed = self.complete();
                    (launch(), completed)
                }
            }
        })
    }

    /// Makes the shim and the Landlock rules. The child waits for each.
    fn complete(&self) -> Result<Vec<PathBuf>, LaunchError> {
        let _end = ShutDown(&self.ours);
        let shim = self.shim.as_ref().map(Shim::write).transpose()?;
        if shim.is_some() {
            self.tell_child()?;
        }
        let executes = needs::executes(self.hook, self.head, self.search);
        let granted = self.common.granted(self.names)?;
        let own = self.state.map(|state| (state.directory.as_fd(), Access::ReadWrite));
        let granted = granted.iter().map(|(opened, access)| (opened.as_fd(), *access)).chain(own);
        let shim = shim.as_ref().map(AsFd::as_fd);
        let mut opened = Vec::new();
        rules::allow(self.common.support, self.ruleset.as_fd(), granted, &executes, shim, &mut opened)?;
        self.tell_child()?;
        Ok(executes)
    }

    fn tell_child(&self) -> Result<(), LaunchError> {
        let sent = send(self.ours.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).map_err(|errno| host_error("could not send to its process", errno))
    }

    /// The path to execute.
    pub(crate) fn program(&self) -> &CStr {
        &self.common.program
    }

    /// The descriptor that the child has sent, for the questions of the hook's filter.
    pub(crate) fn listener(self) -> Result<OwnedFd, LaunchError> {
        drop(self.theirs);
        let failed = |errno| host_error("could not get the descriptor of the hook's seccomp filter", errno);
        let received = kernel::receive(self.ours.as_fd(), &mut [0], MsgFlags::empty()).map_err(failed)?;
        received.descriptors.into_iter().next().ok_or_else(|| failed(Errno::EPROTO))
    }
}

/// Ends what is sent on a socket when it is dropped. So nobody waits for a message of a thread that has failed.
struct ShutDown<'a>(&'a OwnedFd);

impl Drop for ShutDown<'_> {
    fn drop(&mut self) {
        let _ = shutdown(self.0.as_raw_fd(), Shutdown::Write);
    }
}

/// The file system of the shim. It is not mounted yet. Each launch has its own, which moves into the child's mount
/// namespace.
struct Shim {
    mount: OwnedFd,
}

impl Shim {
    fn new() -> Result<Self, LaunchError> {
        let mount = kernel::detached_tmpfs().and_then(above_assigned).map_err(without_shim)?;
        Ok(Self { mount })
    }

    /// Writes the shim, and opens it as a path.
    fn write(&self) -> Result<OwnedFd, LaunchError> {
        let write = || {
            let mut file = File::from(kernel::create_executable(self.mount.as_fd(), c"shim")?);
            file.write_all(SHIM).map_err(|error| error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw))?;
            // A file that is open for writing cannot be executed.
            drop(file);
            kernel::open_path(self.mount.as_fd(), c"shim")
        };
        write().map_err(without_shim)
    }
}

pub(super) fn without_shim(errno: Errno) -> LaunchError {
    match errno {
        Errno::EPERM => LaunchError::Refused(
            "its settings grant commands, and it is confined: this needs the capability CAP_SYS_ADMIN (run hookvisor \
             as root)"
                .to_owned(),
        ),
        Errno::ENOSYS => LaunchError::Refused(
            "its settings grant commands, and it is confined: this needs detached mounts (fsmount, Linux 5.2), which \
             this system does not have"
                .to_owned(),
        ),
        errno => host_error("could not create the file system for a confined hook's commands", errno),
    }
}
