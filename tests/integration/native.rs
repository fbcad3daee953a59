//! How a native hook runs: each sentence of the documentation, tested with real processes.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Decision, Event, Limits, Termination};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask, signal};
use nix::unistd::Pid;

use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::processes::line_of;
use crate::support::{DRIVER, Hooks, event, impatient, needs_root, skip, start, stderr, wait_until};

/// The stderr of a hook with this body, without the last newline.
fn said(body: &str) -> String {
    stderr(&start(&Hooks::new().script(DRIVER, &format!("{body}\nexit 1")))).trim_end().to_owned()
}

#[test]
fn a_hook_gets_its_path_the_event_and_the_document() {
    let hooks = Hooks::new().script(DRIVER, r#"echo "$0" "$#" "$@" >&2; cat >&2; exit 1"#);
    let report = hooks.runtime().run(&event("web1", "start").with_document("<domain/>\n"));
    let path = hooks.path().join(DRIVER);
    assert_eq!(stderr(&report), format!("{} 4 web1 start - -\n<domain/>\n", path.display()));
}

#[test]
fn it_runs_in_the_root_directory_with_a_clean_environment() {
    assert_eq!(said("pwd >&2"), "/");
    let hooks = Hooks::new().script(DRIVER, "env >&2; exit 1");
    hooks.file("test.toml", "env = { MODE = 'strict', PATH = '/bin:/usr/bin' }", 0o644);
    let report = start(&hooks);
    let variables = stderr(&report);
    let mut names: Vec<&str> =
        variables.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    // Variables that the shell adds.
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_", "HOME", "USER", "LOGNAME", "TMPDIR"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["LC_ALL", "MODE", "PATH"]);
    for line in ["LC_ALL=C", "MODE=strict", "PATH=/bin:/usr/bin"] {
        assert!(variables.lines().any(|l| l == line), "{line} in {variables}");
    }
}

#[test]
fn its_streams_are_pipes_and_it_has_no_other_descriptor() {
    // A descriptor that the host has leaked, without close-on-exec.
    let leaked = File::open("/dev/null").unwrap();
    fcntl(&leaked, FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    assert!(leaked.as_raw_fd() > 2);
    let listing = said("exec ls -l /proc/self/fd >&2");
    let open = |line: &str| line.split_once(" -> ").map(|(_, target)| target.split(':').next().unwrap().to_owned());
    let open: Vec<String> = listing.lines().filter_map(open).filter(|target| !target.starts_with("/proc/")).collect();
    assert_eq!(open, ["pipe"; 3], "{listing}");
}

#[test]
fn a_host_without_standard_streams_gives_its_hooks_theirs() {
    alone("native::a_host_without_standard_streams_gives_its_hooks_theirs", || {
        let hooks = Hooks::new().script(DRIVER, "cat >&2; echo out; exit 3");
        let runtime = hooks.runtime();
        let kept = nix::unistd::dup(std::io::stdout()).unwrap();
        for fd in 0..3 {
            nix::unistd::close(fd).unwrap();
        }
        let report = runtime.run(&event("web1", "start").with_document("through the pipe"));
        // The test harness writes its result there.
        for _ in 0..3 {
            let _ = nix::unistd::dup(&kept).unwrap().into_raw_fd();
        }
        assert_eq!((report.exit_status(), stderr(&report)), (3, "through the pipe".to_owned()));
    });
}

#[test]
fn no_signal_is_blocked_ignored_or_handled() {
    alone("native::no_signal_is_blocked_ignored_or_handled", || {
        for ignored in [Signal::SIGPIPE, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGTERM] {
            // SAFETY is not at issue: nothing is installed, the signal is ignored.
            ignore(ignored);
        }
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).unwrap();
        let masks = said("exec cat /proc/self/status >&2");
        let mut blocked = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut blocked)).unwrap();
        assert!(blocked.contains(Signal::SIGHUP), "the host's own mask is as it was");
        for mask in ["SigBlk", "SigIgn", "SigCgt"] {
            let none = format!("{mask}:\t{}", "0".repeat(16));
            assert!(masks.lines().any(|line| line == none), "{mask} in {masks}");
        }
    });
}

#[expect(unsafe_code, reason = "changing a disposition affects the whole process, which is this test's own")]
fn ignore(which: Signal) {
    // SAFETY: SIG_IGN installs no handler.
    unsafe { signal(which, SigHandler::SigIgn) }.unwrap();
}

#[expect(unsafe_code, reason = "changing a disposition affects the whole process, which is this test's own")]
fn reset(which: Signal) {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { signal(which, SigHandler::SigDfl) }.unwrap();
}

#[test]
fn it_leads_a_process_group_of_its_own() {
    let ids = said("read -r pid name state ppid pgid rest < /proc/$$/stat; echo $(($$ == pgid)) >&2");
    assert_eq!(ids, "1");
}

#[test]
fn a_failed_exec_is_never_reported_as_the_hook_s_own_status() {
    let exited = |status: u8| {
        let report = start(&Hooks::new().script(DRIVER, &format!("exit {status}")));
        (report.hooks[0].termination.clone(), report.exit_status())
    };
    assert_eq!(exited(126), (Termination::Exited(126), 126));
    assert_eq!(exited(127), (Termination::Exited(127), 127));

    // Removed after it was loaded. Also an interpreter that is removed while its script stays.
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let interpreter = hooks.file("lib/interpreter", "#!/bin/sh\nexit 0\n", 0o755);
    hooks.file("test.d/20", format!("#!{}\n", interpreter.display()), 0o755);
    let runtime = hooks.runtime();
    fs::remove_file(hooks.path().join(DRIVER)).unwrap();
    fs::remove_file(&interpreter).unwrap();
    let report = runtime.shutdown(&event("web1", "stopped"));
    let said: Vec<String> = report.failures().map(|hook| hook.termination.to_string()).collect();
    assert_eq!(
        said,
        [
            "could not be run: the file has been removed: put it back, or reload the hooks".to_owned(),
            format!(
                "could not be run: its interpreter {} does not exist: install it, or correct the first line",
                interpreter.display()
            ),
        ]
    );
    assert!(report.hooks.iter().all(|hook| hook.termination.exit_status() == 127));
}

#[test]
fn a_hook_that_somebody_is_still_writing_is_waited_for_and_then_refused() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let runtime = hooks.runtime();
    let writing = OpenOptions::new().append(true).open(hooks.path().join(DRIVER)).unwrap();
    let report = runtime.run(&event("web1", "start"));
    assert_eq!(report.decision, Decision::Vetoed);
    assert_eq!(report.exit_status(), 126);
    assert!(
        report
            .to_string()
            .ends_with("could not be run: a process still has it open for writing: try again when it is closed"),
        "{report}"
    );
    drop(writing);
    assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Proceed);
}

#[test]
fn a_script_runs_as_it_stands_now_and_only_while_it_can_be_trusted() {
    let hooks = Hooks::new().script(DRIVER, "exit 1");
    let runtime = hooks.runtime();
    let event = event("web1", "start");
    assert_eq!(runtime.run(&event).exit_status(), 1);
    let path = hooks.path().join(DRIVER);
    // Like an editor: a new file takes the name.
    let new = hooks.file("new~", "#!/bin/sh\nexit 2\n", 0o755);
    fs::rename(new, &path).unwrap();
    assert_eq!(runtime.run(&event).exit_status(), 2);
    if needs_root("a_script_runs_as_it_stands_now_and_only_while_it_can_be_trusted") {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let report = runtime.run(&event);
        assert_eq!(report.exit_status(), 126);
        assert!(report.to_string().contains("is writable by others (mode 0777)"), "{report}");
    }
}

/// The process whose number a hook has written, while it exists and is not a zombie.
fn is_running(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    state.is_some_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[test]
fn at_the_timeout_the_whole_process_group_gets_sigterm() {
    alone("native::at_the_timeout_the_whole_process_group_gets_sigterm", || {
        let hooks = Hooks::new().script(DRIVER, "sleep 3600 & echo $! >&2; trap 'echo asked >&2; exit 0' TERM; wait");
        let runtime = hooks.impatient_runtime();
        let before = Leftovers::before();
        let began = Instant::now();
        let report = runtime.run(&event("web1", "start"));
        // Long before the grace period of half a minute is over.
        assert!(began.elapsed() < Duration::from_secs(20));
        let said = stderr(&report);
        let (sleeper, asked) = said.split_once('\n').unwrap();
        assert_eq!((report.decision, report.exit_status(), asked), (Decision::Vetoed, 124, "asked\n"));
        wait_until("the background process ends", || !is_running(sleeper));
        Leftovers::assert_none_since(&before, "a timeout");
    });
}

#[test]
fn processes_that_ignore_sigterm_are_killed_after_the_grace_period() {
    alone("native::processes_that_ignore_sigterm_are_killed_after_the_grace_period", || {
        let stubborn =
            "trap '' TERM; (trap '' TERM; sleep 3600) & echo $! >&2; echo ready >&2; while :; do sleep 3600; done";
        let stopped = "sleep 3600 & echo $! >&2; kill -STOP $$";
        // A leader that ends on SIGTERM, and leaves a process that does not.
        let left_behind = "sh -c \"trap '' TERM; sleep 3600\" & echo $! >&2; wait";
        let mut limits = impatient();
        limits.grace = Duration::from_millis(300);
        for body in [stubborn, stopped, left_behind] {
            let hooks = Hooks::new().script(DRIVER, body);
            let runtime = hooks.builder().limits(limits.clone()).build().unwrap();
            let before = Leftovers::before();
            let began = Instant::now();
            let report = runtime.run(&event("web1", "start"));
            assert!(began.elapsed() < Duration::from_secs(20), "{body}: {:?}", began.elapsed());
            assert_eq!(
                report.hooks[0].termination,
                Termination::TimedOut { after: limits.timeout, of_call: false },
                "{body}"
            );
            let said = stderr(&report);
            let member = said.lines().next().unwrap();
            wait_until("the group's other member is killed", || !is_running(member));
            Leftovers::assert_none_since(&before, body);
        }
    });
}

#[test]
fn a_background_process_that_keeps_stderr_open_does_not_delay_the_caller() {
    alone("native::a_background_process_that_keeps_stderr_open_does_not_delay_the_caller", || {
        // A typical daemon: a second fork, its own session, and an open stderr.
        let daemon = "(setsid sleep 3600 & echo $! > PIDFILE) &\nwait; exit STATUS";
        for (status, decision) in [(0, Decision::Proceed), (3, Decision::Vetoed)] {
            let hooks = Hooks::new();
            let pidfile = hooks.path().join("pid~");
            let body = daemon.replace("PIDFILE", &pidfile.display().to_string()).replace("STATUS", &status.to_string());
            let hooks = hooks.script(DRIVER, &body);
            let runtime = hooks.runtime();
            let before = Leftovers::before();
            let began = Instant::now();
            let report = runtime.run(&event("web1", "start"));
            assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
            assert_eq!((report.decision, report.exit_status()), (decision, status));
            let pid = fs::read_to_string(pidfile).unwrap().trim().to_owned();
            let note = |stream| {
                format!(
                    "a background process still holds its {stream} open, and hookvisor did not wait for it: sleep (pid {pid})"
                )
            };
            assert_eq!(report.hooks[0].notes, [note("stdout"), note("stderr")]);
            Leftovers::assert_none_since(&before, "a daemon");
            assert!(is_running(&pid), "what a hook leaves running on purpose is left running");
            nix::sys::signal::kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        }
    });
}

#[test]
fn a_background_process_that_floods_stderr_does_not_delay_the_caller() {
    let hooks = Hooks::new().script(DRIVER, "(exec setsid yes >&2) & exit 5");
    let began = Instant::now();
    let report = start(&hooks);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!((report.exit_status(), report.hooks[0].notes.len()), (5, 1), "{:?}", report.hooks[0].notes);
}

#[test]
fn a_death_by_any_signal_is_named() {
    let killed = |signal: &str| {
        let report = start(&Hooks::new().script(DRIVER, &format!("kill -{signal} $$")));
        (report.hooks[0].termination.to_string(), report.exit_status())
    };
    assert_eq!(killed("KILL"), ("killed by signal 9 (SIGKILL)".to_owned(), 137));
    assert_eq!(killed("SEGV"), ("killed by signal 11 (SIGSEGV)".to_owned(), 139));
    // Real-time signals are missing in the usual tables. A death by one must not be reported as anything else.
    assert_eq!(killed("40"), ("killed by signal 40 (SIGRTMIN+6)".to_owned(), 168));
    assert_eq!(killed("34"), ("killed by signal 34 (SIGRTMIN)".to_owned(), 162));
    // The C library's own signals.
    assert_eq!(killed("32"), ("killed by signal 32 (SIGCANCEL)".to_owned(), 160));
    assert_eq!(killed("33"), ("killed by signal 33 (SIGSETXID)".to_owned(), 161));
}

#[test]
fn a_host_that_does_not_ignore_sigpipe_survives_a_hook_that_does_not_read() {
    alone("native::a_host_that_does_not_ignore_sigpipe_survives_a_hook_that_does_not_read", || {
        reset(Signal::SIGPIPE);
        let hooks = Hooks::new().script(DRIVER, "exec <&-; sleep 0.1; exit 0");
        let event = event("web1", "start").with_document(vec![b'x'; 50_000_000]);
        assert_eq!(hooks.runtime().run(&event).decision, Decision::Proceed);
    });
}

#[test]
fn many_threads_each_get_their_own_answer() {
    alone("native::many_threads_each_get_their_own_answer", || {
        let hooks = Hooks::new().script(DRIVER, r#"cat >&2; exit "$1""#);
        let runtime = hooks.runtime();
        let before = Leftovers::before();
        thread::scope(|scope| {
            for caller in 0..16_u8 {
                let runtime = &runtime;
                scope.spawn(move || {
                    for call in 0..10_u8 {
                        let status = caller * 10 + call;
                        let document = format!("{caller} {call}");
                        let event = event(&status.to_string(), "start").with_document(document.clone());
                        let report = runtime.run(&event);
                        assert_eq!(report.exit_status(), status);
                        assert_eq!(stderr(&report), document);
                        assert_eq!(report.hooks[0].notes, [""; 0]);
                    }
                });
            }
        });
        Leftovers::assert_none_since(&before, "160 calls from 16 threads");
    });
}

#[test]
fn links_are_followed_and_a_link_to_dev_null_masks() {
    let hooks = Hooks::new().script("lib/check", "exit 6");
    fs::create_dir(hooks.path().join("test.d")).unwrap();
    symlink(hooks.path().join("lib/check"), hooks.path().join("test.d/10-check")).unwrap();
    symlink("/dev/null", hooks.path().join("test.d/20-packaged")).unwrap();
    let report = hooks.runtime().run(&Event::new(DRIVER, "web1", "stopped").unwrap());
    assert_eq!(report.hooks.len(), 1);
    assert_eq!(report.exit_status(), 6);
    assert_eq!(report.skipped[0].reason, "it is masked by a link to /dev/null");
}

#[test]
fn a_filter_whose_stdout_is_still_held_is_rejected() {
    // The background process would write the rest of the document.
    for wrote in ["echo '<domain/>'", ":"] {
        let body = format!(
            "{wrote}; exec 2>/dev/null; setsid sleep 3600 & echo $! > \"$0.pid.bak\"; until grep -q sleep /proc/$!/comm; do :; done"
        );
        let hooks = Hooks::new().script("qemu", &body);
        let migrate = Event::new("qemu", "web1", "migrate").unwrap().with_document("<domain/>");
        let report = hooks.runtime().run(&migrate);
        let pid = fs::read_to_string(hooks.path().join("qemu.pid.bak")).unwrap().trim().to_owned();
        nix::sys::signal::kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 1), "{wrote}: {report}");
        let why = "its document may be incomplete: a background process kept its stdout open after it exited";
        assert_eq!(report.hooks[0].termination, Termination::Rejected(why.to_owned()), "{wrote}");
        let held = format!(
            "a background process still holds its stdout open, and hookvisor did not wait for it: sleep (pid {pid})"
        );
        assert_eq!(report.hooks[0].notes, [held], "{wrote}");
    }
}

#[test]
fn all_output_is_read_whatever_the_size_of_the_pipe() {
    const SIZE: usize = 8 << 20;
    let (pipe, _) = nix::unistd::pipe().unwrap();
    if fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(SIZE.try_into().unwrap())).is_err() {
        return skip("a pipe of 8 MiB", "it needs CAP_SYS_RESOURCE, or a larger /proc/sys/fs/pipe-max-size");
    }
    // The host is stopped while the hook fills the enlarged pipe and ends.
    alone("native::all_output_is_read_whatever_the_size_of_the_pipe", || {
        let hold = "setsid sleep 3600 < /dev/null > /dev/null & echo $! > \"$0.child.bak\"";
        let go_on =
            "{ until grep -q ') Z ' /proc/$$/stat; do :; done; kill -CONT $PPID; } < /dev/null > /dev/null 2>&1 &";
        let fill = format!("kill -STOP $PPID; head -c {SIZE} /dev/zero >&2");
        let begin = "echo $$ > \"$0.pid.bak\"; read -r line < \"$0.fifo.bak\"";
        let hooks = Hooks::new().script(DRIVER, &format!("{begin}\n{fill}\n{hold}\n{go_on}"));
        let fifo = hooks.path().join("test.fifo.bak");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut limits = Limits::default();
        limits.leak_wait = Duration::ZERO;
        let report = thread::scope(|scope| {
            let call = scope.spawn(|| hooks.runtime().call(&event("web1", "start")).limits(limits).run());
            let hook = line_of(&hooks.path().join("test.pid.bak"));
            let pipe = File::open(format!("/proc/{hook}/fd/2")).unwrap();
            fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(SIZE.try_into().unwrap())).unwrap();
            drop(pipe);
            fs::write(&fifo, "go on\n").unwrap();
            call.join().unwrap()
        });
        let child = line_of(&hooks.path().join("test.child.bak"));
        nix::sys::signal::kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
        let kept = 64 << 10;
        assert_eq!(report.hooks[0].stderr_dropped, (SIZE - kept) as u64, "{report:?}");
    });
}

#[test]
fn a_group_keeps_its_grace_period_after_its_leader_has_ended() {
    alone("native::a_group_keeps_its_grace_period_after_its_leader_has_ended", || {
        // The leader ends at once. Another member of the group, which holds no stream, cleans up for a while.
        let cleans_up =
            "trap 'sleep 0.5; echo clean > CLEAN; exit 0' TERM; echo $$ > \"$0.pid.bak\"; while :; do sleep 0.01; done";
        let hooks = Hooks::new();
        let clean = hooks.path().join("clean.bak");
        let cleans_up = cleans_up.replace("CLEAN", &clean.display().to_string());
        let hooks = hooks.script("lib/cleans-up", &cleans_up);
        let body =
            "\"${0%/*}/lib/cleans-up\" < /dev/null > /dev/null 2>&1 & trap 'exit 0' TERM; while :; do sleep 0.01; done";
        let hooks = hooks.script(DRIVER, body);
        let runtime = hooks.impatient_runtime();
        let before = Leftovers::before();
        let began = Instant::now();
        let report = runtime.run(&event("web1", "start"));
        assert_eq!(report.exit_status(), 124, "{report}");
        // Less than the grace period of 30 s: the group has ended before.
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert_eq!(fs::read_to_string(clean).unwrap(), "clean\n");
        Leftovers::assert_none_since(&before, "a group that cleans up");
    });
}

#[test]
fn times_beyond_the_clock_s_range_are_no_limit() {
    let hooks = Hooks::new()
        .script(DRIVER, "exit \"$1\"")
        .script("slow", "echo $1 >&2; trap 'exit 0' TERM; while :; do sleep 0.01; done");
    let mut limits = Limits::default();
    (limits.timeout, limits.grace, limits.slow, limits.leak_wait) =
        (Duration::MAX, Duration::MAX, Duration::MAX, Duration::MAX);
    let runtime = hooks.builder().limits(limits.clone()).build().unwrap();
    let report = runtime.call(&event("3", "start")).within(Duration::MAX).run();
    assert_eq!(report.exit_status(), 3, "{report}");
    // It is stopped at its timeout, in spite of the long grace period.
    limits.timeout = Duration::from_millis(300);
    let slow = Event::new("slow", "web1", "start").unwrap();
    let report = runtime.call(&slow).limits(limits).run();
    assert_eq!(report.exit_status(), 124, "{report}");
    assert!(stderr(&report).starts_with("web1\n"), "{report}");
}

const TRACED: &str = "HOOKVISOR_TEST_TRACED";

/// A debugger that does not release its process: this test program, run again.
fn be_debugger() -> bool {
    let Some(pid) = std::env::var_os(TRACED) else { return false };
    let pid = Pid::from_raw(pid.to_str().unwrap().parse().unwrap());
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty()).unwrap();
    std::io::Write::write_all(&mut std::io::stdout(), b"traced\n").unwrap();
    thread::sleep(Duration::from_secs(3600));
    true
}

#[test]
fn a_debugger_on_an_ended_hook_does_not_delay_the_caller() {
    const SELF: &str = "native::a_debugger_on_an_ended_hook_does_not_delay_the_caller";
    if be_debugger() {
        return;
    }
    alone(SELF, || {
        // A traced process stops at each signal, so it has no children, whose ends send signals.
        let hooks = Hooks::new().script(DRIVER, "echo $$ > \"$0.pid.bak\"; read -r line < \"$0.fifo.bak\"");
        let fifo = hooks.path().join("test.fifo.bak");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let runtime = hooks.runtime();
        let report = thread::scope(|scope| {
            let call = scope.spawn(|| {
                let began = Instant::now();
                (runtime.run(&event("web1", "start")), began)
            });
            let hook = line_of(&hooks.path().join("test.pid.bak"));
            let mut debugger = std::process::Command::new(std::env::current_exe().unwrap());
            debugger.args(["--exact", SELF, "--nocapture"]).env(TRACED, &hook).stdout(std::process::Stdio::piped());
            let mut debugger = debugger.spawn().unwrap();
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(debugger.stdout.take().unwrap()));
            assert!(lines.any(|line| line.unwrap().contains("traced")), "this system does not allow to trace");
            fs::write(&fifo, "go on\n").unwrap();
            let (report, began) = call.join().unwrap();
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
            debugger.kill().unwrap();
            debugger.wait().unwrap();
            report
        });
        let why = "a debugger traces the hook and has not released it".to_owned();
        assert_eq!((report.decision, report.hooks[0].termination.clone()), (Decision::Vetoed, Termination::Lost(why)));
        // After its release, the next launch reaps it.
        assert_eq!(start(&Hooks::new().script(DRIVER, ":")).decision, Decision::Proceed);
        let children = || fs::read_to_string(format!("/proc/self/task/{}/children", nix::unistd::gettid())).unwrap();
        assert_eq!(children(), "");
    });
}

#[test]
fn a_wait_for_a_free_slot_is_in_the_report() {
    let hooks =
        Hooks::new().script(DRIVER, "echo $$ > \"$0.$1.bak\"; until [ -e \"$0.go.bak\" ]; do sleep 0.01; done; exit 1");
    let runtime = hooks.builder().max_in_flight(std::num::NonZeroUsize::MIN).build().unwrap();
    let report = thread::scope(|scope| {
        let first = scope.spawn(|| runtime.run(&event("first", "start")));
        line_of(&hooks.path().join("test.first.bak"));
        let second = scope.spawn(|| runtime.run(&event("second", "start")));
        thread::sleep(Duration::from_millis(300));
        fs::write(hooks.path().join("test.go.bak"), "").unwrap();
        assert_eq!(first.join().unwrap().hooks[0].notes, [""; 0]);
        second.join().unwrap()
    });
    let [note] = report.hooks[0].notes.as_slice() else { panic!("{report}") };
    assert!(
        note.starts_with("it waited ") && note.ends_with(" for a free slot (max_in_flight) before it was called"),
        "{note}"
    );
}
