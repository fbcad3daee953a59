//! Hooks that end with the host, however the host ends: a process beside it, the guardian, kills those that are left.
//!
//! The guardian is a shell that reads a pipe whose other end only the host has. The host writes a line `+N` to it when a
//! process group begins, and `-N` before the group's number can pass to somebody else. When the host ends, the kernel closes
//! the pipe, and the guardian kills the groups that are left.
//!
//! - A hook's process writes its own `+N` before it executes the hook ([`super::spawn`]), so at no moment can the host end
//!   and leave a hook behind. Where the line cannot be written, the hook is not executed.
//! - In a host that ignores SIGCHLD, the kernel reaps a group's leader at once, and its number is free. So the guardian
//!   remembers when each leader started, and does not kill a group whose number a younger process has.
//! - A guardian that has been killed, or that does not read its pipe, is replaced by one that knows all running groups: at
//!   the next line for it, or as soon as a supervisor notices.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};

use super::error::c_string;
use super::process::Child;
use super::sigpipe::SigpipeBlocked;
use super::spawn::{self, Failed, Launch, SpawnError};
use super::stat::Stat;
use crate::hook::error::LaunchError;

/// The guardian's program. Its arguments are the groups that are running already, each as `number:start`. It uses the
/// shell's own commands only, and ignores every signal that can be ignored.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT PIPE TERM TSTP
# started PID: sets $started to the time at which a process started, or to nothing if there is none.
started() {
    started=
    if read -r stat < "/proc/$1/stat"; then
        set -- ${stat##*) }
        started=${20}
    fi
}
groups=" $* "
while read -r line; do
    group=${line#?}
    case $line in
    +*) started "$group"
        groups="$groups$group:$started " ;;
    -*) case $groups in
        *" $group:"*)
            rest=${groups#*" $group:"}
            groups="${groups%%" $group:"*} ${rest#* }" ;;
        esac ;;
    esac
done
for entry in $groups; do
    group=${entry%:*}
    started "$group"
    if [ -z "$started" ] || [ "$started" = "${entry#*:}" ]; then
        kill -s KILL -- "-$group"
    fi
done
"#;

/// How long a guardian may take to end after SIGKILL.
const END_WAIT: Duration = Duration::from_secs(2);

/// A runtime's guard. Its guardian is started with the first hook.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<Guarded>);

#[derive(Debug, Default)]
struct Guarded {
    guardian: Option<Arc<Guardian>>,
    /// The running process groups, for the next guardian, each with the time at which its leader started.
    groups: BTreeMap<Pid, Option<u64>>,
}

impl Guard {
    /// What launching a hook under the guard takes.
    pub(super) fn handle(self: &Arc<Self>) -> Result<GuardHandle, LaunchError> {
        let guardian = self.guarded().guardian()?;
        Ok(GuardHandle { guard: Arc::clone(self), guardian })
    }

    /// The guardian in place of this one, which has ended or does not read.
    fn in_place_of(&self, old: &Arc<Guardian>) -> Result<Arc<Guardian>, LaunchError> {
        let mut guarded = self.guarded();
        if guarded.guardian.as_ref().is_some_and(|current| Arc::ptr_eq(current, old)) {
            guarded.dismiss();
        }
        guarded.guardian()
    }

    fn begun(&self, group: Pid, by: &Arc<Guardian>) {
        let started = Stat::of(group).map(|stat| stat.started);
        let mut guarded = self.guarded();
        guarded.groups.insert(group, started);
        match &guarded.guardian {
            Some(current) if Arc::ptr_eq(current, by) => {}
            // The one that the hook's process wrote to is gone. A new one learns of all groups when it starts.
            Some(current) if current.tell('+', group).is_ok() => {}
            _ => guarded.renew(),
        }
    }

    /// To be called before the group's leader is reaped: until then its number cannot be anybody else's.
    fn ended(&self, group: Pid) {
        let mut guarded = self.guarded();
        guarded.groups.remove(&group);
        if guarded.guardian.as_ref().is_some_and(|guardian| guardian.tell('-', group).is_err()) {
            guarded.renew();
        }
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guarded {
    fn guardian(&mut self) -> Result<Arc<Guardian>, LaunchError> {
        if let Some(guardian) = &self.guardian {
            return Ok(Arc::clone(guardian));
        }
        let guardian = Arc::new(Guardian::start(&self.groups)?);
        self.guardian = Some(Arc::clone(&guardian));
        Ok(guardian)
    }

    fn dismiss(&mut self) {
        if let Some(guardian) = self.guardian.take() {
            tracing::warn!("the guardian process (end_with_host) has ended or does not answer: replacing it");
            // What it knows is out of date, so it must not reach its end of file.
            guardian.kill();
        }
    }

    /// Replaces the guardian if there is anything to guard. If none can be started, running hooks go on and no further one
    /// is launched.
    fn renew(&mut self) {
        self.dismiss();
        if !self.groups.is_empty()
            && let Err(why) = self.guardian()
        {
            tracing::warn!("running hooks would outlive the host: {why}");
        }
    }
}

/// What launching a hook under a guard takes.
pub(super) struct GuardHandle {
    guard: Arc<Guard>,
    guardian: Arc<Guardian>,
}

impl GuardHandle {
    /// The descriptor for [`Launch::announce_on`].
    pub(super) fn announce_on(&self) -> BorrowedFd<'_> {
        self.guardian.pipe.as_fd()
    }

    /// The process was announced, and has ended without becoming the hook.
    pub(super) fn withdraw(&self, process: Pid) {
        self.guard.ended(process);
    }

    /// A handle to another guardian, where a process could not be announced to this one.
    pub(super) fn renew(self) -> Result<Self, LaunchError> {
        let guardian = self.guard.in_place_of(&self.guardian)?;
        Ok(Self { guardian, ..self })
    }

    /// The process group of a process that was announced and runs.
    pub(super) fn group(self, group: Pid) -> GuardedGroup {
        self.guard.begun(group, &self.guardian);
        GuardedGroup { guardian: Some(self.guardian), guard: self.guard, group }
    }
}

/// A process group under guard, until this is dropped.
pub(super) struct GuardedGroup {
    guard: Arc<Guard>,
    /// The guardian to watch; `None` if none can be started.
    guardian: Option<Arc<Guardian>>,
    group: Pid,
}

impl GuardedGroup {
    /// A descriptor that becomes readable when the guardian ends.
    pub(super) fn guardian(&self) -> Option<BorrowedFd<'_>> {
        self.guardian.as_ref().map(|guardian| guardian.child.process().pidfd())
    }

    /// Has another guardian take over from one that has ended.
    pub(super) fn renew(&mut self) {
        let renewed = self.guardian.take().map(|ended| self.guard.in_place_of(&ended));
        match renewed.transpose() {
            Ok(guardian) => self.guardian = guardian,
            Err(why) => tracing::warn!("a running hook would outlive the host: {why}"),
        }
    }
}

impl Drop for GuardedGroup {
    fn drop(&mut self) {
        self.guard.ended(self.group);
    }
}

#[derive(Debug)]
struct Guardian {
    pipe: File,
    child: Child,
}

impl Guardian {
    fn start(groups: &BTreeMap<Pid, Option<u64>>) -> Result<Self, LaunchError> {
        let failed =
            |why: String| LaunchError::Host { what: "could not start the guardian process (end_with_host)", why };
        let errno = |errno: Errno| failed(errno.desc().to_owned());
        let null = || open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(errno);
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(errno)?;
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(errno)?;
        let mut argv = ["sh", "-c", SCRIPT, "hookvisor-guardian"].map(str::to_owned).to_vec();
        argv.extend(groups.iter().map(|(group, started)| match started {
            Some(started) => format!("{group}:{started}"),
            None => format!("{group}:"),
        }));
        let argv: Result<Vec<_>, _> = argv.iter().map(|argument| c_string(argument.as_ref())).collect();
        let launch = Launch {
            program: c"/bin/sh",
            argv: &argv?,
            envp: &[],
            directory: c"/",
            confined: None,
            stdin: read,
            stdout: null()?,
            stderr: null()?,
            announce_on: None,
        };
        let child = spawn::spawn(launch).map_err(|error| match error {
            SpawnError::Host { what, errno } => failed(format!("{what}: {}", errno.desc())),
            SpawnError::Child { failed: Failed::Other(what) | Failed::Confine(what), errno, .. } => {
                failed(format!("/bin/sh {what}: {}", errno.desc()))
            }
            SpawnError::Child { failed: Failed::Announce, errno, .. } => failed(errno.desc().to_owned()),
        })?;
        Ok(Self { pipe: write.into(), child })
    }

    /// Does not block: a full pipe is an error, too.
    fn tell(&self, what: char, group: Pid) -> io::Result<()> {
        let _no_sigpipe = SigpipeBlocked::for_this_thread();
        // A write this short goes into a pipe in one piece.
        (&self.pipe).write_all(format!("{what}{group}\n").as_bytes())
    }

    /// Kills it, and waits until it has ended.
    fn kill(&self) {
        let process = self.child.process();
        if !process.wait_for_end(Duration::ZERO) {
            process.signal_group(Signal::SIGKILL);
            process.wait_for_end(END_WAIT);
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if self.child.is_of_this_process() {
            self.kill();
        }
    }
}
