//! Ctrl-C, and its like: the hooks are ended, the report is written, and then the program goes the way the signal asks for.
//!
//! Hooks are in process groups of their own, so a terminal's signal does not reach them by itself.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use anyhow::Context;
use hookvisor::Cancel;
use nix::sys::signal::{SigSet, Signal, raise};

/// What asks a program to end.
const ENDING: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// Turns a signal that asks the program to end into a cancellation, from its making on.
pub(super) struct Interrupts {
    pub(super) cancel: Cancel,
    signals: SigSet,
    received: Arc<AtomicI32>,
}

impl Interrupts {
    /// To be made before any other thread, so that all have the signals blocked and one waits for them.
    pub(super) fn catch() -> anyhow::Result<Self> {
        let ignored = ignored();
        // One that is ignored, as by nohup, stays so.
        let signals: SigSet = ENDING.into_iter().filter(|signal| !is_in(ignored, *signal)).collect();
        signals.thread_block().context("signals could not be blocked")?;
        let (cancel, received) = (Cancel::new(), Arc::<AtomicI32>::default());
        let (theirs, number) = (cancel.clone(), Arc::clone(&received));
        let wait = move || {
            if let Ok(signal) = signals.wait() {
                number.store(signal as i32, Ordering::Release);
                theirs.cancel();
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

/// The signals that this process ignores, as the kernel writes them: bit n - 1 for signal n. None where it does not say.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

fn is_in(mask: u64, signal: Signal) -> bool {
    mask & (1 << (signal as i32 - 1)) != 0
}
