//! Hooks that end with the host, however that ends: a process beside it, the guardian, kills those that are left.
//!
//! The guardian is a shell that reads a pipe of which the host alone has the other end. Through it come the process groups
//! under way: `+N` when one begins, `-N` before its number may pass to somebody else. At the end of file, which nobody
//! but the kernel has to bring about, it kills the groups that are left.
//!
//! - A hook's process writes its own `+` before it executes the hook ([`super::spawn`]), so there is no moment in which
//!   the host could die and leave one behind. Where that cannot be written, the hook is not executed.
//! - A guardian that somebody has ended, or that does not read its pipe empty, is replaced by one that is told of all groups
//!   under way: at the next line for it, or as soon as one who waits for a hook sees it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};

use super::pipes::SigpipeBlocked;
use super::spawn::{self, Child, Launch, SpawnError};
use super::supervise;
use crate::hook::error::LaunchError;

/// The guardian; its arguments are the groups that are under way already. It needs no program but the shell's own commands,
/// and ends by no signal that can be ignored.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT PIPE TERM TSTP
groups=" $* "
while read -r line; do
    group=${line#?}
    case $line in
    +*) groups="$groups$group " ;;
    -*) case $groups in *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;; esac ;;
    esac
done
for group in $groups; do
    kill -s KILL -- "-$group"
done
"#;

/// How long a guardian may take to go after SIGKILL, in milliseconds.
const END_WAIT_MS: u16 = 2000;

/// A runtime's guard, whose guardian is started with the first hook.
#[derive(Debug, Default)]
pub(super) struct Guard(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    guardian: Option<Arc<Guardian>>,
    /// The process groups under way, for the next guardian.
    groups: BTreeSet<Pid>,
}

impl Guard {
    /// What a hook needs to be launched under the guard.
    pub(super) fn pass(self: &Arc<Self>) -> Result<Pass, LaunchError> {
        let by = self.state().guardian()?;
        Ok(Pass { guard: Arc::clone(self), by })
    }

    /// The guardian that is there instead of this one, which has ended or does not read.
    fn instead_of(&self, old: &Arc<Guardian>) -> Result<Arc<Guardian>, LaunchError> {
        let mut state = self.state();
        if state.guardian.as_ref().is_some_and(|current| Arc::ptr_eq(current, old)) {
            state.dismiss();
        }
        state.guardian()
    }

    fn begun(&self, group: Pid, by: &Arc<Guardian>) {
        let mut state = self.state();
        state.groups.insert(group);
        match &state.guardian {
            Some(current) if Arc::ptr_eq(current, by) => {}
            // The one that the hook's process has told is gone. A new one is told of all groups when it starts.
            Some(current) if current.tell('+', group).is_ok() => {}
            _ => state.renew(),
        }
    }

    /// To be called before the group's leader is waited for: then its number can still not be anybody else's.
    fn ended(&self, group: Pid) {
        let mut state = self.state();
        state.groups.remove(&group);
        if state.guardian.as_ref().is_some_and(|guardian| guardian.tell('-', group).is_err()) {
            state.renew();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
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
            tracing::warn!("the process that ends hooks with the host was ended, or does not answer: it is replaced");
            // What it knows is no longer true, so it must not come to its end of file.
            guardian.kill();
        }
    }

    /// Replaces the guardian if there is anything to guard. Hooks under way go on where there can be none; no further one
    /// is launched then.
    fn renew(&mut self) {
        self.dismiss();
        if !self.groups.is_empty()
            && let Err(why) = self.guardian()
        {
            tracing::warn!("hooks that are under way would outlive the host: {why}");
        }
    }
}

/// What a hook is launched with.
pub(super) struct Pass {
    guard: Arc<Guard>,
    by: Arc<Guardian>,
}

impl Pass {
    /// Where the hook's process tells of itself.
    pub(super) fn pipe(&self) -> BorrowedFd<'_> {
        self.by.pipe.as_fd()
    }

    /// The process has told of itself, and has not become the hook.
    pub(super) fn void(&self, process: Pid) {
        self.guard.ended(process);
    }

    /// It could not be told.
    pub(super) fn renew(self) -> Result<Self, LaunchError> {
        let by = self.guard.instead_of(&self.by)?;
        Ok(Self { by, ..self })
    }

    pub(super) fn ward(self, group: Pid) -> Ward {
        self.guard.begun(group, &self.by);
        Ward { by: Some(self.by), guard: self.guard, group }
    }
}

/// A process group under guard, until this is dropped.
pub(super) struct Ward {
    guard: Arc<Guard>,
    /// The guardian that is watched; `None` if there is none to be had.
    by: Option<Arc<Guardian>>,
    group: Pid,
}

impl Ward {
    /// A descriptor that becomes readable when the guardian ends.
    pub(super) fn guardian(&self) -> Option<BorrowedFd<'_>> {
        self.by.as_ref().map(|guardian| guardian.child.pidfd())
    }

    /// Has another guardian take over.
    pub(super) fn renew(&mut self) {
        let renewed = self.by.take().map(|ended| self.guard.instead_of(&ended));
        match renewed.transpose() {
            Ok(by) => self.by = by,
            Err(why) => tracing::warn!("a hook that is under way would outlive the host: {why}"),
        }
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        self.guard.ended(self.group);
    }
}

#[derive(Debug)]
struct Guardian {
    pipe: File,
    child: Child,
    /// The process that started it: a copy that this has forked does not end it.
    host: u32,
}

impl Guardian {
    fn start(groups: &BTreeSet<Pid>) -> Result<Self, LaunchError> {
        let failed = |why: String| LaunchError::Host { what: "could not start what would end it with the host", why };
        let errno = |errno: Errno| failed(errno.desc().to_owned());
        let null = || open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(errno);
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(errno)?;
        fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(errno)?;
        let mut argv = ["sh", "-c", SCRIPT, "hookvisor-guardian"].map(str::to_owned).to_vec();
        argv.extend(groups.iter().map(Pid::to_string));
        let argv: Result<Vec<_>, _> = argv.iter().map(|argument| super::c_string(argument.as_ref())).collect();
        let launch = Launch {
            program: c"/bin/sh",
            argv: &argv?,
            envp: &[],
            stdin: read,
            stdout: null()?,
            stderr: null()?,
            pass: None,
        };
        let child = spawn::spawn(launch).map_err(|error| match error {
            SpawnError::Host { what, errno } => failed(format!("{what}: {}", errno.desc())),
            SpawnError::Exec { what, errno } => failed(format!("/bin/sh {what}: {}", errno.desc())),
            SpawnError::Unguarded { errno } => failed(errno.desc().to_owned()),
        })?;
        Ok(Self { pipe: write.into(), child, host: std::process::id() })
    }

    /// Never blocks: a pipe that is full is an error, too.
    fn tell(&self, what: char, group: Pid) -> io::Result<()> {
        let _no_sigpipe = SigpipeBlocked::for_this_thread();
        // In one piece, as every write to a pipe that is so short.
        (&self.pipe).write_all(format!("{what}{group}\n").as_bytes())
    }

    /// Kills it, and waits until it has gone.
    fn kill(&self) {
        let mut gone = [PollFd::new(self.child.pidfd(), PollFlags::POLLIN)];
        if poll(&mut gone, 0_u16) == Ok(0) {
            // It is a group of its own.
            let _ = killpg(self.child.pid, Signal::SIGKILL);
            while poll(&mut gone, END_WAIT_MS) == Err(Errno::EINTR) {}
        }
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if self.host == std::process::id() {
            self.kill();
            supervise::reap_now_or_later(&self.child);
        }
    }
}
