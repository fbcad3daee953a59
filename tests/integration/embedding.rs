//! What an embedding daemon relies on: calls end on request, guests' ends are reported, limits hold.

use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cancel, Decision, Event, Report, Runtime};

use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::processes::wait_for_the_end_of;
use crate::support::{DRIVER, Hooks, event, impatient, wait_until};

/// Cancels once a file exists, which a hook creates when it has started.
fn cancel_once_there(cancel: &Cancel, file: &Path) {
    while !file.exists() {
        thread::yield_now();
    }
    cancel.cancel();
}

fn terminations(report: &Report) -> Vec<&'static str> {
    report.hooks.iter().map(|hook| hook.termination.name()).collect()
}

/// Hooks that record each operation as a line in a file next to them.
fn recording() -> Hooks {
    Hooks::new().script(DRIVER, "read -r document; echo \"$2 $1 $document\" >> \"$0.log\"")
}

fn recorded(hooks: &Hooks) -> String {
    fs::read_to_string(hooks.path().join(format!("{DRIVER}.log"))).unwrap_or_default()
}

#[test]
fn a_cancelled_process_is_ended_with_its_group_and_the_call_returns() {
    alone("embedding::a_cancelled_process_is_ended_with_its_group_and_the_call_returns", || {
        let hooks = Hooks::new()
            .script("test.d/10-waits", "echo said >&2; sleep 3600 & echo $! > \"$0.pid.bak\"; : > \"$0.bak\"; wait")
            .script("test.d/20-next", ": > \"$0.bak\"");
        let cancel = Cancel::new();
        let runtime = hooks.builder().cancel(&cancel).build().unwrap();
        // The cancel handle's own descriptor, created by the first call.
        drop(runtime.run(&Event::new("none", "web1", "start").unwrap()));
        let before = Leftovers::before();
        let report = thread::scope(|scope| {
            scope.spawn(|| cancel_once_there(&cancel, &hooks.path().join("test.d/10-waits.bak")));
            runtime.run(&event("web1", "start"))
        });
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 125));
        assert_eq!(terminations(&report), ["cancelled"]);
        let said = report.to_string().replace(&hooks.path().display().to_string(), "DIR");
        assert_eq!(said, "Hook script execution failed: Hook script DIR/test.d/10-waits test was interrupted: said");
        assert_eq!(report.skipped[0].reason, "it was not called: an earlier hook vetoed");
        assert!(!hooks.path().join("test.d/20-next.bak").exists());
        let background = fs::read_to_string(hooks.path().join("test.d/10-waits.pid.bak")).unwrap();
        wait_for_the_end_of(background.trim());

        let again = runtime.shutdown(&event("web1", "stopped"));
        assert_eq!((again.decision, terminations(&again)), (Decision::Notified, vec!["cancelled"]));
        assert_eq!(again.hooks[0].notes, ["it was not called"]);
        assert_eq!(again.skipped[0].reason, "it was not called: the call was cancelled");
        drop(runtime);
        let without_switch = |mut left: Leftovers| {
            left.forget_descriptor("anon_inode:[eventfd]");
            left
        };
        let before = without_switch(before);
        wait_until("all else is as it was", || without_switch(Leftovers::now()) == before);
    });
}

#[cfg(feature = "wasm")]
#[test]
fn a_cancelled_module_is_ended_whatever_it_does() {
    use crate::support::guests::wasm_probe;
    for steps in ["spin", "sleep=3600000"] {
        let hooks = Hooks::new().copy(DRIVER, wasm_probe());
        let shared = tempfile::tempdir().unwrap();
        let settings = format!("[[dir]]\nhost = {:?}\nguest = \"/shared\"\naccess = \"read-write\"\n", shared.path());
        hooks.file(&format!("{DRIVER}.toml"), settings, 0o644);
        let cancel = Cancel::new();
        let runtime = hooks.runtime();
        let report = thread::scope(|scope| {
            scope.spawn(|| cancel_once_there(&cancel, &shared.path().join("began")));
            runtime.call(&event(&format!("stderr=said;write=/shared/began:;{steps}"), "start")).cancel(&cancel).run()
        });
        assert_eq!(
            (report.decision, terminations(&report)),
            (Decision::Vetoed, vec!["cancelled"]),
            "{steps}: {report}"
        );
        assert_eq!(report.hooks[0].stderr, b"said", "{steps}");
        // Another call of the same runtime is not affected.
        assert_eq!(runtime.run(&event("exit=0", "start")).decision, Decision::Proceed);
    }
}

#[test]
fn the_time_limit_of_a_call_covers_all_its_hooks() {
    let hooks = Hooks::new().script("test.d/10-slow", "exec sleep 3600").script("test.d/20-late", "echo called >&2");
    let runtime = hooks.runtime();
    let began = Instant::now();
    let report = runtime.call(&event("web1", "stopped")).within(Duration::from_millis(200)).shutdown();
    assert!(began.elapsed() < Duration::from_secs(60), "the hooks' own limit is 90 s");
    assert_eq!(terminations(&report), ["timed-out", "timed-out"]);
    for hook in &report.hooks {
        assert_eq!(hook.termination.to_string(), "was stopped: the call's limit of 200ms was used up");
    }
    assert_eq!(
        (report.hooks[1].notes.as_slice(), report.hooks[1].stderr.len()),
        (&["it was not called".to_owned()][..], 0)
    );
    let start = runtime.call(&event("web1", "start")).within(Duration::ZERO).start();
    assert_eq!(start.report().exit_status(), 124, "no time is a veto");
    assert!(runtime.call(&event("web1", "start")).limits(impatient()).start().report().exit_status() == 124);
}

#[test]
fn max_in_flight_is_never_exceeded_and_every_hook_gets_a_slot() {
    // Each hook counts the running ones, including itself.
    let body = "mkdir \"$0.now.$1.bak\"; ls -d \"$0\".now.*.bak | wc -l >> \"$0.seen.bak\"; sleep 0.01; rmdir \"$0.now.$1.bak\"";
    let hooks = Hooks::new().script(DRIVER, body);
    let runtime = hooks.builder().max_in_flight(NonZeroUsize::new(2).unwrap()).build().unwrap();
    thread::scope(|scope| {
        for guest in 0..24 {
            let runtime = &runtime;
            scope.spawn(move || {
                let verdict = runtime.start(&event(&format!("web{guest}"), "start"));
                assert_eq!(verdict.report().to_string(), "");
            });
        }
    });
    let seen = fs::read_to_string(hooks.path().join("test.seen.bak")).unwrap();
    let most = seen.lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert_eq!((seen.lines().count(), most), (24, Some(2)));
}

#[test]
fn a_slot_that_does_not_come_in_time_is_a_veto() {
    let hooks = Hooks::new().script(DRIVER, ": > \"$0.bak\"; exec sleep 3600");
    let one = NonZeroUsize::MIN;
    let (cancel, runtime) = (Cancel::new(), hooks.builder().max_in_flight(one).build().unwrap());
    thread::scope(|scope| {
        let first = scope.spawn(|| runtime.call(&event("web1", "start")).cancel(&cancel).run());
        while !hooks.path().join("test.bak").exists() {
            thread::yield_now();
        }
        let second = runtime.call(&event("web2", "start")).limits(impatient()).run();
        let why = "could not be run: timed out waiting for a free slot (max_in_flight)\n  note: it was not called";
        assert!(second.to_string().ends_with(why), "{second}");
        assert_eq!(second.exit_status(), 125);
        cancel.cancel();
        assert_eq!(terminations(&first.join().unwrap()), ["cancelled"]);
    });
}

#[test]
fn the_shutdown_hooks_of_a_guest_run_exactly_once() {
    let hooks = recording();
    let runtime = hooks.runtime();
    let start = |guest: &str| event(guest, "start").with_document("<guest/>\n");

    let guest = runtime.admit(&start("stops")).unwrap();
    assert_eq!(guest.report().map(|report| report.decision), Some(Decision::Proceed));
    assert_eq!(guest.stopped().decision, Decision::Notified);
    let made = || -> Result<(), Box<dyn std::error::Error>> {
        let _guest = runtime.admit(&start("cannot-be-made"))?;
        Err("no memory")?
    };
    assert!(made().is_err());
    let event = runtime.admit(&start("outlives")).unwrap().detach();
    let adopted = runtime.adopt(event);
    let end = adopted.event().then("release").unwrap().with_extra("failed").unwrap();
    assert_eq!(adopted.stopped_with(&end).failures().count(), 0);
    assert_eq!(
        recorded(&hooks),
        "start stops <guest/>\nstopped stops <guest/>\n\
         start cannot-be-made <guest/>\nstopped cannot-be-made <guest/>\n\
         start outlives <guest/>\nrelease outlives <guest/>\n"
    );
}

#[test]
fn a_vetoed_start_runs_no_shutdown_hooks() {
    let hooks = Hooks::new().script(DRIVER, "echo \"$2\" >> \"$0.log\"; echo no >&2; exit 3");
    let veto = hooks.runtime().admit(&event("web1", "start")).expect_err("it is vetoed");
    assert_eq!((veto.report().exit_status(), recorded(&hooks).as_str()), (3, "start\n"));
}

#[test]
fn async_calls_do_not_block_a_worker_and_cancel_their_hooks_on_drop() {
    alone("embedding::async_calls_do_not_block_a_worker_and_cancel_their_hooks_on_drop", || {
        let hooks = Hooks::new()
            .script(DRIVER, "if [ \"$1\" = waits ]; then : > \"$0.bak\"; exec sleep 3600; fi; exit ${1#exit}");
        let runtime: Runtime = hooks.runtime();
        let before = Leftovers::before();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
            let verdict = runtime.start_async(&event("exit7", "start")).await;
            assert_eq!(verdict.report().exit_status(), 7);
            assert_eq!(runtime.shutdown_async(&event("exit7", "stopped")).await.decision, Decision::Notified);
            let guest = runtime.admit_async(&event("exit0", "start")).await.unwrap();
            assert_eq!(guest.stopped_async().await.exit_status(), 0);

            // The single worker continues while the hook runs, and then drops the start.
            let waits = event("waits", "start");
            let began = async {
                while !hooks.path().join("test.bak").exists() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                biased;
                () = began => {}
                verdict = runtime.start_async(&waits) => unreachable!("{verdict:?}"),
            }
        });
        // Waits for the runtime's threads, which wait for their hooks.
        drop(tokio);
        Leftovers::assert_none_since(&before, "the async calls");
    });
}

#[test]
fn the_log_has_every_step_in_order() {
    alone("embedding::the_log_has_every_step_in_order", operators_see_it);
}

fn operators_see_it() {
    use crate::support::log::Log;
    let hooks = Hooks::new().script("test.d/10-fine", ":").script("test.d/20-veto", "echo no >&2; exit 3");
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || drop(hooks.runtime().run(&event("web1", "start"))));
    let lines: Vec<String> = log
        .text()
        .lines()
        .filter(|line| line.contains("hookvisor::"))
        .map(|line| {
            let line = line.replace(&hooks.path().display().to_string(), "DIR");
            line.split("hookvisor.duration_us=").next().unwrap_or_default().trim().to_owned()
        })
        .collect();
    insta::assert_snapshot!("the_log_has_every_step_in_order", lines.join("\n"));
}

#[test]
fn metrics_count_calls_by_event_and_termination() {
    use crate::support::recorder::Recorder;
    let hooks = Hooks::new().script("test.d/10-fine", ":").script("test.d/20-veto", "exit 3");
    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let runtime = hooks.runtime();
        drop(runtime.run(&event("web1", "start")));
        drop(runtime.run(&event("web1", "stopped")));
        fs::rename(hooks.path(), hooks.path().with_extension("gone")).unwrap();
        assert!(runtime.reload().is_err());
        fs::rename(hooks.path().with_extension("gone"), hooks.path()).unwrap();
    });
    insta::assert_snapshot!(recorder.text(), @r"
    hookvisor_hook_calls_total{driver=test,operation=start,kind=native,termination=exited} 2
    hookvisor_hook_calls_total{driver=test,operation=stopped,kind=native,termination=exited} 2
    hookvisor_hook_duration_seconds{driver=test,operation=start,kind=native} 2
    hookvisor_hook_duration_seconds{driver=test,operation=stopped,kind=native} 2
    hookvisor_hooks_in_flight{} 0
    hookvisor_reloads_total{result=failed} 1
    hookvisor_reloads_total{result=ok} 1
    hookvisor_vetoes_total{driver=test,operation=start} 1
    ");
}

/// Types that a daemon stores in its structures and passes between threads.
#[test]
fn everything_can_be_shared_between_threads() {
    fn shareable<T: Send + Sync + 'static>() {}
    fn movable<T: Send>(_: T) {}
    shareable::<Runtime>();
    shareable::<hookvisor::Guest>();
    shareable::<hookvisor::Invocation>();
    shareable::<Cancel>();
    shareable::<Event>();
    shareable::<hookvisor::Verdict>();
    let runtime = Hooks::new().runtime();
    let start = event("web1", "start");
    movable(runtime.start_async(&start));
    movable(runtime.admit_async(&start));
    movable(runtime.shutdown_async(&start));
}
