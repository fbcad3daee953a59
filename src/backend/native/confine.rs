//! Confined hooks: processes that the kernel limits to what their settings grant.
//!
//! - Files and programs: a Landlock domain ([`rules`]).
//! - All other requests to the kernel: a seccomp filter ([`filter`]), no capabilities, no new privileges.
//! - Commands: in a separate mount namespace, a small program, the shim, covers each granted program. The filter gives
//!   the shim a connection to the runtime, which runs the command ([`attendant`]).
//!
//! The parent prepares everything before it creates the process. The child applies it step by step ([`super::spawn`]).
//! If a step fails, the hook does not run.

mod address;
pub(super) mod attendant;
mod bpf;
#[cfg(feature = "compiler")]
mod computing;
mod connect;
mod connection;
mod datagrams;
mod filter;
mod kernel;
mod launch;
mod memory;
pub(super) mod needs;
mod performed;
pub(super) mod reach;
mod refusals;
mod request;
mod rules;
mod sealed;
mod send;
mod support;

use std::ffi::OsStr;
#[cfg(feature = "wasm")]
use std::fs::File;
#[cfg(feature = "wasm")]
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(feature = "wasm")]
use nix::fcntl::{OFlag, openat};
#[cfg(feature = "wasm")]
use nix::sys::stat::Mode;
use nix::unistd::geteuid;

#[cfg(feature = "compiler")]
pub(crate) use self::computing::compute_only;
use self::filter::{Filter, Questions, Sockets};
use self::launch::Common;
pub(super) use self::launch::Prepared;
use self::refusals::Held;
use self::sealed::sealed_program;
use self::support::{SHIM, Support};
use super::error::c_string;
use crate::backend::broker::Broker;
use crate::backend::{Call, Completion, grants};
use crate::hook::error::LaunchError;
use crate::hook::kind::Kind;
use crate::hook::settings::grants::{Address, SecretGrant};
use crate::hook::settings::{self, Settings};
use crate::hook::state::{State, StateRoot};
use crate::hook::trust::Trust;

/// The confinement of a hook, as far as it can be prepared when the hook is loaded.
pub(super) struct Confinement {
    common: Common,
    settings_file: Arc<Path>,
    state: StateRoot,
}

impl Confinement {
    /// Refuses grants and limits that this system cannot enforce.
    pub(super) fn new(
        hook: &Path,
        search: &OsStr,
        settings: &Settings,
        state: StateRoot,
        trust: Trust,
    ) -> Result<Self, LaunchError> {
        let support = Support::of_the_running_kernel();
        support.check()?;
        grants::check(settings, Kind::Native, trust)?;
        let settings_file = settings::file_name(hook);
        let refused = |why: String| LaunchError::Refused(format!("its settings {} {why}", settings_file.display()));
        let user = check(settings).map_err(refused)?;
        check_commands(settings, hook, search).map_err(refused)?;
        let connects = |kind: fn(&Address) -> bool| settings.connections.iter().any(|connection| kind(&connection.to));
        let sockets = Sockets {
            tcp: connects(|to| matches!(to, Address::Tcp(_))),
            udp: connects(|to| matches!(to, Address::Udp(_))),
            unix: connects(|to| matches!(to, Address::Unix(_))),
        };
        let program = c_string(hook.as_os_str())?;
        let questions = Questions {
            broker: !settings.commands.is_empty(),
            connect: sockets != Sockets::default(),
            datagrams: sockets.udp,
            signals: !support.signals(),
            first_program: program.as_ptr().expose_provenance() as u64,
        };
        let filter = Filter::new(support, sockets, questions)
            .map_err(|error| LaunchError::Host { what: "could not create a seccomp filter", why: error.to_string() })?;
        let mut covered = Vec::new();
        for command in &settings.commands {
            let program = c_string(command.program.as_os_str())?;
            if !covered.contains(&program) {
                covered.push(program);
            }
        }
        if !covered.is_empty() {
            // The same for each launch, so what is missing here is told when the hook is loaded.
            kernel::detached_tmpfs().map_err(launch::without_shim)?;
        }
        let settings = Arc::new(settings.clone());
        let common = Common { support, trust, settings, program, filter, user, covered };
        Ok(Self { common, settings_file: settings_file.into(), state })
    }

    /// Decides about the commands of one call.
    pub(super) fn broker(&self, call: &Call<'_>) -> Broker {
        Broker::new(Arc::clone(&self.common.settings), Arc::clone(&self.settings_file), call)
    }

    /// What the hook says that it was refused, with the lines that would allow it.
    pub(super) fn refusals(
        &self,
        call: &Call<'_>,
        executes: &[PathBuf],
        state: Option<&State>,
        ended: &Completion,
    ) -> Vec<String> {
        let (settings, settings_file, names) = (&*self.common.settings, &*self.settings_file, call.names());
        let own = state.map(|state| state.path.as_path());
        Held { hook: call.path, settings, settings_file, executes, own, names }.notes(&ended.stderr.bytes, &ended.notes)
    }

    /// The programs of its commands.
    pub(super) fn programs(&self) -> Vec<PathBuf> {
        self.common.settings.commands.iter().map(|command| command.program.clone()).collect()
    }

    /// The variables that tell the hook where its secrets are.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (String, String)> {
        let place = |secret: &SecretGrant| (secret.variable.clone(), secret.file.to_string_lossy().into_owned());
        self.common.settings.secrets.iter().map(place)
    }

    /// The hook's own directory, if it has one.
    pub(super) fn state(&self, hook: &Path) -> Result<Option<State>, LaunchError> {
        self.common.settings.state.then(|| self.state.open(hook, self.common.user, self.common.trust)).transpose()
    }

    /// Prepares one launch. `head`: the first bytes of the hook. `search`: its PATH.
    pub(super) fn prepare<'a>(
        &'a self,
        call: &'a Call<'_>,
        head: &'a [u8],
        search: &'a OsStr,
        state: Option<&'a State>,
    ) -> Result<Prepared<'a>, LaunchError> {
        Prepared::new(&self.common, call, head, search, state)
    }
}

/// Refuses settings that a native hook cannot have, or that this user cannot enforce. Returns the hook's user.
fn check(settings: &Settings) -> Result<Option<(u32, u32)>, String> {
    if settings.sha256.is_some() {
        return Err("have `sha256`, which only a WebAssembly hook has: remove it".to_owned());
    }
    if let Some(directory) = settings.directories.iter().find(|directory| directory.is_renamed()) {
        return Err(format!(
            "have `guest` for the directory {}, which only a WebAssembly hook can see by another name: remove it",
            directory.host.display()
        ));
    }
    if settings.processes.is_some() && settings.user.is_none() {
        return Err("have `processes` without `user`: Linux does not limit the number of root's processes; add \
                    `user = \"nobody\"`, or remove `processes`"
            .to_owned());
    }
    let Some(name) = &settings.user else { return Ok(None) };
    let user = user(name)?;
    if !geteuid().is_root() {
        return Err("have `user`, which only root can give a hook: run hookvisor as root, or remove it".to_owned());
    }
    if let Some(unix) = settings.connections.iter().find(|connection| matches!(connection.to, Address::Unix(_))) {
        return Err(format!(
            "have `user` and a connection to {}: the other end would see hookvisor's user instead; remove one of the two",
            unix.to
        ));
    }
    if let Some(secret) = settings.secrets.first() {
        return Err(format!(
            "have `user` and the secret {}, which that user could not read: remove one of the two",
            secret.file.display()
        ));
    }
    Ok(Some(user))
}

/// Refuses a command that the hook executes itself.
fn check_commands(settings: &Settings, hook: &Path, search: &OsStr) -> Result<(), String> {
    if settings.commands.is_empty() {
        return Ok(());
    }
    let executes: Vec<PathBuf> =
        needs::executes(hook, &[], search).iter().filter_map(|path| path.canonicalize().ok()).collect();
    let own = |program: &Path| program.canonicalize().is_ok_and(|program| executes.contains(&program));
    match settings.commands.iter().find(|command| own(&command.program)) {
        Some(command) => Err(format!(
            "grant the command {}, which executes the hook itself: the hook may execute it already, confined as it is; \
             remove the grant",
            command.program.display()
        )),
        None => Ok(()),
    }
}

/// The keeper of a detached command, as a program in memory.
pub(super) fn keeper() -> Result<OwnedFd, LaunchError> {
    if SHIM.is_empty() {
        return Err(LaunchError::Refused("hookvisor cannot detach commands on this architecture".to_owned()));
    }
    sealed_program(SHIM).map_err(|error| LaunchError::Host {
        what: "could not create the program that keeps a detached command",
        why: error.to_string(),
    })
}

/// A directory in memory that is mounted nowhere, with these files.
#[cfg(feature = "wasm")]
pub(crate) fn directory_in_memory(files: &[(String, Vec<u8>)]) -> std::io::Result<OwnedFd> {
    let directory = kernel::detached_tmpfs()?;
    for (name, contents) in files {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        File::from(openat(&directory, name.as_str(), flags, Mode::S_IRUSR)?).write_all(contents)?;
    }
    Ok(directory)
}

/// The user and group of a user name, from the system's user database.
fn user(name: &str) -> Result<(u32, u32), String> {
    let found = nix::unistd::User::from_name(name);
    match found {
        Ok(Some(user)) if user.uid.is_root() => Err(format!("have `user = {name:?}`, which is root: remove it")),
        Ok(Some(user)) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        Ok(None) => Err(format!("have `user = {name:?}`, and there is no such user")),
        Err(errno) => Err(format!("have `user = {name:?}`, who could not be looked up: {}", errno.desc())),
    }
}
