//! Ends hooks together with the host. A separate process, the guardian, kills the remaining hooks when the host ends
//! for any reason.
//!
//! The guardian is a shell that reads a pipe, whose write end only the host has. The host writes a line `+N` when a
//! process group begins, and `-N` before another process can get the group's number. When the host ends, the kernel
//! closes the pipe, and the guardian kills the remaining groups.
//!
//! - A hook's process writes its own `+N` before it executes the hook ([`super::spawn`]). So the host cannot end at a
//!   moment that leaves a hook behind. If the line cannot be written, the hook is not executed.
//! - In a host that ignores SIGCHLD, the kernel reaps a group's leader at once, and its number is free. So the guardian
//!   remembers when each leader started, and does not kill a group whose number belongs to a younger process.
//! - A guardian that was killed, or that does not read its pipe, is replaced by one that knows all running groups: at
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

/// The guardian's program. Its arguments are the running groups, each as `number:start`. It uses only shell built-ins,
/// and ignores every signal that can be ignored.
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

/// How long to wait for a guardian after SIGKILL.
const END_WAIT: Duration = Duration::from_secs(2);

/// The guard of a runtime. Its guardian starts with the first hook.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<Guarded>);

#[derive(Debug, Default)]
struct Guarded {
    guardian: Option<Arc<Guardian>>,
    /// The running process groups with their leaders' start times, for the next guardian.
    groups: BTreeMap<Pid, Option<u64>>,
}

impl Guard {
    /// What the launch of a hook under the guard needs.
    pub(super) fn handle(self: &Arc<Self>) -> Result<GuardHandle, LaunchError> {
        let guardian = self.guarded().guardian()?;
        Ok(GuardHandle { guard: Arc::clone(self), guardian })
    }

    /// Replaces this guardian, which has ended or does not read.
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
            // The guardian that the hook's process wrote to is gone. A new one gets all groups when it starts.
            Some(current) if current.tell('+', group).is_ok() => {}
            _ => guarded.renew(),
        }
    }

    /// Call this before the group's leader is reaped: until then, no other process can have its number.
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
            // Its list is out of date, so it must not see end of file.
            guardian.kill();
        }
    }

    /// Replaces the guardian if there is anything to guard. If none can be started, running hooks continue, and no
    /// further hook is launched.
    fn renew(&mut self) {
        self.dismiss();
        if !self.groups.is_empty()
            && let Err(why) = self.guardian()
        {
            tracing::warn!("running hooks would outlive the host: {why}");
        }
    }
}

/// What the launch of a hook under a guard needs.
pub(super) struct GuardHandle {
    guard: Arc<Guard>,
    guardian: Arc<Guardian>,
}

impl GuardHandle {
    /// The descriptor for [`Launch::announce_on`].
    pub(super) fn announce_on(&self) -> BorrowedFd<'_> {
        self.guardian.pipe.as_fd()
    }

    /// The process was announced, and ended before it executed the hook.
    pub(super) fn withdraw(&self, process: Pid) {
        self.guard.ended(process);
    }

    /// A handle to another guardian, after announcing the process to this one has failed.
    pub(super) fn renew(self) -> Result<Self, LaunchError> {
        let guardian = self.guard.in_place_of(&self.guardian)?;
        Ok(Self { guardian, ..self })
    }

    /// The process group of an announced, running process.
    pub(super) fn group(self, group: Pid) -> GuardedGroup {
        self.guard.begun(group, &self.guardian);
        GuardedGroup { guardian: Some(self.guardian), guard: self.guard, group }
    }
}

/// A guarded process group. The guard ends on drop.
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

    /// Replaces a guardian that has ended.
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

    /// Does not block. A full pipe is an error too.
    fn tell(&self, what: char, group: Pid) -> io::Result<()> {
        let _no_sigpipe = SigpipeBlocked::for_this_thread();
        // A write this short is atomic.
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
