//! The guests: asked about before they start, told of after their end, however that comes.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hookvisor::{Cancel, Event, Guest, Runtime};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

const DRIVER: &str = "daemon-example";
/// How long a guest has between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) struct Guests {
    hooks: Runtime,
    ending: Cancel,
    states: Mutex<BTreeMap<String, State>>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The hooks are being asked.
    Starting,
    /// Its process leads a process group of its own, which may be signalled.
    Running(Pid),
    /// The hooks are being told.
    Ended(Pid),
}

impl Guests {
    /// None. Once `ending` is cancelled, none can be started.
    pub(crate) fn new(hooks: Runtime, ending: Cancel) -> Self {
        Self { hooks, ending, states: Mutex::default(), changed: Condvar::new() }
    }

    /// Starts one, if the hooks let it. Its name is taken while they are asked.
    pub(crate) fn start(self: &Arc<Self>, name: &str, program: &[&str]) -> anyhow::Result<String> {
        let (executable, arguments) = program.split_first().context("start what?")?;
        let event = Event::new(DRIVER, name, "start")?.with_document(program.join(" "));
        let name = self.reserve(name)?;
        // A veto is an error here. From here on, an error drops the handle, and so tells the hooks that it is over.
        let admitted = self.hooks.call(&event).cancel(&self.ending).admit()?;
        let mut command = Command::new(executable);
        command.args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());

        // The thread comes before the process, so that there is always one to wait for it.
        let (hand_over, handed_over) = mpsc::channel();
        let watcher = thread::Builder::new().name(format!("guest {}", name.name));
        watcher.spawn(move || handed_over.recv().map(|(name, child, admitted)| watch(name, child, admitted)))?;

        let mut states = self.states();
        self.refuse_at_the_end()?;
        let child = command.spawn().with_context(|| format!("{executable} could not be started"))?;
        let pid = Pid::from_raw(child.id().try_into()?);
        states.insert(name.name.clone(), State::Running(pid));
        drop(states);
        tracing::info!(guest = name.name, %pid, "started");
        let answer = format!("{} runs as process {pid}", name.name);
        hand_over.send((name, child, admitted)).context("its thread has ended")?;
        Ok(answer)
    }

    /// Ends one, and returns when its hooks have been told.
    pub(crate) fn stop(&self, name: &str) -> anyhow::Result<String> {
        let pid = match self.states().get(name) {
            None => bail!("{name} is not running"),
            Some(State::Starting) => bail!("{name} is still starting"),
            Some(State::Running(pid) | State::Ended(pid)) => *pid,
        };
        self.end(|guest, state| guest == name && matches!(state, State::Running(p) | State::Ended(p) if *p == pid));
        Ok(format!("{name} is stopped"))
    }

    /// Ends all, and returns when nothing is left.
    pub(crate) fn stop_all(&self) {
        self.end(|_, _| true);
    }

    pub(crate) fn list(&self) -> String {
        let line = |(name, state): (&String, &State)| match state {
            State::Starting => format!("{name} is starting"),
            State::Running(pid) => format!("{name} runs as process {pid}"),
            State::Ended(_) => format!("{name} has ended"),
        };
        self.states().iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// Asks the chosen ones to end, makes them, and waits until they are gone.
    fn end(&self, chosen: impl Fn(&str, &State) -> bool) {
        let is_left = |states: &mut BTreeMap<String, State>| states.iter().any(|(name, state)| chosen(name, state));
        let signal = |states: &BTreeMap<String, State>, signal| {
            for (_, state) in states.iter().filter(|(name, state)| chosen(name, state)) {
                if let State::Running(pid) = state {
                    // ESRCH: it has ended, and its thread is about to see it.
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
        states.insert(name.to_owned(), State::Starting);
        Ok(Name { guests: Arc::clone(self), name: name.to_owned() })
    }

    fn refuse_at_the_end(&self) -> anyhow::Result<()> {
        ensure!(!self.ending.is_cancelled(), "the daemon is ending");
        Ok(())
    }

    fn states(&self) -> MutexGuard<'_, BTreeMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's name, which is free again when this is dropped.
struct Name {
    guests: Arc<Guests>,
    name: String,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.guests.states().remove(&self.name);
        self.guests.changed.notify_all();
    }
}

/// Waits for the guest's end, whoever brings it about, and tells the hooks.
fn watch(name: Name, mut child: Child, admitted: Guest) {
    let guest = &name.name;
    let pid = Pid::from_raw(child.id().cast_signed());
    // Its remains are left, so that its number stays its own until nobody signals it any more.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
    name.guests.states().insert(guest.clone(), State::Ended(pid));
    // What it has left in its process group goes with it.
    let _ = killpg(pid, Signal::SIGKILL);
    match child.wait() {
        Ok(status) => tracing::info!(guest, %pid, %status, "ended"),
        Err(why) => tracing::error!(guest, %pid, "its end could not be seen: {why}"),
    }
    // Nothing that a hook does can change what has happened; the runtime logs those that fail.
    drop(admitted.stopped());
}
