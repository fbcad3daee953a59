//! A wall clock that jumps must not affect time limits.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use hookvisor::{Decision, Termination};

use super::{TOO_LONG, allowed};
use crate::support::alone::alone_under;
use crate::support::guests::wasm_probe;
use crate::support::leftovers::Leftovers;
use crate::support::{Hooks, event, impatient, skip};

/// The wall clock jumps by years between two reads.
const JUMPING: &str = r"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void) {
    static unsigned looks;
    return __atomic_fetch_add(&looks, 1, __ATOMIC_RELAXED) % 2 ? 300000000L : -300000000L;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI)) now->tv_sec += jump();
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void) zone;
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
";

#[test]
fn time_limits_hold_while_the_wall_clock_jumps() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (directory.path().join("jumping.c"), directory.path().join("jumping.so"));
    std::fs::write(&source, JUMPING).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&library, &source]).output();
    match compiled {
        Err(error) => return skip("a clock that jumps", &format!("there is no C compiler: {error}")),
        Ok(compiled) => assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr)),
    }
    let under_it = |mut test: Command| {
        test.env("LD_PRELOAD", &library);
        test
    };
    alone_under("faults::clocks::time_limits_hold_while_the_wall_clock_jumps", under_it, jumping);
}

fn jumping() {
    let year = Duration::from_secs(365 * 24 * 3600);
    let looks = [SystemTime::now(), SystemTime::now(), SystemTime::now(), SystemTime::now()];
    assert!(looks.windows(2).any(|two| two[1] > two[0] + year), "the wall clock does not jump: {looks:?}");
    assert!(looks.windows(2).any(|two| two[1] + year < two[0]), "the wall clock does not jump: {looks:?}");

    let script = "case $1 in *exit=0) exit 0 ;; *sleep=50) exec sleep 0.05 ;; *) exec sleep 3600 ;; esac";
    let native = Hooks::new().script("test", script);
    let wasm = Hooks::new().copy("test", wasm_probe());
    for hooks in [native, wasm] {
        let patient = hooks.builder().max_in_flight(std::num::NonZeroUsize::MIN).build().unwrap();
        let before = Leftovers::now();
        for _ in 0..20 {
            allowed(&patient, "exit=0");
            allowed(&patient, "sleep=50");
        }
        for object in ["sleep=3600000", "spin"] {
            let began = Instant::now();
            let report = patient.call(&event(object, "start")).limits(impatient()).run();
            let (took, limit) = (began.elapsed(), impatient().timeout);
            assert!(took >= limit && took < TOO_LONG, "{object}: {took:?}");
            assert_eq!(report.hooks[0].termination, Termination::TimedOut { after: limit, of_call: false }, "{object}");
            assert_eq!(report.decision, Decision::Vetoed);
        }
        // Waiting for a slot does not end early either.
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| allowed(&patient, "sleep=50"));
            }
        });
        Leftovers::assert_none_since(&before, "a clock that jumps");
    }
}
