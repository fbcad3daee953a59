//! Starts programs: hooks, and the commands that sandboxed hooks are granted.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{fs, io};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::{AccessFlags, faccessat, geteuid, pipe2};

use super::confine::attendant::{Attendant, CommandStart, Service, StartCommand};
use super::confine::{self, Confinement, Prepared};
use super::detach::{self, Detached};
use super::error::{c_string, host_error};
use super::guard::{Guard, GuardHandle, GuardedGroup};
use super::pipes::{self, ChildEnds};
use super::process::Child;
use super::shebang;
use super::sigpipe::SigpipeBlocked;
use super::spawn::{self, Failed, Launch, SpawnError};
use super::supervise::Supervisor;
use crate::backend::{Call, Completion, Program};
use crate::hook::digest::Content;
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::settings::Settings;
use crate::hook::settings::with_variables;
use crate::hook::state::{State, StateRoot};
use crate::hook::trust::Trust;
use crate::hook::walk::OneLook;

/// Variables of the host's environment that a hook inherits. Source of the rule: libvirt's virCommandAddEnvPassCommon,
/// without the variables of the dynamic linker.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR"];
/// The `PATH` if the host has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Retries of execve while a process has the file open for writing, and the pause between them.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// How many guardians in a row may end before a hook is announced to them.
const GUARDIAN_TRIES: u32 = 3;
/// How long to wait for a process that failed to execute the hook.
const FAILED_WAIT: Duration = Duration::from_secs(1);

/// Runs the program at a call's path.
#[derive(Debug)]
pub(super) struct Launcher {
    env: Vec<(OsString, OsString)>,
    trust: Trust,
    guard: Option<Arc<Guard>>,
}

impl Launcher {
    /// Copies the environment for all programs from the host's current one. `path` replaces its `PATH`.
    pub(super) fn new(trust: Trust, end_with_host: bool, path: Option<OsString>) -> Self {
        let mut env = vec![("LC_ALL".into(), "C".into())];
        env.extend(PASSED_ON.iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?))));
        if let Some(path) = path {
            env.retain(|(name, _)| name != "PATH");
            env.push(("PATH".into(), path));
        }
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".into(), DEFAULT_PATH.into()));
        }
        Self { env, trust, guard: end_with_host.then(Arc::default) }
    }

    /// Explains why the system could not execute a file with this beginning, if that is visible.
    pub(super) fn check(&self, path: &Path, head: &[u8]) -> Result<(), LaunchError> {
        may_execute(path)?;
        shebang::check(path, head, self.search())
    }

    fn environment(&self, granted: &[(String, String)]) -> Result<Vec<CString>, LaunchError> {
        let is_granted = |name: &OsStr| granted.iter().any(|(granted, _)| name == OsStr::new(granted));
        let passed = self.env.iter().filter(|(name, _)| !is_granted(name));
        let passed = passed.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let granted = granted.iter().map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        let entry = |(name, value): (&OsStr, &OsStr)| c_string(&[name, value].join(OsStr::new("=")));
        passed.chain(granted).map(entry).collect()
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust
    }

    /// The confinement of a hook.
    pub(super) fn confinement(
        &self,
        hook: &Path,
        settings: &Settings,
        state: StateRoot,
    ) -> Result<Confinement, LaunchError> {
        Confinement::new(hook, self.search(), settings, state, self.trust)
    }

    pub(super) fn search(&self) -> &OsStr {
        self.env.iter().find(|(name, _)| name == "PATH").map_or(OsStr::new(""), |(_, value)| value)
    }

    /// Starts a program. Retries failures that may pass. `prepare` creates the resources of each try.
    fn start<'a, T>(
        &self,
        start: &Start<'_>,
        mut prepare: impl FnMut() -> Result<(T, ChildEnds, Option<Prepared<'a>>), LaunchError>,
    ) -> Result<Launched<'a, T>, LaunchError> {
        let program = c_string(start.path.as_os_str())?;
        let mut argv = vec![program.clone()];
        for argument in start.arguments {
            argv.push(c_string(OsStr::new(argument))?);
        }
        let envp = self.environment(start.env)?;
        let mut guard = self.guard.as_ref().map(Guard::handle).transpose()?;
        let (mut busy, mut unguarded) = (0, 0);
        loop {
            let (taken, streams, prepared) = prepare()?;
            let launch = Launch {
                program: prepared.as_ref().map_or(&program, Prepared::program),
                argv: &argv,
                envp: &envp,
                directory: start.directory,
                stdin: streams.stdin,
                stdout: streams.stdout,
                stderr: streams.stderr,
                announce_on: guard.as_ref().map(GuardHandle::announce_on),
                confined: prepared.as_ref().map(Prepared::steps),
            };
            let (spawned, executes) = match &prepared {
                Some(prepared) => prepared.launch(|| spawn::spawn(launch)),
                None => (spawn::spawn(launch), Ok(Vec::new())),
            };
            let (mut child, failed, errno) = match spawned {
                Ok(child) => return Ok(Launched { child, guard, taken, prepared, executes: executes? }),
                Err(SpawnError::Host { what, errno }) => return Err(host_error(what, errno)),
                Err(SpawnError::Child { child, failed, errno }) => (child, failed, errno),
            };
            if let Some(guard) = &guard {
                guard.withdraw(child.process().pid());
            }
            child.reap(FAILED_WAIT);
            // If there are no rules for it, the child has failed for that.
            executes?;
            match failed {
                Failed::Announce if unguarded < GUARDIAN_TRIES => {
                    unguarded += 1;
                    guard = guard.map(GuardHandle::renew).transpose()?;
                }
                Failed::Announce => {
                    return Err(host_error("could not be announced to the guardian process (end_with_host)", errno));
                }
                Failed::Confine(what) => {
                    return Err(LaunchError::Refused(format!("confining it failed: {what}: {}", errno.desc())));
                }
                Failed::Other(_) if errno == Errno::ETXTBSY && busy < BUSY_TRIES => {
                    busy += 1;
                    thread::sleep(BUSY_PAUSE);
                }
                Failed::Other(what) => return Err(self.explain(what, errno, start.path, start.head)),
            }
        }
    }

    /// Checks a hook again: it may have been edited since it was loaded, and its permissions changed. What it changes once it
    /// runs is seen by all later checks.
    pub(super) fn open(&self, hook: &Path) -> Result<HookFile, LaunchError> {
        let opened = HookFile::open(hook, self.trust);
        OneLook::end_all();
        opened.map_err(|why| if is_gone(hook) { gone() } else { why })
    }

    /// Runs a hook, within a confinement if it has one.
    pub(super) fn run_hook(
        &self,
        call: &Call<'_>,
        confinement: Option<&Confinement>,
    ) -> Result<Completion, LaunchError> {
        let file = self.open(call.path)?;
        let content = call.content(&file);
        let cancel_events: Vec<BorrowedFd<'_>> =
            call.deadline.cancel_events().map_err(|errno| host_error("could not create an event descriptor", errno))?;
        let state = confinement.map(|confinement| confinement.state(call.path)).transpose()?.flatten();
        let more = state.iter().map(State::variable);
        let more = more.chain(confinement.into_iter().flat_map(Confinement::secrets)).collect();
        let env = &with_variables(call.env, more);
        let start = Start { path: call.path, head: &file.head, arguments: call.arguments, env, directory: c"/" };
        let launched = self.start(&start, || {
            let (parent, child) = pipes::create()?;
            let prepare =
                |confinement| Confinement::prepare(confinement, call, &file.head, self.search(), state.as_ref());
            let prepared = confinement.map(prepare).transpose()?;
            Ok((parent, child, prepared))
        })?;
        let Launched { child, guard, taken: pipes, prepared, executes } = launched;
        let sha256 = content.map(Content::digest);
        let attendant = match (confinement, prepared) {
            (Some(confinement), Some(prepared)) => {
                let executes = executes.clone();
                let listener = prepared.listener()?;
                Some(Attendant::new(Service {
                    listener,
                    starter: self,
                    broker: confinement.broker(call),
                    grace: call.limits.grace,
                    covered: confinement.programs(),
                    executes,
                    trust: self.trust,
                    group: child.process().pid(),
                }))
            }
            _ => None,
        };
        let _no_sigpipe = SigpipeBlocked::for_this_thread();
        let group = guard.map(|guard| guard.group(child.process().pid()));
        let mut ended = Supervisor::new((child, group), pipes, cancel_events, attendant, call).run();
        if let Some(confinement) = confinement {
            ended.notes.extend(confinement.refusals(call, &executes, state.as_ref(), &ended));
        }
        Ok(Completion { sha256, ..ended })
    }

    fn explain(&self, what: &'static str, errno: Errno, path: &Path, head: &[u8]) -> LaunchError {
        // execve returns ENOENT both for a missing script and for a missing interpreter.
        if let Err(better) = self.check(path, head) {
            return better;
        }
        match errno {
            Errno::ENOENT if is_gone(path) => gone(),
            Errno::ENOENT => LaunchError::NotFound(format!(
                "{what}: {}: the interpreter or dynamic loader that it needs is missing",
                errno.desc()
            )),
            Errno::ETXTBSY => {
                LaunchError::Refused("a process still has it open for writing: try again when it is closed".to_owned())
            }
            Errno::ENOEXEC => LaunchError::Refused(
                "it is damaged, or built for another kind of machine: build or copy it again".to_owned(),
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

/// A program to start.
struct Start<'a> {
    path: &'a Path,
    /// The first bytes of its file.
    head: &'a [u8],
    arguments: &'a [&'a str],
    /// Variables added to the common environment.
    env: &'a [(String, String)],
    directory: &'a CStr,
}

/// A started program.
struct Launched<'a, T> {
    child: Child,
    guard: Option<GuardHandle>,
    taken: T,
    prepared: Option<Prepared<'a>>,
    /// The files that start it, if it is confined.
    executes: Vec<PathBuf>,
}

impl Program for Launcher {
    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        self.run_hook(call, None)
    }

    fn leave(&self, command: &Detached<'_>) -> Result<(), LaunchError> {
        let file = HookFile::open(command.program, self.trust)?;
        let arguments = command.keeper_arguments()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let path = Path::new(detach::KEEPER);
        let start = Start { path, head: &[], arguments: &arguments, env: &[], directory: command.directory };
        let launched = self.start(&start, || {
            let (read, write) =
                pipe2(OFlag::O_CLOEXEC).map_err(|errno| host_error("could not create a pipe", errno))?;
            let [stdin, stdout, stderr] = detach::streams(confine::keeper()?, write)?;
            Ok((read, ChildEnds { stdin, stdout, stderr }, None))
        })?;
        let Launched { mut child, guard, taken: status, .. } = launched;
        // The keeper is no longer a child of this process, and measures the command's time itself.
        if let Some(guard) = &guard {
            guard.withdraw(child.process().pid());
        }
        child.reap(FAILED_WAIT);
        match detach::failure(status) {
            Some(errno) => Err(self.explain("could not be executed", errno, command.program, &file.head)),
            None => Ok(()),
        }
    }
}

impl StartCommand for Launcher {
    fn leave(&self, command: &Detached<'_>) -> Result<(), LaunchError> {
        Program::leave(self, command)
    }

    fn start_command(&self, command: CommandStart<'_>) -> Result<(Child, Option<GuardedGroup>), LaunchError> {
        let CommandStart { program, arguments, directory, streams } = command;
        let file = HookFile::open(program, self.trust)?;
        let start = Start { path: program, head: &file.head, arguments, env: &[], directory };
        let launched = self.start(&start, || {
            let copied = |stream: &OwnedFd| {
                stream
                    .try_clone()
                    .map_err(|error| LaunchError::Host { what: "could not copy a descriptor", why: error.to_string() })
            };
            let [stdin, stdout, stderr] = &streams;
            let streams = ChildEnds { stdin: copied(stdin)?, stdout: copied(stdout)?, stderr: copied(stderr)? };
            Ok(((), streams, None))
        })?;
        let Launched { child, guard, .. } = launched;
        let guard = guard.map(|guard| guard.group(child.process().pid()));
        Ok((child, guard))
    }
}

/// Checks whether this user can execute a file, by its mode and its file system.
fn may_execute(path: &Path) -> Result<(), LaunchError> {
    match faccessat(AT_FDCWD, path, AccessFlags::X_OK, AtFlags::AT_EACCESS) {
        Err(Errno::EACCES) => Err(LaunchError::Refused(format!(
            "user {} may not execute it: check its permissions, and that its file system is not mounted noexec",
            geteuid()
        ))),
        // Later steps report any other problem.
        Ok(()) | Err(_) => Ok(()),
    }
}

fn is_gone(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

fn gone() -> LaunchError {
    LaunchError::NotFound("the file has been removed: put it back, or reload the hooks".to_owned())
}
