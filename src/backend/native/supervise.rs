//! The poll loop of one call: writes stdin, reads the output, watches for the hook's end, and stops it at its deadline.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use super::confine::attendant::Attendant;
use super::group;
use super::guard::GuardedGroup;
use super::phase::{Act, Phase, Seen, Waits};
use super::pipe_holders;
use super::pipes::{OutputReader, ParentEnds, StdinWriter};
use super::process::{Child, Reaped, Signalled, reap_the_unreaped};
use crate::backend::{Call, Completion};
use crate::capture::Capture;
use crate::limits::Expired;
use crate::report::termination::Termination;

/// How long to wait for a debugger that keeps an ended process from being reaped.
const REAP_WAIT: Duration = Duration::from_secs(2);
/// During termination, how often to check for a request to kill at once and for the end of the group.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One call of a hook. Dropping it early kills the hook.
pub(super) struct Supervisor<'a> {
    /// The guard of the process group, if any. It is dropped before the child is reaped.
    group: Option<GuardedGroup>,
    child: Child,
    stdin: StdinWriter,
    stdout: OutputReader,
    stderr: OutputReader,
    call: &'a Call<'a>,
    cancel_events: Vec<BorrowedFd<'a>>,
    /// Serves the hook if it is confined.
    attendant: Option<Attendant<'a>>,
    waits: Waits,
    phase: Phase,
    /// Why the hook was stopped, if it was.
    expired: Option<Expired>,
    exited: bool,
    /// What is known about the group after its leader has ended, and when to check again.
    rest: group::Watch,
    notes: Vec<String>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(
        (child, group): (Child, Option<GuardedGroup>),
        pipes: ParentEnds,
        cancel_events: Vec<BorrowedFd<'a>>,
        attendant: Option<Attendant<'a>>,
        call: &'a Call<'a>,
    ) -> Self {
        reap_the_unreaped();
        Self {
            rest: group::Watch::of(child.process().pid()),
            group,
            child,
            stdin: StdinWriter::new(pipes.stdin, call.stdin.clone()),
            stdout: OutputReader::new("stdout", pipes.stdout, Capture::beginning(call.keep_stdout)),
            stderr: OutputReader::new("stderr", pipes.stderr, Capture::both_ends(call.limits.stderr)),
            call,
            cancel_events,
            attendant,
            waits: Waits { grace: call.limits.grace, leak_wait: call.limits.leak_wait },
            phase: Phase::Running,
            expired: None,
            exited: false,
            notes: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Completion {
        self.stdin.write();
        let mut buffer = Vec::new();
        loop {
            let (seen, wake_in) = self.look();
            let (phase, act) = self.phase.step(&seen, self.waits);
            self.phase = phase;
            if seen.exited || seen.expired.is_some() {
                self.stdin.close();
            }
            match act {
                Act::Wait { until } => {
                    let until = until.map(|at| at.saturating_duration_since(seen.now));
                    self.wait_for_something(until.into_iter().chain(wake_in).min(), &mut buffer);
                }
                Act::Terminate(expired) => {
                    self.expired = Some(expired);
                    self.signal_group(Signal::SIGTERM);
                    // A stopped process cannot act on SIGTERM.
                    self.signal_group(Signal::SIGCONT);
                }
                Act::Kill => self.signal_group(Signal::SIGKILL),
                Act::Finish => return self.finish(buffer),
            }
        }
    }

    /// The state that the next step depends on, and the time until the next check even if no descriptor becomes ready.
    fn look(&mut self) -> (Seen, Option<Duration>) {
        let (expired, mut wake_in) = match self.expired {
            Some(expired) => (Some(expired), None),
            None if self.exited => (None, None),
            None => match self.call.check_deadline() {
                Ok(wake_in) => (None, Some(wake_in)),
                Err(expired) => (Some(expired), None),
            },
        };
        let terminating = matches!(self.phase, Phase::Terminating { .. });
        let idle = self.attendant.as_ref().is_none_or(Attendant::is_idle);
        let group_ended = terminating && self.exited && idle && self.rest.has_ended();
        if terminating {
            wake_in = Some(if self.exited { self.rest.look_again_in() } else { LOOK_AGAIN });
        }
        let seen = Seen {
            now: Instant::now(),
            exited: self.exited,
            streams_closed: self.stdout.fd().is_none() && self.stderr.fd().is_none(),
            expired,
            at_once: terminating && self.call.deadline.is_killed(),
            group_ended,
        };
        (seen, wake_in)
    }

    fn signal_group(&mut self, signal: Signal) {
        self.attendant.iter().for_each(|attendant| attendant.signal(signal));
        const UNREACHABLE: &str = "processes of its group may still run: the host reaped the hook itself, and after that, Linux \
                                   before 6.9 has no safe way to signal the group";
        if self.child.process().signal_group(signal) == Signalled::Unreachable
            && !self.notes.iter().any(|note| note == UNREACHABLE)
        {
            self.notes.push(UNREACHABLE.to_owned());
        }
    }

    /// Waits until a stream or a process is ready, and handles it.
    fn wait_for_something(&mut self, at_most: Option<Duration>, buffer: &mut Vec<u8>) {
        let stdin = self.stdin.fd().map(|fd| PollFd::new(fd, PollFlags::POLLOUT));
        let stdout = self.stdout.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let stderr = self.stderr.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let child = (!self.exited).then(|| PollFd::new(self.child.process().pidfd(), PollFlags::POLLIN));
        let guardian =
            self.group.as_ref().and_then(GuardedGroup::guardian).map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Cancellation events stay readable.
        let cancel = if self.expired.is_none() { self.cancel_events.as_slice() } else { &[] };
        let present = [stdin.is_some(), stdout.is_some(), stderr.is_some(), child.is_some(), guardian.is_some()];
        // The next check of the deadline shows what was read from a source.
        let sources = self.call.deadline.sources().map(|(_, source)| source.as_fd());
        let cancel = cancel.iter().copied().chain(sources).map(|event| PollFd::new(event, PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> =
            [stdin, stdout, stderr, child, guardian].into_iter().flatten().chain(cancel).collect();
        let before_attendant = fds.len();
        fds.extend(self.attendant.iter().flat_map(Attendant::poll_fds));
        // Longer than the kernel can count means no timeout.
        let timeout = at_most.filter(|wait| *wait < Duration::from_secs(u32::MAX.into())).map(TimeSpec::from);
        match ppoll(&mut fds, timeout, None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return,
            // ENOMEM: the kernel may have memory again soon.
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let [stdin, stdout, stderr, child, guardian] = present.map(|present| present && ready.next() == Some(true));
        let events = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
        let attended: Vec<PollFlags> = fds.get(before_attendant..).unwrap_or_default().iter().map(events).collect();
        if stdin {
            self.stdin.write();
        }
        if stdout {
            self.stdout.read(buffer);
        }
        if stderr {
            self.stderr.read(buffer);
        }
        self.exited |= child;
        if let Some(attendant) = &mut self.attendant {
            attendant.serve(&attended);
        }
        if guardian && let Some(group) = &mut self.group {
            group.renew();
        }
    }

    fn finish(mut self, mut buffer: Vec<u8>) -> Completion {
        if let Some(attendant) = self.attendant.take() {
            self.notes.extend(attendant.finish());
        }
        for stream in [&mut self.stdout, &mut self.stderr] {
            stream.read_what_is_there(&mut buffer);
            if let Some(fd) = stream.fd() {
                self.notes.push(held_note(stream.name, fd));
            }
        }
        // Background processes may live on. After the leader is reaped, another process can get its number.
        self.group = None;
        let ended = if self.exited { self.reap() } else { self.give_up() };
        let termination = self.expired.map_or(ended, Termination::from);
        let stdout_held = self.stdout.fd().is_some();
        let (stdout, stderr) = (self.stdout.into_capture().finish(), self.stderr.into_capture().finish());
        Completion { termination, stdout, stderr, stdout_held, notes: self.notes, sha256: None }
    }

    /// A later launch reaps the process.
    fn give_up(&mut self) -> Termination {
        let pid = self.child.process().pid();
        self.notes.push(format!("process {pid} has not ended after SIGKILL; hookvisor no longer waits for it"));
        Termination::Lost("it has not ended after SIGKILL".to_owned())
    }

    fn reap(&mut self) -> Termination {
        match self.child.reap(REAP_WAIT) {
            Reaped::Ended(termination) => termination,
            Reaped::NotYet => Termination::Lost("a debugger traces the hook and has not released it".to_owned()),
            Reaped::StatusTaken => Termination::Lost(
                "the host process ignores SIGCHLD or waits for every child itself, and Linux before 6.15 does not keep \
                 the exit status"
                    .to_owned(),
            ),
            Reaped::Failed(errno) => Termination::Lost(format!("it could not be read: {}", errno.desc())),
        }
    }
}

fn held_note(stream: &str, pipe: BorrowedFd<'_>) -> String {
    let held = format!("a background process still holds its {stream} open, and hookvisor did not wait for it");
    match pipe_holders::of_pipe(pipe).as_slice() {
        [] => held,
        holders => format!("{held}: {}", holders.join(", ")),
    }
}
