//! The guests. Hooks are asked before a guest starts, and told after it has ended, however it ended.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hookvisor::{Cancel, Event, EventError, Guest, Runtime};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::state::{Entry, Process, StateFile};

pub(crate) const DRIVER: &str = "daemon-example";
/// The time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Guests {
    hooks: Runtime,
    ending: Cancel,
    file: StateFile,
    states: Mutex<BTreeMap<String, GuestState>>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GuestState {
    /// The hooks are being asked.
    Starting,
    /// It runs. Its process leads a process group that can be signalled.
    Running(Pid),
    /// The hooks are being told.
    Ended(Pid),
}

impl Guests {
    /// None at first. After `ending` is cancelled, no guest can be started.
    pub(crate) fn new(hooks: Runtime, ending: Cancel, file: StateFile) -> Self {
        Self { hooks, ending, file, states: Mutex::default(), changed: Condvar::new() }
    }

    /// Adopts the guests of a daemon that was killed. A running guest is reconnected unless a hook vetoes that. For an
    /// ended guest, the hooks are told. Returns when all hooks have answered.
    pub(crate) fn recover(self: &Arc<Self>) {
        thread::scope(|scope| {
            for (name, entry) in self.file.all() {
                scope.spawn(move || {
                    if let Err(why) = self.recover_one(&name, &entry) {
                        tracing::error!(guest = name, "cannot be taken over: {why:#}");
                    }
                });
            }
        });
    }

    fn recover_one(self: &Arc<Self>, name: &str, entry: &Entry) -> anyhow::Result<()> {
        let start = start_event(name, &entry.program)?;
        let name = self.reserve(name)?;
        let guest = self.hooks.adopt(start.clone());
        let Some(process) = entry.process() else {
            tracing::info!(guest = name.name, "has ended meanwhile, or was never started");
            self.file.kill_marked(&name.name);
            drop(guest.stopped());
            return Ok(());
        };
        tracing::info!(guest = name.name, pid = %process.pid, "runs still");
        let reconnect = start.then("reconnect")?;
        let verdict = self.hooks.call(&reconnect).cancel(&self.ending).start().into_result();
        let pid = process.pid;
        self.states().insert(name.name.clone(), GuestState::Running(pid));
        let watched = name.name.clone();
        let watcher = thread::Builder::new().name(format!("guest {watched}"));
        watcher.spawn(move || watch(name, &process, None, guest))?;
        if let Err(veto) = verdict {
            tracing::warn!(guest = watched, "is ended: {veto}");
            self.end(|guest, state| guest == watched && is_of(state, pid));
        }
        Ok(())
    }

    /// Starts a guest if the hooks allow it. Its name is reserved meanwhile.
    pub(crate) fn start(self: &Arc<Self>, name: &str, program: &[&str]) -> anyhow::Result<String> {
        let (executable, arguments) = program.split_first().context("start what?")?;
        let mut entry = Entry::new(program);
        let event = start_event(name, &entry.program)?;
        let name = self.reserve(name)?;
        // A veto is an error here. After this, an error drops the guest, and its hooks are told that it is over.
        let admitted = self.hooks.call(&event).cancel(&self.ending).admit()?;
        let (variable, value) = self.file.mark(&name.name);
        let mut command = Command::new(executable);
        command.args(arguments).env(variable, value).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

        // Create the thread before the process, so that every process has a thread that waits for it.
        let (hand_over, handed_over) = mpsc::channel::<(Name, Process, Child, Guest)>();
        let watcher = thread::Builder::new().name(format!("guest {}", name.name));
        watcher.spawn(move || {
            handed_over.recv().map(|(name, process, child, admitted)| watch(name, &process, Some(child), admitted))
        })?;

        let mut states = self.states();
        self.refuse_at_the_end()?;
        self.file.put(&name.name, entry.clone())?;
        let mut child = command.spawn().with_context(|| format!("{executable} could not be started"))?;
        let known = Process::of(child.id().cast_signed()).and_then(|process| {
            entry.runs_as(process.pid)?;
            Ok(process)
        });
        let process = match known.map_err(Into::into).and_then(|known| self.file.put(&name.name, entry).map(|()| known))
        {
            Ok(process) => process,
            Err(why) => {
                child.kill()?;
                child.wait()?;
                return Err(why);
            }
        };
        let pid = process.pid;
        states.insert(name.name.clone(), GuestState::Running(pid));
        drop(states);
        tracing::info!(guest = name.name, %pid, "started");
        let answer = format!("{} runs as process {pid}", name.name);
        hand_over.send((name, process, child, admitted)).context("its thread has ended")?;
        Ok(answer)
    }

    /// Stops a guest. Returns when its hooks have been told.
    pub(crate) fn stop(&self, name: &str) -> anyhow::Result<String> {
        let pid = match self.states().get(name) {
            None => bail!("{name} is not running"),
            Some(GuestState::Starting) => bail!("{name} is still starting"),
            Some(GuestState::Running(pid) | GuestState::Ended(pid)) => *pid,
        };
        self.end(|guest, state| guest == name && is_of(state, pid));
        Ok(format!("{name} is stopped"))
    }

    /// Stops all guests. Returns when none is left.
    pub(crate) fn stop_all(&self) {
        self.end(|_, _| true);
    }

    pub(crate) fn list(&self) -> String {
        let line = |(name, state): (&String, &GuestState)| match state {
            GuestState::Starting => format!("{name} is starting"),
            GuestState::Running(pid) => format!("{name} runs as process {pid}"),
            GuestState::Ended(_) => format!("{name} has ended"),
        };
        self.states().iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Sends SIGTERM to the chosen guests, then SIGKILL, and waits until they have ended.
    fn end(&self, chosen: impl Fn(&str, &GuestState) -> bool) {
        let is_left =
            |states: &mut BTreeMap<String, GuestState>| states.iter().any(|(name, state)| chosen(name, state));
        let signal = |states: &BTreeMap<String, GuestState>, signal| {
            for (_, state) in states.iter().filter(|(name, state)| chosen(name, state)) {
                if let GuestState::Running(pid) = state {
                    // ESRCH: it has ended, and its thread will notice.
                    let _ = killpg(*pid, signal);
                }
            }
        };
        let states = self.states();
        signal(&states, Signal::SIGTERM);
        let (states, _) =
            self.changed.wait_timeout_while(states, GRACE, is_left).unwrap_or_else(PoisonError::into_inner);
        signal(&states, Signal::SIGKILL);
        drop(self.changed.wait_while(states, is_left).unwrap_or_else(PoisonError::into_inner));
    }

    fn reserve(self: &Arc<Self>, name: &str) -> anyhow::Result<Name> {
        let mut states = self.states();
        self.refuse_at_the_end()?;
        ensure!(!states.contains_key(name), "there is a guest {name} already");
        states.insert(name.to_owned(), GuestState::Starting);
        Ok(Name { guests: Arc::clone(self), name: name.to_owned() })
    }

    fn refuse_at_the_end(&self) -> anyhow::Result<()> {
        ensure!(!self.ending.is_cancelled(), "the daemon is ending");
        Ok(())
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, GuestState>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start_event(name: &str, program: &[String]) -> Result<Event, EventError> {
    Ok(Event::new(DRIVER, name, "start")?.with_document(program.join(" ")))
}

fn is_of(state: &GuestState, pid: Pid) -> bool {
    matches!(state, GuestState::Running(p) | GuestState::Ended(p) if *p == pid)
}

/// A reserved guest name, released on drop.
struct Name {
    guests: Arc<Guests>,
    name: String,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.guests.file.remove(&self.name);
        self.guests.states().remove(&self.name);
        self.guests.changed.notify_all();
    }
}

/// Waits until the guest has ended for any reason, and tells the hooks. A guest of a former daemon is not a child.
fn watch(name: Name, process: &Process, child: Option<Child>, admitted: Guest) {
    let (guest, pid) = (&name.name, process.pid);
    process.wait();
    name.guests.states().insert(guest.clone(), GuestState::Ended(pid));
    // Kill its remaining processes first: the number of a child is not reused before it is waited for.
    match child {
        Some(mut child) => {
            let _ = killpg(pid, Signal::SIGKILL);
            match child.wait() {
                Ok(status) => tracing::info!(guest, %pid, %status, "ended"),
                Err(why) => tracing::error!(guest, %pid, "its exit status could not be read: {why}"),
            }
        }
        None => {
            name.guests.file.kill_marked(guest);
            tracing::info!(guest, %pid, "ended");
        }
    }
    // No hook can undo the stop. The runtime logs the hooks that fail.
    drop(admitted.stopped());
}
