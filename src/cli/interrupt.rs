//! Ctrl-C, Ctrl-Z and their like while hooks run.
//!
//! Hooks have process groups of their own, so a terminal's signal does not reach them by itself. After a signal that asks
//! the program to end, it ends the hooks, writes the report, and then dies by that signal.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use anyhow::Context;
use hookvisor::Cancel;
use nix::sys::signal::{SigSet, Signal, killpg, raise};
use nix::unistd::Pid;

/// What asks a program to end.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// Waits for signals from its making on:
/// - The first that asks the program to end cancels the hooks: each has its grace.
/// - The second kills them. The third ends the program wherever it is.
/// - Ctrl-Z stops the hooks and then the program, until both are continued. The hooks' time goes on.
pub(super) struct Interrupts {
    pub(super) cancel: Cancel,
    signals: SigSet,
    received: Arc<AtomicI32>,
}

impl Interrupts {
    /// To be made before any other thread, so that all have the signals blocked and one waits for them. To be made after
    /// standard input has been read: until then a signal ends the program in its usual way.
    pub(super) fn catch() -> anyhow::Result<Self> {
        let ignored = ignored();
        // One that is ignored, as by nohup, stays ignored.
        let caught = ENDING.into_iter().chain([Signal::SIGTSTP]);
        let signals: SigSet = caught.filter(|signal| !is_in(ignored, *signal)).collect();
        signals.thread_block().context("signals could not be blocked")?;
        let (cancel, received) = (Cancel::new(), Arc::<AtomicI32>::default());
        let (hooks, number) = (cancel.clone(), Arc::clone(&received));
        let wait = move || {
            let mut endings = 0;
            while let Ok(signal) = signals.wait() {
                if signal == Signal::SIGTSTP {
                    stop();
                    continue;
                }
                endings += 1;
                match endings {
                    1 => {
                        number.store(signal as i32, Ordering::Release);
                        hooks.cancel();
                    }
                    2 => hooks.kill(),
                    _ => take(signal),
                }
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait).context("no thread can be started")?;
        Ok(Self { cancel, signals, received })
    }

    /// Ends the program by the signal that it has received, if it has, as whoever sent it expects.
    pub(super) fn obey(&self) -> anyhow::Result<()> {
        if let Ok(signal) = Signal::try_from(self.received.load(Ordering::Acquire)) {
            raise(signal).context("the signal could not be raised")?;
            self.signals.thread_unblock().context("signals could not be unblocked")?;
        }
        Ok(())
    }
}

/// Does what the signal does to a program that does not catch it.
fn take(signal: Signal) {
    let only = SigSet::from(signal);
    if raise(signal).is_ok() && only.thread_unblock().is_ok() {
        // It comes back from SIGTSTP alone.
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

/// The signals that this process ignores, as the kernel writes them: bit n - 1 for signal n. None where it does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn is_in(mask: u64, signal: Signal) -> bool {
    mask & (1 << (signal as i32 - 1)) != 0
}
