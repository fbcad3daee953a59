//! Many starts at once: each gets the right verdict, whatever the others do, and the host is unchanged afterwards.
//!
//! `HOOKVISOR_STORM_ROUNDS` makes it longer. Each round is a thousand starts.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cancel, Decision, Event, HookReport, LaunchError, Limits, Report, Runtime, Termination};

use crate::support::Hooks;
use crate::support::alone::{alone, be_patient};
use crate::support::leftovers::{Leftovers, resident_kib};
use crate::support::program::tell;

/// All hooks of an event are called, even after a veto, as in libvirt's convention.
const DRIVER: &str = "qemu";
const STARTS: usize = 1000;
const THREADS: usize = 64;
/// The limit on running hooks, in the runtime that has one.
const BOUND: usize = 16;
/// The timeout of a hook that does not end by itself.
const LATE: Duration = Duration::from_millis(100);
/// The difference in memory between two rounds that the allocator may cause, in KiB.
const SLACK: u64 = 6 << 10;

/// What a guest's name makes its native and its sandboxed hook do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Exit(u8),
    /// A signal, or a trap.
    Crash,
    /// Sleeps longer than its timeout.
    Late,
    /// Is busy longer than its timeout.
    LateAndBusy,
    /// Runs until it is cancelled.
    Wait,
}

/// The expected result of one start.
#[derive(Debug, Clone, Copy)]
struct Start {
    number: usize,
    native: Act,
    wasm: Act,
    is_cancelled: bool,
    is_bounded: bool,
}

impl Start {
    fn new(number: usize) -> Self {
        let status = u8::try_from(number % 250 + 1).unwrap();
        let native = match number % 20 {
            0 => Act::Late,
            5 => Act::Crash,
            10 | 15 => Act::Exit(status),
            _ => Act::Exit(0),
        };
        let wasm = match number % 17 {
            3 => Act::Late,
            7 => Act::Crash,
            11 | 13 => Act::Exit(status),
            14 if number.is_multiple_of(2) => Act::LateAndBusy,
            _ => Act::Exit(0),
        };
        let (native, wasm) = match number % 50 {
            7 => (Act::Wait, wasm),
            32 => (native, Act::Wait),
            _ => (native, wasm),
        };
        // Hooks that would wait forever, and some that would not.
        Self {
            number,
            native,
            wasm,
            is_cancelled: number % 25 == 7 || number % 25 == 19,
            is_bounded: number.is_multiple_of(3),
        }
    }

    fn event(&self) -> Event {
        let native = match self.native {
            Act::Exit(status) => format!("exit{status}"),
            Act::Crash => "crash".to_owned(),
            Act::Late | Act::LateAndBusy => "late".to_owned(),
            Act::Wait => "wait".to_owned(),
        };
        let wasm = match self.wasm {
            Act::Exit(status) => format!("exit={status}"),
            Act::Crash => "crash".to_owned(),
            Act::Late => "sleep=7200000".to_owned(),
            Act::LateAndBusy => "spin".to_owned(),
            Act::Wait => "sleep=3600000".to_owned(),
        };
        let number = self.number;
        let object = format!("native={native};stderr=guest {number}\\n;{wasm}");
        let event = Event::new(DRIVER, &object, "prepare").unwrap().with_sub_operation("begin").unwrap();
        event.with_document(format!("guest {number}\n"))
    }

    fn check(&self, report: &Report) {
        let acts = if cfg!(feature = "wasm") { vec![self.native, self.wasm] } else { vec![self.native] };
        assert_eq!(report.hooks.len() + report.skipped.len(), acts.len(), "{self:?}: {report:?}");
        for (hook, act) in report.hooks.iter().zip(&acts) {
            let by_host = self.is_cancelled && hook.termination == Termination::Cancelled;
            assert!(by_host || self.is_right(hook, *act), "{self:?}: {hook:?}");
            assert_eq!(hook.stderr_dropped, 0);
        }
        for skipped in &report.skipped {
            assert_eq!(skipped.reason, "it was not called: the call was cancelled", "{self:?}");
            assert!(self.is_cancelled && report.hooks[0].termination == Termination::Cancelled, "{self:?}");
        }
        let all_agreed = report.hooks.len() == acts.len() && report.failures().next().is_none();
        // A call that is cancelled after its last hook has agreed is also vetoed.
        let late = self.is_cancelled && report.decision == Decision::Vetoed;
        let decision = if all_agreed && !late { Decision::Proceed } else { Decision::Vetoed };
        assert_eq!(report.decision, decision, "{self:?}");
        if !self.is_cancelled {
            assert_eq!(all_agreed, acts.iter().all(|act| *act == Act::Exit(0)), "{self:?}");
        }
    }

    fn is_right(&self, hook: &HookReport, act: Act) -> bool {
        let said = String::from_utf8_lossy(&hook.stderr) == format!("guest {}\n", self.number);
        match (&hook.termination, act) {
            (Termination::Exited(status), Act::Exit(expected)) => *status == expected && said,
            (Termination::Signaled { signal: 9, name }, Act::Crash) => name == "SIGKILL" && said,
            (Termination::Trapped(what), Act::Crash) => what.contains("unreachable") && said,
            (Termination::TimedOut { after, .. }, Act::Late | Act::LateAndBusy) => *after == LATE,
            (Termination::NotLaunched(LaunchError::NoFreeSlot), Act::Late | Act::LateAndBusy) => self.is_bounded,
            _ => false,
        }
    }
}

/// The guest's name selects the hooks of a start: a native one and a sandboxed one.
fn hooks() -> Hooks {
    let body = "read -r document; act=${1#native=}; act=${act%%;*}\n\
                case $act in late | wait) exec sleep 3600 ;; esac\n\
                echo \"$document\" >&2\n\
                case $act in exit*) exit \"${act#exit}\" ;; crash) kill -KILL $$ ;; esac";
    let hooks = Hooks::new().script("qemu.d/10-native", body).script("qemu.d/15-late", body);
    hooks.file("qemu.d/10-native.toml", "objects = ['native=[ecw]*']", 0o644);
    hooks.file("qemu.d/15-late.toml", "objects = ['native=late;*']\ntimeout = '100ms'", 0o644);
    #[cfg(feature = "wasm")]
    let hooks = {
        let probe = crate::support::guests::wasm_probe();
        let hooks = hooks.copy("qemu.d/20-wasm", probe).copy("qemu.d/25-late-wasm", probe);
        hooks.file("qemu.d/20-wasm.toml", "objects = ['*;exit=*', '*;crash', '*;sleep=3600000']", 0o644);
        hooks.file("qemu.d/25-late-wasm.toml", "objects = ['*;spin', '*;sleep=7200000']\ntimeout = '100ms'", 0o644);
        hooks
    };
    hooks
}

/// A thousand starts. Meanwhile a thread cancels some of them and reloads.
fn round(runtimes: &[Runtime; 2]) {
    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| disturb(runtimes, receive));
        for _ in 0..THREADS {
            let (send, next, ended) = (send.clone(), &next, &ended);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= STARTS {
                        break;
                    }
                    call(&Start::new(number), runtimes, &send);
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        drop(send);
    });
    assert_eq!(ended.into_inner(), STARTS);
}

fn call(start: &Start, runtimes: &[Runtime; 2], cancels: &Sender<Cancel>) {
    let event = start.event();
    let mut call = runtimes[usize::from(start.is_bounded)].call(&event);
    if start.is_cancelled {
        let cancel = Cancel::new();
        call = call.cancel(&cancel);
        cancels.send(cancel).unwrap();
    }
    start.check(call.start().report());
}

fn disturb(runtimes: &[Runtime; 2], cancels: Receiver<Cancel>) {
    for (turn, cancel) in cancels.into_iter().enumerate() {
        // Before the call, while it waits for a slot, or while it runs.
        thread::sleep(Duration::from_millis(turn as u64 % 4));
        cancel.cancel();
        if turn % 16 == 8 {
            runtimes.iter().for_each(|runtime| runtime.reload().unwrap());
        }
    }
}

#[test]
fn a_thousand_starts_from_64_threads_each_get_the_right_verdict_and_leave_nothing() {
    alone("storm::a_thousand_starts_from_64_threads_each_get_the_right_verdict_and_leave_nothing", || {
        let rounds = std::env::var("HOOKVISOR_STORM_ROUNDS").map_or(3, |rounds| rounds.parse().unwrap());
        let mut limits = Limits::default();
        limits.grace = Duration::from_secs(30);
        let hooks = hooks();
        let at_first = Leftovers::before();
        let unbounded = hooks.builder().limits(limits);
        let bounded = unbounded.clone().max_in_flight(NonZeroUsize::new(BOUND).unwrap());
        let runtimes = [unbounded.build().unwrap(), bounded.build().unwrap()];
        let before = Leftovers::before();
        let mut resident = Vec::new();
        for number in 1..=rounds {
            be_patient();
            let began = Instant::now();
            round(&runtimes);
            Leftovers::assert_none_since(&before, "a round");
            resident.push(resident_kib());
            tell(&format!("storm: round {number}, {:.1?}, resident {} KiB", began.elapsed(), resident[number - 1]));
        }
        drop(runtimes);
        Leftovers::assert_none_since(&at_first, "the storm");
        let most = resident.iter().skip(2).max().unwrap_or(&0);
        assert!(*most <= resident[1] + SLACK, "it grows: {resident:?} KiB");
    });
}
