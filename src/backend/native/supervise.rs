//! One poll loop that feeds a hook, drains it, watches for its end, and ends it when its time is up.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::Signal;
use nix::sys::time::TimeSpec;

use super::guard::Ward;
use super::holders;
use super::pipes::{Drain, Feed, Ours};
use super::spawn::{self, Child, ExitState, WaitFor};
use crate::backend::{Call, Completion};
use crate::capture::Capture;
use crate::limits::Expired;
use crate::report::termination::Termination;

/// Children that outlived SIGKILL, as one in an uninterruptible system call does. Each later launch looks after them.
static UNREAPED: Mutex<Vec<Child>> = Mutex::new(Vec::new());

/// How long a process may take to go after SIGKILL before the caller goes on without it.
const KILL_WAIT: Duration = Duration::from_secs(2);

/// How many buffers are read from a stream after the end: a pipe holds no more (`/proc/sys/fs/pipe-max-size`).
const LAST_READS: usize = 64;

/// Where a call stands.
enum Phase {
    /// The hook runs and has time left.
    Running,
    /// It has to end; it has been asked to end, and is killed at that moment.
    Terminating { kill_at: Instant },
    /// It has been killed, and is given up at that moment.
    Killed { give_up_at: Instant },
    /// It has exited; its background processes may hold its streams until that moment.
    Exited { leave_at: Instant },
}

pub(super) struct Supervisor<'a> {
    child: Child,
    /// The guard that its process group is under, if any.
    ward: Option<Ward>,
    stdin: Feed,
    stdout: Drain,
    stderr: Drain,
    call: &'a Call<'a>,
    cancel_events: Vec<BorrowedFd<'a>>,
    grace: Duration,
    leak_wait: Duration,
    /// Why it was ended, if it was.
    expired: Option<Expired>,
    exited: bool,
    notes: Vec<String>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(
        (child, ward): (Child, Option<Ward>),
        pipes: Ours,
        cancel_events: Vec<BorrowedFd<'a>>,
        call: &'a Call<'a>,
    ) -> Self {
        reap_the_unreaped();
        Self {
            child,
            ward,
            stdin: Feed::new(pipes.stdin, call.stdin.clone()),
            stdout: Drain::new("stdout", pipes.stdout, Capture::beginning(call.keep_stdout)),
            stderr: Drain::new("stderr", pipes.stderr, Capture::both_ends(call.limits.stderr)),
            call,
            cancel_events,
            grace: call.limits.grace,
            leak_wait: call.limits.leak_wait,
            expired: None,
            exited: false,
            notes: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Completion {
        self.stdin.write();
        let mut buffer = Vec::new();
        let mut phase = Phase::Running;
        while let Some(wait) = self.advance(&mut phase) {
            self.wait_for_something(wait, &mut buffer);
        }
        self.finish(buffer)
    }

    /// Does what the clock and the child's state ask for. Returns how long there is nothing else to do; `None` at the end.
    fn advance(&mut self, phase: &mut Phase) -> Option<Duration> {
        loop {
            let now = Instant::now();
            let streams_closed = self.stdout.fd().is_none() && self.stderr.fd().is_none();
            match *phase {
                Phase::Running if self.exited => {
                    self.stdin.close();
                    *phase = Phase::Exited { leave_at: now + self.leak_wait };
                }
                Phase::Running => match self.call.check_deadline() {
                    Ok(wake_in) => return Some(wake_in),
                    Err(expired) => {
                        self.expired = Some(expired);
                        self.stdin.close();
                        self.child.signal_group(Signal::SIGTERM);
                        // A stopped process cannot act on SIGTERM.
                        self.child.signal_group(Signal::SIGCONT);
                        *phase = Phase::Terminating { kill_at: now + self.grace };
                    }
                },
                // The process itself is not waited for until the group is killed: so its number, and with it the group's,
                // cannot have passed to somebody else (unless the host waits for all its children).
                Phase::Terminating { kill_at } => {
                    if now < kill_at && !(self.exited && streams_closed) {
                        return Some(kill_at - now);
                    }
                    self.child.signal_group(Signal::SIGKILL);
                    *phase = Phase::Killed { give_up_at: now + KILL_WAIT };
                }
                Phase::Killed { give_up_at } => {
                    if self.exited {
                        *phase = Phase::Exited { leave_at: now + self.leak_wait };
                    } else if now < give_up_at {
                        return Some(give_up_at - now);
                    } else {
                        return None;
                    }
                }
                Phase::Exited { leave_at } => {
                    return (!streams_closed && now < leave_at).then(|| leave_at - now);
                }
            }
        }
    }

    /// Sleeps until a stream or the child has something, and takes it.
    fn wait_for_something(&mut self, at_most: Duration, buffer: &mut Vec<u8>) {
        let stdin = self.stdin.fd().map(|fd| PollFd::new(fd, PollFlags::POLLOUT));
        let stdout = self.stdout.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let stderr = self.stderr.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let child = (!self.exited).then(|| PollFd::new(self.child.pidfd(), PollFlags::POLLIN));
        let guardian = self.ward.as_ref().and_then(Ward::guardian).map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // Once is enough.
        let cancel = if self.expired.is_none() { self.cancel_events.as_slice() } else { &[] };
        let present = [stdin.is_some(), stdout.is_some(), stderr.is_some(), child.is_some(), guardian.is_some()];
        let cancel = cancel.iter().map(|&event| PollFd::new(event, PollFlags::POLLIN));
        let mut fds: Vec<PollFd<'_>> =
            [stdin, stdout, stderr, child, guardian].into_iter().flatten().chain(cancel).collect();
        // A limit that the clock cannot count to is none.
        let timeout = (at_most < Duration::from_secs(u32::MAX.into())).then(|| TimeSpec::from(at_most));
        match ppoll(&mut fds, timeout, None) {
            Ok(_) => {}
            Err(Errno::EINTR) => return,
            // ENOMEM: the kernel may have it again in a moment.
            Err(_) => std::thread::sleep(at_most.min(Duration::from_millis(10))),
        }
        let mut ready = fds.iter().map(|fd| fd.any() == Some(true));
        let [stdin, stdout, stderr, child, guardian] = present.map(|present| present && ready.next() == Some(true));
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
        if guardian && let Some(ward) = &mut self.ward {
            ward.renew();
        }
    }

    fn finish(mut self, mut buffer: Vec<u8>) -> Completion {
        for stream in [&mut self.stdout, &mut self.stderr] {
            // What was written before the exit is there, however late this thread is; a pipe's content is bounded, and
            // so is the look at one that somebody still fills.
            for _ in 0..LAST_READS {
                if !stream.read(&mut buffer) {
                    break;
                }
            }
            if let Some(fd) = stream.fd() {
                self.notes.push(leak_note(stream.name, fd));
            }
        }
        // What it has left in the background may live on; and once it is reaped, its number may be another's.
        self.ward = None;
        let ended = self.exited.then(|| self.reap());
        let termination = match self.expired {
            Some(expired) => expired.into(),
            None => ended.unwrap_or_else(|| Termination::Lost("it has not ended".to_owned())),
        };
        if !self.exited {
            let pid = self.child.pid;
            self.notes.push(format!("process {pid} has not ended after SIGKILL, and is waited for later"));
            UNREAPED.lock().unwrap_or_else(PoisonError::into_inner).push(self.child);
        }
        let (stdout, stderr) = (self.stdout.into_capture().finish(), self.stderr.into_capture().finish());
        Completion { termination, stdout, stderr, notes: self.notes }
    }

    fn reap(&self) -> Termination {
        let pidfd = self.child.pidfd();
        let state = match spawn::wait(pidfd, WaitFor::Exit) {
            Err(Errno::ECHILD) => spawn::end_of_reaped(pidfd).map(Some).ok_or(Errno::ECHILD),
            waited => waited,
        };
        match state {
            Ok(Some(ExitState::Exited(status))) => Termination::Exited(status),
            Ok(Some(ExitState::Signaled(signal))) => Termination::Signaled { signal, name: signal_name(signal) },
            Ok(None) => Termination::Lost("it has ended and cannot be waited for".to_owned()),
            Err(Errno::ECHILD) => Termination::Lost(
                "the host process ignores SIGCHLD or waits for every child itself, and so took its exit status, which \
                 Linux keeps from 6.15 on"
                    .to_owned(),
            ),
            Err(errno) => Termination::Lost(format!("its exit status could not be read: {}", errno.desc())),
        }
    }
}

/// POSIX's name of a signal; real-time signals are counted from SIGRTMIN as shells do.
fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(name) => name.as_str().to_owned(),
        Err(_) => format!("SIGRTMIN+{}", signal - 34),
    }
}

fn leak_note(stream: &str, pipe: BorrowedFd<'_>) -> String {
    let held = format!("a background process still holds its {stream}, and was not waited for");
    match holders::of_pipe(pipe).as_slice() {
        [] => held,
        holders => format!("{held}: {}", holders.join(", ")),
    }
}

/// Takes the remains of a process that has been killed away, now or with a later launch.
pub(super) fn reap_now_or_later(child: &Child) {
    if spawn::wait(child.pidfd(), WaitFor::ExitNow) == Ok(None)
        && let Ok(pidfd) = child.pidfd.try_clone()
    {
        UNREAPED.lock().unwrap_or_else(PoisonError::into_inner).push(Child { pid: child.pid, pidfd });
    }
}

fn reap_the_unreaped() {
    let mut unreaped = UNREAPED.lock().unwrap_or_else(PoisonError::into_inner);
    unreaped.retain(|child| spawn::wait(child.pidfd.as_fd(), WaitFor::ExitNow) == Ok(None));
}
