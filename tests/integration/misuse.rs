//! Mistakes of a Rust host: each gets an error, nothing hangs, and nothing is left behind. tests/capi/misuse.c has
//! those of C hosts, and tests/python those of Python hosts.

use std::cell::Cell;
use std::os::unix::thread::JoinHandleExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use hookvisor::{Convention, Decision, DocumentFormat, Event, Operation, Runtime};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, sigaction};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use tracing::subscriber;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, registry};

use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event};

#[test]
fn text_that_no_hook_can_be_given_is_no_event() {
    for bad in ["a\0b", "a\nb", "\0", "\n"] {
        assert!(Event::new(bad, "web1", "start").is_err(), "{bad:?} as driver");
        assert!(Event::new(DRIVER, bad, "start").is_err(), "{bad:?} as object");
        assert!(Event::new(DRIVER, "web1", bad).is_err(), "{bad:?} as operation");
        assert!(event("web1", "start").with_sub_operation(bad).is_err(), "{bad:?} as sub-operation");
        assert!(event("web1", "start").with_extra(bad).is_err(), "{bad:?} as extra");
    }
    assert!(Runtime::open("/a\0b").is_err());
}

/// 1 GiB with HOOKVISOR_SLOW_TESTS=1. A hook that ignores it costs nothing, and one that reads it gets all of it.
#[test]
fn a_document_of_any_size_is_passed_on_whole() {
    let size = if std::env::var("HOOKVISOR_SLOW_TESTS").is_ok_and(|slow| slow == "1") { 1 << 30 } else { 64 << 20 };
    let hooks =
        Hooks::new().script("test.d/10-ignores", ":").script("test.d/20-counts", &format!("[ $(wc -c) = {size} ]"));
    let report = hooks.runtime().run(&event("web1", "start").with_document(vec![0; size]));
    assert_eq!(report.decision, Decision::Proceed, "{report}");
}

/// A fork lacks the threads that end hooks in time, so it must not wait for them.
#[test]
fn a_fork_is_refused_and_builds_its_own() {
    alone("misuse::a_fork_is_refused_and_builds_its_own", || {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        let runtime = hooks.runtime();
        let guest = runtime.admit(&event("web1", "start")).unwrap();
        // SAFETY: no other thread of this process holds a lock that the child takes: it is a test's own.
        if let ForkResult::Parent { child } = unsafe { fork() }.unwrap() {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Proceed);
            assert_eq!(guest.stopped().hooks.len(), 1);
            return;
        }
        let report = runtime.run(&event("web1", "start"));
        let is_refused = report.decision == Decision::Vetoed && report.to_string().contains("is a fork of it");
        let stopped = guest.stopped();
        let is_refused = is_refused && stopped.decision == Decision::Notified && stopped.refused.is_some();
        let own = hooks.runtime().run(&event("web1", "start"));
        let status = i32::from(!is_refused || own.decision != Decision::Proceed);
        // SAFETY: ends the process at once, without the test harness's exit.
        unsafe { libc::_exit(status) }
    });
}

/// Calls from a thread that handles the process's signals, and so blocks all of them.
#[test]
fn a_thread_that_handles_signals_may_call_hooks() {
    alone("misuse::a_thread_that_handles_signals_may_call_hooks", || {
        let hooks = Hooks::new().script(DRIVER, "kill -TERM $$; exit 0");
        let runtime = hooks.runtime();
        let report = thread::spawn(move || {
            pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).unwrap();
            runtime.run(&event("web1", "start"))
        });
        let report = report.join().unwrap();
        // The hook gets its own signal, since no signal is blocked in it.
        assert_eq!(report.hooks[0].termination.exit_status(), 128 + 15, "{report}");
    });
}

#[test]
fn signals_that_interrupt_system_calls_do_not_disturb_a_call() {
    extern "C" fn count(_: i32) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    alone("misuse::signals_that_interrupt_system_calls_do_not_disturb_a_call", || {
        // Without SA_RESTART, system calls end with EINTR.
        let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler only adds to an atomic number.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        let hooks = Hooks::new().script(DRIVER, "cat >/dev/null; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.02; done");
        let runtime = hooks.runtime();
        let document = vec![b'x'; 1 << 20];
        let call = thread::spawn(move || runtime.run(&event("web1", "start").with_document(document)));
        while !call.is_finished() {
            // SAFETY: the thread has not been joined, so its handle is valid.
            assert_eq!(unsafe { libc::pthread_kill(call.as_pthread_t(), libc::SIGUSR1) }, 0);
            thread::sleep(Duration::from_millis(1));
        }
        let report = call.join().unwrap();
        assert_eq!(report.decision, Decision::Proceed, "{report}");
        assert!(COUNT.load(Ordering::Relaxed) > 10);
    });
}

#[test]
fn a_host_s_function_that_panics_leaves_a_runtime_that_works() {
    alone("misuse::a_host_s_function_that_panics_leaves_a_runtime_that_works", || {
        let hooks = Hooks::new().script("vmm", "echo new");
        let format = DocumentFormat::custom(|_: &[u8]| panic!("a mistake of the host"));
        let convention = Convention::new("vmm").operation("configure", Operation::filter(format));
        let runtime = hooks.builder().convention(convention).build().unwrap();
        let of = |operation| Event::new("vmm", "web1", operation).unwrap();
        drop(runtime.run(&of("start")));
        let before = Leftovers::before();
        assert!(catch_unwind(AssertUnwindSafe(|| runtime.run(&of("configure")))).is_err());
        assert_eq!(runtime.run(&of("start")).decision, Decision::Proceed);
        runtime.reload().unwrap();
        Leftovers::assert_none_since(&before, "a panic of the host's function");
    });
}

#[test]
fn an_async_call_without_tokio_panics_before_any_hook() {
    let hooks = Hooks::new().script(DRIVER, "touch \"$0.ran.bak\"");
    let runtime = hooks.runtime();
    let start = event("web1", "start");
    let poll = || {
        let mut call = Box::pin(runtime.start_async(&start));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        call.as_mut().poll(&mut context).is_ready()
    };
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    assert!(!hooks.path().join("test.ran.bak").exists());
    assert_eq!(runtime.run(&start).decision, Decision::Proceed);
}

/// A subscriber that calls hooks of the runtime whose log it gets.
struct Calls(Runtime, Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Calls {
    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        thread_local!(static IS_CALLING: Cell<bool> = const { Cell::new(false) });
        if !IS_CALLING.replace(true) {
            assert_eq!(self.0.run(&event("web2", "start")).decision, Decision::Proceed);
            self.0.reload().unwrap();
            self.1.fetch_add(1, Ordering::Relaxed);
            IS_CALLING.set(false);
        }
    }
}

#[test]
fn a_log_that_calls_hooks_itself_does_not_wait_for_itself() {
    alone("misuse::a_log_that_calls_hooks_itself_does_not_wait_for_itself", || {
        let hooks = Hooks::new().script(DRIVER, ":");
        let (runtime, calls) = (hooks.runtime(), Arc::new(AtomicUsize::new(0)));
        let log = Calls(runtime.clone(), Arc::clone(&calls));
        let report = subscriber::with_default(registry().with(log), || runtime.run(&event("web1", "start")));
        assert_eq!(report.decision, Decision::Proceed);
        assert!(calls.load(Ordering::Relaxed) > 0);
    });
}
