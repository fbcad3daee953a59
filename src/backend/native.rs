//! Hooks that are processes: ordinary executable scripts and binaries.

mod guard;
mod holders;
mod pipes;
mod shebang;
mod spawn;
mod supervise;

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat, geteuid};

use self::guard::{Guard, Pass};
use self::spawn::{Child, Launch, SpawnError};
use self::supervise::Supervisor;
use crate::backend::{Backend, Call, Completion, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
use crate::hook::trust::Trust;
use crate::limits::Limits;

/// What a hook's environment takes over from the host's, where set. Source of the rule: libvirt's
/// virCommandAddEnvPassCommon, without what steers the dynamic linker.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"];
/// The search path where the host has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How often, and how far apart, execve is tried again on a file that somebody still has open for writing.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// How many guardians in a row may end before a hook that was told to them.
const GUARDIAN_TRIES: u32 = 3;

/// The back-end for processes.
#[derive(Debug, Clone)]
pub(crate) struct Native {
    env: Vec<(OsString, OsString)>,
    trust: Trust,
    guard: Option<Arc<Guard>>,
}

impl Native {
    /// Takes the environment for all hooks from the host's, as it is now.
    pub(crate) fn new(trust: Trust, end_with_host: bool) -> Self {
        let mut env = vec![("LC_ALL".into(), "C".into())];
        env.extend(PASSED_ON.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".into(), DEFAULT_PATH.into()));
        }
        Self { env, trust, guard: end_with_host.then(Arc::default) }
    }

    fn explain_unlaunchable(&self, path: &Path, head: &[u8]) -> Result<(), LaunchError> {
        may_execute(path)?;
        let search = self.env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value);
        shebang::check(path, head, search)
    }
}

impl Backend for Native {
    fn kind(&self) -> Kind {
        Kind::Native
    }

    fn load(&self, file: HookFile, settings: &Settings, _limits: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        settings.refuse_for_native(&file.path)?;
        self.explain_unlaunchable(&file.path, &file.head)?;
        Ok(Box::new(self.clone()))
    }
}

impl Program for Native {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        // An administrator may have edited the script since it was loaded, and somebody else its permissions.
        let file =
            HookFile::open(call.path, self.trust).map_err(|why| if is_gone(call.path) { gone() } else { why })?;
        let program = c_string(call.path.as_os_str())?;
        let mut argv = vec![program.clone()];
        for argument in call.arguments {
            argv.push(c_string(OsStr::new(argument))?);
        }
        let envp = self.environment(call.env)?;
        let cancel_events =
            call.deadline.cancel_events().map_err(|errno| host_error("could not make an event descriptor", errno))?;
        let mut pass = self.guard.as_ref().map(Guard::pass).transpose()?;
        let (mut busy, mut unguarded) = (0, 0);
        loop {
            let (ours, theirs) = pipes::create()?;
            let launch = Launch {
                program: &program,
                argv: &argv,
                envp: &envp,
                stdin: theirs.stdin,
                stdout: theirs.stdout,
                stderr: theirs.stderr,
                pass: pass.as_ref(),
            };
            match spawn::spawn(launch) {
                Ok(child) => return Ok(supervise(child, pass, ours, cancel_events, call)),
                Err(SpawnError::Unguarded { .. }) if unguarded < GUARDIAN_TRIES => {
                    unguarded += 1;
                    pass = pass.map(Pass::renew).transpose()?;
                }
                Err(SpawnError::Exec { errno: Errno::ETXTBSY, .. }) if busy < BUSY_TRIES => {
                    busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                Err(error) => return Err(self.explain(error, call.path, &file.head)),
            }
        }
    }
}

fn supervise<'a>(
    child: Child,
    pass: Option<Pass>,
    pipes: pipes::Ours,
    cancel_events: Vec<BorrowedFd<'a>>,
    call: &'a Call<'a>,
) -> Completion {
    let _no_sigpipe = pipes::SigpipeBlocked::for_this_thread();
    let ward = pass.map(|pass| pass.ward(child.pid));
    Supervisor::new((child, ward), pipes, cancel_events, call).run()
}

impl Native {
    fn environment(&self, granted: &[(String, String)]) -> Result<Vec<CString>, LaunchError> {
        let is_granted = |name: &OsStr| granted.iter().any(|(granted, _)| name == OsStr::new(granted));
        let passed = self.env.iter().filter(|(name, _)| !is_granted(name));
        let passed = passed.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let granted = granted.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        let entry = |(name, value): (&OsStr, &OsStr)| c_string(&[name, value].join(OsStr::new("=")));
        passed.chain(granted).map(entry).collect()
    }

    fn explain(&self, error: SpawnError, path: &Path, head: &[u8]) -> LaunchError {
        let (what, errno) = match error {
            SpawnError::Host { what, errno } => return host_error(what, errno),
            SpawnError::Unguarded { errno } => {
                return host_error("could not tell what would end it with the host", errno);
            }
            SpawnError::Exec { what, errno } => (what, errno),
        };
        // execve gives ENOENT for a script whose interpreter is missing as for one that is missing itself.
        if let Err(better) = self.explain_unlaunchable(path, head) {
            return better;
        }
        match errno {
            Errno::ENOENT if is_gone(path) => gone(),
            Errno::ENOENT => LaunchError::NotFound(format!(
                "{what}: {}: what it needs to run (an interpreter or dynamic loader) is not there",
                errno.desc()
            )),
            Errno::ETXTBSY => {
                LaunchError::Refused("somebody still has it open for writing: try again once it is written".to_owned())
            }
            Errno::ENOEXEC => LaunchError::Refused(
                "it is damaged, or a program for another kind of machine: build it, or copy it, again".to_owned(),
            ),
            Errno::EACCES => LaunchError::Refused(format!(
                "{what}: {}: check its permissions, and that its file system is not mounted noexec",
                errno.desc()
            )),
            Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE => host_error(what, errno),
            _ => LaunchError::Refused(format!("{what}: {}", errno.desc())),
        }
    }
}

/// Asks as execve(2) will: whether one of its execute bits is for this user, and its file system has them count.
fn may_execute(path: &Path) -> Result<(), LaunchError> {
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Err(Errno::EACCES) => Err(LaunchError::Refused(format!(
            "user {} may not execute it: check its permissions, and that its file system is not mounted noexec",
            geteuid()
        ))),
        // Any other trouble is told by what comes after.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn gone() -> LaunchError {
    LaunchError::NotFound("it is no longer there: put it back, or reload the hooks".to_owned())
}

fn host_error(what: &'static str, errno: Errno) -> LaunchError {
    let why = match errno {
        Errno::EAGAIN => "no more processes or threads are allowed here (`ulimit -u`, or the limit of its cgroup)",
        _ => errno.desc(),
    };
    LaunchError::Host { what, why: why.to_owned() }
}

fn c_string(value: &OsStr) -> Result<CString, LaunchError> {
    CString::new(value.as_bytes()).map_err(|_| {
        LaunchError::Refused(format!("{} contains a NUL byte, which no program can be given", value.display()))
    })
}
