use super::*;

const WAITS: Waits = Waits { grace: Duration::from_secs(5), leak_wait: Duration::from_millis(100) };
const TERMINATING: Phase = Phase::Terminating { kill_at: None };
const KILLED: Phase = Phase::Killed { give_up_at: None };
const EXITED: Phase = Phase::Exited { leave_at: None };
const TIMED_OUT: Expired = Expired::TimedOut { after: Duration::from_secs(1) };
const NEVER: Act = Act::Wait { until: None };

/// A hook that runs, with time left.
fn quiet(now: Instant) -> Seen {
    Seen { now, exited: false, streams_closed: false, expired: None, at_once: false, group_ended: false }
}

#[test]
fn each_phase_has_its_next() {
    let now = Instant::now();
    let quiet = quiet(now);
    let (exited, closed) = (Seen { exited: true, ..quiet }, Seen { streams_closed: true, ..quiet });
    let both = Seen { exited: true, streams_closed: true, ..quiet };
    let late = |expired| Seen { expired: Some(expired), ..quiet };
    let after = |time: Duration| now.checked_add(time);
    let terminating = Phase::Terminating { kill_at: after(WAITS.grace) };
    let killed = Phase::Killed { give_up_at: after(KILL_WAIT) };
    let leaving = Phase::Exited { leave_at: after(WAITS.leak_wait) };
    let leak_wait = Act::Wait { until: after(WAITS.leak_wait) };
    let table = [
        ("a hook that runs is waited for", Phase::Running, quiet, Phase::Running, NEVER),
        ("also one that has closed its streams", Phase::Running, closed, Phase::Running, NEVER),
        ("one that has ended is reported", Phase::Running, both, leaving, Act::Finish),
        ("after a wait for its background processes", Phase::Running, exited, leaving, leak_wait),
        (
            "it has ended in time, though that is seen late",
            Phase::Running,
            Seen { expired: Some(TIMED_OUT), ..both },
            leaving,
            Act::Finish,
        ),
        ("out of time, it is asked to end", Phase::Running, late(TIMED_OUT), terminating, Act::Terminate(TIMED_OUT)),
        ("cancelled, too", Phase::Running, late(Expired::Cancelled), terminating, Act::Terminate(Expired::Cancelled)),
        ("it has its grace", TERMINATING, late(TIMED_OUT), TERMINATING, NEVER),
        ("its group has it where the leader has ended", TERMINATING, both, TERMINATING, NEVER),
        ("not for longer than it lasts", TERMINATING, Seen { group_ended: true, ..exited }, killed, Act::Kill),
        (
            "a group without a leader that has ended is none",
            TERMINATING,
            Seen { group_ended: true, ..quiet },
            TERMINATING,
            NEVER,
        ),
        ("nor where the host wants none", TERMINATING, Seen { at_once: true, ..quiet }, killed, Act::Kill),
        ("after SIGKILL its end is waited for", KILLED, quiet, KILLED, NEVER),
        ("and then its streams", KILLED, exited, leaving, leak_wait),
        ("unless they are closed", KILLED, both, leaving, Act::Finish),
        ("those who hold them are waited for", EXITED, exited, EXITED, NEVER),
        ("until they let go", EXITED, both, EXITED, Act::Finish),
    ];
    for (what, phase, seen, next, act) in table {
        assert_eq!(phase.step(&seen, WAITS), (next, act), "{what}");
    }
}

#[test]
fn each_wait_ends_at_its_moment() {
    let now = Instant::now();
    let exited = Seen { exited: true, ..quiet(now) };
    let before = now.checked_sub(Duration::from_millis(1));
    let after = now.checked_add(Duration::from_millis(1));
    let killed = Phase::Killed { give_up_at: now.checked_add(KILL_WAIT) };
    for (phase, seen, next, act) in [
        (Phase::Terminating { kill_at: before }, quiet(now), killed, Act::Kill),
        (Phase::Killed { give_up_at: before }, quiet(now), Phase::Killed { give_up_at: before }, Act::Finish),
        (Phase::Exited { leave_at: before }, exited, Phase::Exited { leave_at: before }, Act::Finish),
        (
            Phase::Terminating { kill_at: after },
            quiet(now),
            Phase::Terminating { kill_at: after },
            Act::Wait { until: after },
        ),
        (
            Phase::Killed { give_up_at: after },
            quiet(now),
            Phase::Killed { give_up_at: after },
            Act::Wait { until: after },
        ),
        (Phase::Exited { leave_at: after }, exited, Phase::Exited { leave_at: after }, Act::Wait { until: after }),
    ] {
        assert_eq!(phase.step(&seen, WAITS), (next, act), "{phase:?}");
    }
}

#[test]
fn a_wait_that_the_clock_cannot_count_has_no_end() {
    let waits = Waits { grace: Duration::MAX, leak_wait: Duration::MAX };
    let now = Instant::now();
    let late = Seen { expired: Some(TIMED_OUT), ..quiet(now) };
    assert_eq!(Phase::Running.step(&late, waits), (TERMINATING, Act::Terminate(TIMED_OUT)));
    assert_eq!(Phase::Running.step(&Seen { exited: true, ..quiet(now) }, waits), (EXITED, NEVER));
}
