//! Handles Ctrl-C, Ctrl-Z and termination signals while hooks run.
//!
//! Each hook has its own process group, so the terminal's signals do not reach it. After a termination signal, the program
//! ends the hooks, writes the report, and then dies by that signal.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use anyhow::Context;
use hookvisor::{Cancel, is_ignored};
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// The signals that ask a program to end.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// Handles signals as soon as it exists:
/// - The first termination signal cancels the hooks; each gets its grace period.
/// - The second kills them. The third kills the program.
/// - Ctrl-Z stops the hooks and then the program until they are continued. The hooks' timeouts keep running.
pub(super) struct Interrupts {
    pub(super) cancel: Cancel,
    signals: SigSet,
    received: Arc<AtomicI32>,
}

impl Interrupts {
    /// Call this before starting other threads, so that all of them inherit the blocked signals. Call it after reading
    /// standard input, so that until then a signal ends the program as usual. The thread that waits for a hook also
    /// reads the signals.
    pub(super) fn catch() -> anyhow::Result<Self> {
        // Signals ignored by the parent, for example nohup, stay ignored.
        let caught = ENDING.into_iter().chain([Signal::SIGTSTP]);
        let signals: SigSet = caught.filter(|signal| !is_ignored(*signal)).collect();
        signals.thread_block().context("signals could not be blocked")?;
        let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK);
        let descriptor = Arc::new(descriptor.context("could not create a descriptor for signals")?);
        let (received, endings) = (Arc::<AtomicI32>::default(), AtomicU32::new(0));
        let (reader, number) = (Arc::clone(&descriptor), Arc::clone(&received));
        let cancel = Cancel::watching(descriptor, move |hooks| {
            while let Some(signal) = next(&reader) {
                if signal == Signal::SIGTSTP {
                    stop();
                    continue;
                }
                match endings.fetch_add(1, Ordering::Relaxed) {
                    0 => {
                        number.store(signal as i32, Ordering::Release);
                        hooks.cancel();
                    }
                    1 => hooks.kill(),
                    _ => take(signal),
                }
            }
        });
        Ok(Self { cancel, signals, received })
    }

    /// Call this after the hooks have ended. From then on, a signal ends the program as usual, since the report may go
    /// to a pipe without a reader.
    pub(super) fn release(&self) -> anyhow::Result<()> {
        let _ = self.cancel.is_cancelled();
        self.signals.thread_unblock().context("signals could not be unblocked")
    }

    /// Raises the received signal again, if any, so that the program dies by it.
    pub(super) fn obey(&self) -> anyhow::Result<()> {
        if let Ok(signal) = Signal::try_from(self.received.load(Ordering::Acquire)) {
            raise(signal).context("the signal could not be raised")?;
        }
        Ok(())
    }
}

/// The next pending signal.
fn next(descriptor: &SignalFd) -> Option<Signal> {
    let sent = descriptor.read_signal().ok()??;
    Signal::try_from(sent.ssi_signo.cast_signed()).ok()
}

/// Performs the signal's default action.
fn take(signal: Signal) {
    let only = SigSet::from(signal);
    if raise(signal).is_ok() && only.thread_unblock().is_ok() {
        // Only SIGTSTP returns here.
        let _ = only.thread_block();
    }
}

/// Stops the hooks and the program, and continues the hooks when the program is continued.
fn stop() {
    let hooks = groups();
    for hook in &hooks {
        let _ = killpg(*hook, Signal::SIGSTOP);
    }
    take(Signal::SIGTSTP);
    for hook in &hooks {
        let _ = killpg(*hook, Signal::SIGCONT);
    }
}

/// The process groups of the hooks: each child of this process leads one.
fn groups() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let numbers = children.flat_map(|line| line.split_whitespace().map(str::parse).collect::<Vec<_>>());
    numbers.flatten().map(Pid::from_raw).collect()
}
