//! The edges of a call: its signals, a panic within it, times beyond the clock, user namespaces, and changes that a clock
//! cannot tell apart.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hookvisor::{Cancel, Disabled, Exec};

use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::processes::{line_of, wait_for_the_end_of};
use crate::support::program::Ran;
use crate::support::{DRIVER, Hooks, event, needs_root, skip, start};

/// Longer than any of these calls takes, and shorter than the grace period.
const TOO_LONG: Duration = Duration::from_secs(20);

/// Under strace, every system call around a launch is visible.
#[test]
fn all_signals_are_blocked_around_a_launch() {
    const NAME: &str = "edges::all_signals_are_blocked_around_a_launch";
    let hooks = Hooks::new().script(DRIVER, "exit 9");
    let trace = hooks.path().join("trace.bak");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "signal=none", "-e", "trace=rt_sigprocmask,clone,clone3,vfork,execve", "-o"]);
    command.arg(&trace).arg(env!("CARGO_BIN_EXE_hookvisor")).args(["run", "--hooks"]).arg(hooks.path());
    command.args([DRIVER, "web1", "start"]).stdin(Stdio::null());
    let Ok(ran) = command.output() else { return skip(NAME, "it needs strace") };
    if ran.status.code() != Some(9) {
        return skip(NAME, &format!("strace cannot trace here: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    let trace = fs::read_to_string(trace).unwrap();
    let lines: Vec<(&str, &str)> =
        trace.lines().filter_map(|line| line.split_once(' ')).map(|(pid, call)| (pid, call.trim_start())).collect();
    let launch = lines.iter().position(|(_, call)| call.starts_with("clone(") && call.contains("CLONE_VFORK")).unwrap();
    let (host, _) = lines[launch];
    let sets = |call: &str, mask: &str| call.starts_with(&format!("rt_sigprocmask(SIG_SETMASK, {mask}, "));
    let is_mask = |(pid, call): &&(&str, &str)| *pid == host && call.starts_with("rt_sigprocmask(");
    // The C library itself would leave out its own two signals: `~[RTMIN RT_1]`.
    let before = lines[..launch].iter().rfind(is_mask).unwrap();
    assert!(sets(before.1, "~[]"), "{trace}");
    let after = lines[launch..].iter().find(is_mask).unwrap();
    assert!(!sets(after.1, "~[]"), "{trace}");
    let executes = |(_, call): &(&str, &str)| call.starts_with("execve(") && call.contains(&format!("{DRIVER}\", ["));
    let execution = lines.iter().position(executes).unwrap();
    let (hook, _) = lines[execution];
    let of_hook = lines[launch..execution].iter().rfind(|(pid, call)| *pid == hook && call.contains("rt_sigprocmask"));
    assert!(hook != host && sets(of_hook.unwrap().1, "[]"), "{trace}");
}

/// Throws a panic from the host's own function, once this file has a line.
fn panics_after(file: &Path) -> Cancel {
    let file = file.to_owned();
    // Readable from the beginning, and never read.
    let (reader, writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut &writer, b"x").unwrap();
    Cancel::watching(reader, move |_| {
        let _open = &writer;
        assert!(!fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n')), "a mistake of the host");
    })
}

#[test]
fn a_panic_in_the_middle_of_a_call_kills_and_reaps_the_hook() {
    alone("edges::a_panic_in_the_middle_of_a_call_kills_and_reaps_the_hook", || {
        let body = "trap '' TERM; sleep 3600 & echo $$ $! > \"$0.pid.bak\"; while :; do wait; done";
        let hooks = Hooks::new().script(DRIVER, body).script("next", "exit 0");
        let (hook, pids) = (hooks.path().join(DRIVER), hooks.path().join("test.pid.bak"));
        let runtime = hooks.runtime();
        let exec = |name: &str| Exec::new(hooks.path().join(name));
        assert!(exec("next").run(&[], "").termination.is_success());
        let before = Leftovers::before();
        let by_exec = || drop(Exec::new(&hook).cancel(&panics_after(&pids)).run(&["web1"], vec![b'x'; 1 << 20]));
        let by_runtime = || drop(runtime.call(&event("web1", "start")).cancel(&panics_after(&pids)).run());
        for call in [&by_exec as &dyn Fn(), &by_runtime] {
            let began = Instant::now();
            // The panic is expected, so nothing is printed.
            let print = take_hook();
            set_hook(Box::new(|_| {}));
            let panicked = catch_unwind(AssertUnwindSafe(call)).is_err();
            set_hook(print);
            assert!(panicked);
            assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
            line_of(&pids).split(' ').for_each(wait_for_the_end_of);
            fs::remove_file(&pids).unwrap();
            // The next launch reaps it.
            assert!(exec("next").run(&[], "").termination.is_success());
            Leftovers::assert_none_since(&before, "a panic");
        }
    });
}

#[test]
fn times_beyond_the_clock_in_settings_and_options_are_no_limit() {
    const YEARS: &str = "300000000000y";
    let hooks =
        Hooks::new().script(DRIVER, "exit 3").script("slow.d/10", "trap 'exit 0' TERM; while :; do sleep 0.01; done");
    hooks.file("test.toml", format!("timeout = '{YEARS}'\n"), 0o644);
    hooks.file("slow.d/10.toml", "timeout = '300ms'\n", 0o644);
    let config =
        format!("hooks = '.'\n[history]\nfile = 'history.jsonl'\n[limits]\ntimeout = '{YEARS}'\ngrace = '{YEARS}'\n");
    let config = hooks.file(".config/hookvisor.toml", config.replace("'.'", &format!("{:?}", hooks.path())), 0o644);
    let run = |options: &[&str], driver: &str| {
        let mut command = hooks.command("run");
        hooks.ran(command.arg("--config").arg(&config).args(options).args([driver, "web1", "start"]))
    };
    for options in [&[][..], &["--timeout", YEARS]] {
        let Ran { status, stderr, .. } = run(options, DRIVER);
        assert_eq!(status, 3, "{stderr}");
    }
    assert_eq!(hooks.exec(DRIVER, &["web1"], "").status, 3);
    // It ends on SIGTERM, long before the grace period is over.
    let Ran { status, stderr, .. } = run(&[], "slow");
    assert!(status == 124 && stderr.contains("timed out after 300ms"), "{status}: {stderr}");
    assert_eq!(hooks.call(&["check"]).status, 0);
    let epoch = SystemTime::UNIX_EPOCH;
    for (until, written) in [
        (epoch + Duration::from_secs(1 << 50), "9999-12-31T23:59:59Z"),
        (epoch - Duration::from_secs(1), "1970-01-01T00:00:00Z"),
    ] {
        assert_eq!(Disabled::by("root").until(until).until.as_deref(), Some(written));
    }
}

#[cfg(feature = "compiler")]
#[test]
fn a_guest_that_sleeps_beyond_the_clock_times_out() {
    use crate::support::guests::{wasm_component_probe, wasm_probe};
    use crate::support::impatient;

    for probe in [wasm_probe(), wasm_component_probe()] {
        let hooks = Hooks::new().copy(DRIVER, probe);
        let sleeps = event(&format!("sleep={}", u64::MAX), "start");
        assert_eq!(hooks.impatient_runtime().run(&sleeps).exit_status(), 124);
        // Without a limit, it ends by itself.
        hooks.file("test.toml", "timeout = '300000000000y'\n", 0o644);
        let report = hooks.runtime().call(&event("sleep=50;exit=1", "start")).limits(impatient()).run();
        assert_eq!(report.exit_status(), 1, "{report}");
    }
}

/// A user whom nothing else belongs to.
const SOMEBODY: u32 = 1234;

/// Runs a start in a user namespace in which this user is root. `None` if the system does not allow that.
fn in_a_user_namespace(program: &Path, hooks: &Hooks, user: u32) -> Option<Output> {
    let user = user.to_string();
    let unshare = |program: &Path| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "unshare", "-Ur"]).arg(program);
        command.current_dir("/").env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        command
    };
    if !unshare(Path::new("true")).status().is_ok_and(|status| status.success()) {
        return None;
    }
    Some(unshare(program).args(["run", "--hooks"]).arg(hooks.path()).args([DRIVER, "web1", "start"]).output().unwrap())
}

#[test]
fn in_a_user_namespace_trust_is_judged_by_the_users_that_it_has() {
    const NAME: &str = "edges::in_a_user_namespace_trust_is_judged_by_the_users_that_it_has";
    if !needs_root(NAME) {
        return;
    }
    const OTHER: u32 = 4321;
    // Where every user can execute it.
    let directory = Hooks::new();
    let program = directory.path().join("hookvisor");
    fs::copy(env!("CARGO_BIN_EXE_hookvisor"), &program).unwrap();
    // The user of the namespace, the owner of the hook, its mode, and the result.
    for (user, owner, mode, expected) in [
        // Root of the host, who is root in the namespace too. Other users have no number there.
        (0, 0, 0o755, None),
        (0, OTHER, 0o755, Some("is owned by ")),
        (0, 0, 0o757, Some("is writable by others (mode 0757)")),
        // As in a rootless container: the host's root has no number there, and is trusted all the same.
        (SOMEBODY, 0, 0o755, None),
        (SOMEBODY, SOMEBODY, 0o755, None),
        (SOMEBODY, 0, 0o757, Some("is writable by others (mode 0757)")),
    ] {
        let hooks = Hooks::new().script(DRIVER, "exit 9");
        let hook = hooks.path().join(DRIVER);
        chown(&hook, Some(owner), None).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(mode)).unwrap();
        let Some(ran) = in_a_user_namespace(&program, &hooks, user) else {
            return skip(NAME, "this system has no user namespaces for this user");
        };
        let said = String::from_utf8(ran.stderr).unwrap();
        let case = format!("user {user}, owner {owner}, mode {mode:o}: {said}");
        match expected {
            None => assert_eq!(ran.status.code(), Some(9), "{case}"),
            Some(why) => {
                assert_eq!(ran.status.code(), Some(126), "{case}");
                assert!(said.contains(why) && said.lines().count() == 1, "{case}");
            }
        }
    }
}

/// A clock's tick is some milliseconds, and a file's times count in ticks.
#[cfg(feature = "compiler")]
#[test]
fn a_reload_sees_changes_within_one_tick_of_the_clock() {
    use crate::support::alone::is_emulated;
    use crate::support::guests::module_that_exits;
    use crate::support::wait_until;

    let (hooks, cache) = (Hooks::new(), tempfile::tempdir().unwrap());
    // Two modules of the same length.
    let modules = [3, 4].map(module_that_exits);
    assert_eq!(modules[0].len(), modules[1].len());
    let module = hooks.file(DRIVER, &modules[0], 0o755);
    let builder = || hookvisor::Runtime::builder(hooks.path()).cache(hookvisor::Cache::open(cache.path()).unwrap());
    // Once the file is some seconds old, the cache remembers its digest.
    wait_until("the digest is remembered", || {
        drop(builder().build().unwrap());
        fs::read_dir(cache.path().join("stamps")).is_ok_and(|mut stamps| stamps.next().is_some())
    });
    let runtime = builder().build().unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for turn in 0..if is_emulated() { 20 } else { 200 } {
        // The same inode, length and modification time.
        fs::write(&module, &modules[turn % 2]).unwrap();
        fs::File::open(&module).unwrap().set_modified(long_ago).unwrap();
        // A hook and its settings come and go.
        let (other, settings) = (hooks.path().join("test.d/10-other"), hooks.path().join("test.d/10-other.toml"));
        if turn % 2 == 0 {
            hooks.file("test.d/10-other", "#!/bin/sh\nexit 0\n", 0o755);
            hooks.file("test.d/10-other.toml", format!("env = {{ TURN = '{turn}' }}\n"), 0o644);
        } else {
            fs::remove_file(settings).unwrap();
            fs::remove_file(other).unwrap();
        }
        runtime.reload().unwrap();
        let reports = runtime.run(&event("web1", "stopped")).hooks;
        let statuses: Vec<u8> = reports.iter().map(|hook| hook.termination.exit_status()).collect();
        assert_eq!(statuses, if turn % 2 == 0 { vec![3, 0] } else { vec![4] }, "turn {turn}");
        // A new process, which starts from the cache.
        let fresh = builder().for_one_event().build().unwrap();
        assert_eq!(fresh.run(&event("web1", "start")).exit_status(), [3, 4][turn % 2], "turn {turn}");
    }
}

/// A daemon asks with its own misspelt name, and a person types one.
#[test]
fn a_misspelt_driver_of_an_unknown_daemon_does_not_proceed() {
    let hooks = Hooks::new().script("mydaemon", "exit 0");
    assert_eq!(hooks.call(&["run", "mydaemon", "web1", "start"]).status, 0);
    let ran = hooks.call(&["run", "mydeamon", "web1", "start"]);
    assert_eq!(ran.status, 2);
    let why = "driver mydeamon has no hooks: did you mean mydaemon? Otherwise add `known_drivers = [\"mydeamon\"]`";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    // The same name for a directory of hooks.
    let hooks_in_directory = Hooks::new().script("mydaemon.d/10", "exit 9");
    assert_eq!(hooks_in_directory.call(&["run", "MyDaemon", "web1", "start"]).status, 2);
    assert_eq!(hooks_in_directory.call(&["run", "otherdaemon", "web1", "start"]).status, 0);

    let configured = |line: &str| {
        let config = format!("hooks = {:?}\n{line}\n[history]\nfile = 'history.jsonl'\n", hooks.path());
        let config = hooks.file(".config/hookvisor.toml", config, 0o644);
        hooks.ran(hooks.command("run").arg("--config").arg(config).args(["mydeamon", "web1", "start"]))
    };
    assert_eq!(configured("known_drivers = ['mydeamon']").status, 0);
    for line in ["known_drivers = ['mydaemon']", "require_hooks = true"] {
        let ran = configured(line);
        assert!(
            ran.status == 2 && ran.stderr.contains("did you mean mydaemon?"),
            "{line}: {} {}",
            ran.status,
            ran.stderr
        );
    }
    // A name that resembles no other may be a daemon without hooks.
    assert_eq!(start(&Hooks::new()).exit_status(), 0);
}
