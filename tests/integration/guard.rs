//! `end_with_host`: what happens to hooks when their host is killed.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use hookvisor::{Decision, Limits, Report, Runtime};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, kill, killpg, signal};
use nix::unistd::Pid;

use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::numbers::stranger_with;
use crate::support::processes::{children, is_alive, line_of, wait_for_the_end_of, wait_until};
use crate::support::{Hooks, event};

const HOST: &str = "HOOKVISOR_TEST_HOST";
const GUARDED: &str = "HOOKVISOR_TEST_GUARDED";
/// A host that ignores SIGCHLD, and that waits long for background processes of its hooks.
const IGNORES_SIGCHLD: &str = "HOOKVISOR_TEST_IGNORES_SIGCHLD";
const GUARDIAN: &str = "hookvisor-guardian";

/// A hook that hangs, with a child that hangs too. Both record their process numbers.
const HANGS: &str = "sleep 3600 & echo $! > \"$0.child.bak\"; echo $$ > \"$0.pid.bak\"; wait";

/// A host process that runs one start after the other until it is killed.
struct Host {
    process: Child,
    hooks: PathBuf,
}

impl Host {
    /// `test` is the path of the calling test. It runs again as the host, and must call [`be_host`] then.
    fn of(test: &str, hooks: &Hooks, guarded: bool) -> Self {
        Self::with(test, hooks, if guarded { &[GUARDED] } else { &[] })
    }

    fn with(test: &str, hooks: &Hooks, switches: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(HOST, hooks.path()).stdout(Stdio::null());
        command.envs(switches.iter().map(|switch| (switch, "1")));
        Self { process: command.spawn().unwrap(), hooks: hooks.path().to_owned() }
    }

    /// The process number in the hook's file, once it is written.
    fn pid(&self, file: &str) -> String {
        line_of(&self.hooks.join(file))
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The work of such a process. Returns true if this is one.
fn be_host() -> bool {
    let Some(directory) = std::env::var_os(HOST) else { return false };
    let extra = fs::read_to_string(Path::new(&directory).join("extra")).unwrap_or_default();
    let builder = Runtime::builder(directory);
    let builder = if std::env::var_os(GUARDED).is_some() { builder.end_with_host() } else { builder };
    let mut limits = Limits::default();
    if std::env::var_os(IGNORES_SIGCHLD).is_some() {
        limits.leak_wait = Duration::from_secs(3600);
        #[expect(unsafe_code, reason = "changing a disposition affects the whole process, which is this host's own")]
        // SAFETY: SIG_IGN installs no handler.
        unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    }
    let runtime = builder.limits(limits).build().unwrap();
    for operation in ["prepare", "start"] {
        drop(runtime.run(&event("web1", operation).with_extra(&extra).unwrap()));
    }
    true
}

#[test]
fn hooks_end_with_a_killed_host_if_it_asked_for_that() {
    const SELF: &str = "guard::hooks_end_with_a_killed_host_if_it_asked_for_that";
    if be_host() {
        return;
    }
    let hooks = || {
        let leaves = "if [ $2 = prepare ]; then sleep 3600 > /dev/null 2>&1 & echo $! > \"$0.pid.bak\"; fi";
        let hangs = format!("if [ $2 = prepare ]; then exit; fi; {HANGS}");
        Hooks::new().script("test.d/10-leaves", leaves).script("test.d/20-hangs", &hangs)
    };
    let (unguarded, guarded) = (hooks(), hooks());
    let pids = |host: Host| {
        let files = ["test.d/10-leaves.pid.bak", "test.d/20-hangs.pid.bak", "test.d/20-hangs.child.bak"];
        let pids = files.map(|file| host.pid(file));
        host.kill();
        pids
    };
    let by_themselves = pids(Host::of(SELF, &unguarded, false));
    let [left, hook, child] = pids(Host::of(SELF, &guarded, true));
    wait_for_the_end_of(&hook);
    wait_for_the_end_of(&child);
    assert!(is_alive(&left), "what a hook has left behind after its own end is not the guard's");
    for pid in by_themselves.iter().chain([&left]) {
        assert!(is_alive(pid), "without the guard, they live on");
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
    }
}

#[cfg(feature = "wasm")]
#[test]
fn a_command_of_a_sandboxed_hook_ends_with_the_host_too() {
    const SELF: &str = "guard::a_command_of_a_sandboxed_hook_ends_with_the_host_too";
    if be_host() {
        return;
    }
    use crate::support::guests::wasm;
    let hooks = Hooks::new().copy("test", &wasm("sdk")).script("command.d/hangs", HANGS);
    let command = hooks.path().join("command.d/hangs");
    hooks.file("test.toml", format!("operations = ['start']\n[[command]]\nprogram = {command:?}\n"), 0o644);
    hooks.file("extra", format!("run={}", command.display()), 0o644);
    let host = Host::of(SELF, &hooks, true);
    let (command, child) = (host.pid("command.d/hangs.pid.bak"), host.pid("command.d/hangs.child.bak"));
    assert!(is_alive(&command) && is_alive(&child));
    host.kill();
    wait_for_the_end_of(&command);
    wait_for_the_end_of(&child);
}

#[test]
fn a_guardian_that_is_killed_is_replaced_while_hooks_run() {
    const SELF: &str = "guard::a_guardian_that_is_killed_is_replaced_while_hooks_run";
    if be_host() {
        return;
    }
    let hooks = Hooks::new().script("test", &format!("if [ $2 = prepare ]; then exit; fi; {HANGS}"));
    let host = Host::of(SELF, &hooks, true);
    let (hook, child) = (host.pid("test.pid.bak"), host.pid("test.child.bak"));
    let guardian = || children(host.process.id(), GUARDIAN);
    let first = guardian();
    assert_eq!(first.len(), 1);
    kill(Pid::from_raw(first[0].parse().unwrap()), Signal::SIGKILL).unwrap();
    let mut second = Vec::<String>::new();
    wait_until("another guardian", || {
        second = guardian();
        second.len() == 1 && second != first
    });
    host.kill();
    wait_for_the_end_of(&hook);
    wait_for_the_end_of(&child);
    wait_for_the_end_of(&second[0]);
}

#[test]
fn a_process_that_reuses_an_ended_hook_s_number_is_not_killed() {
    const SELF: &str = "guard::a_process_that_reuses_an_ended_hook_s_number_is_not_killed";
    if be_host() {
        return;
    }
    // It leaves a process in another group that keeps stderr open. So the host still waits when the kernel reuses the
    // hook's number.
    let leaves = "setsid sleep 3600 & echo $! > \"$0.child.bak\"; echo $$ > \"$0.pid.bak\"";
    let hooks = Hooks::new().script("test", leaves);
    let host = Host::with(SELF, &hooks, &[GUARDED, IGNORES_SIGCHLD]);
    let (hook, child) = (host.pid("test.pid.bak"), host.pid("test.child.bak"));
    wait_until("nothing is left of the hook", || !Path::new(&format!("/proc/{hook}")).exists());
    let guardian = children(host.process.id(), GUARDIAN).remove(0);
    // Start times have a resolution of a hundredth of a second (proc(5)).
    let uptime = || fs::read_to_string("/proc/uptime").unwrap().split(' ').next().map(str::to_owned);
    let seen = uptime();
    wait_until("a process started now has another start time", || uptime() != seen);
    let stranger = stranger_with(&hook);
    host.kill();
    wait_for_the_end_of(&guardian);
    kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
    if let Some(mut stranger) = stranger {
        assert!(is_alive(&hook), "the guardian has killed a stranger");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}

/// The guardian of this process, once its shell has read the script's first line.
fn guardian() -> String {
    let mut guardians = Vec::new();
    wait_until("one guardian", || {
        guardians = children(std::process::id(), GUARDIAN);
        matches!(guardians.as_slice(), [guardian] if ignores_sigterm(guardian))
    });
    guardians.remove(0)
}

fn ignores_sigterm(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(ignored.trim(), 16).is_ok_and(|ignored| ignored & 1 << (Signal::SIGTERM as i32 - 1) != 0)
}

#[test]
fn a_guardian_that_has_ended_or_does_not_answer_is_replaced_and_none_is_left() {
    alone("guard::a_guardian_that_has_ended_or_does_not_answer_is_replaced_and_none_is_left", || {
        // Writing to an ended guardian must not end the host.
        #[expect(unsafe_code, reason = "changing a disposition affects the whole process, which is this test's own")]
        // SAFETY: the default disposition runs no code.
        unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
        let hooks = Hooks::new().script("test", ":");
        let before = Leftovers::before();
        let runtime = hooks.builder().end_with_host().build().unwrap();
        assert_eq!(children(std::process::id(), GUARDIAN), [""; 0], "there is nothing to guard yet");
        let start = || runtime.run(&event("web1", "start"));
        assert_eq!(start().to_string(), "");
        let first = guardian();
        assert_eq!((start().decision, guardian()), (Decision::Proceed, first.clone()));

        for ignored in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
            killpg(Pid::from_raw(first.parse().unwrap()), ignored).unwrap();
        }
        assert_eq!((start().decision, guardian()), (Decision::Proceed, first.clone()));
        kill(Pid::from_raw(first.parse().unwrap()), Signal::SIGKILL).unwrap();
        wait_for_the_end_of(&first);
        assert_eq!(start().to_string(), "");
        let second = guardian();
        assert_ne!(second, first);

        kill(Pid::from_raw(second.parse().unwrap()), Signal::SIGSTOP).unwrap();
        // The smallest possible pipe, which fills quickly. The shell moves it to another descriptor while it reads a file.
        let descriptors = fs::read_dir(format!("/proc/{second}/fd")).unwrap();
        let pipe = descriptors
            .map(|entry| entry.unwrap().path())
            .find(|path| fs::read_link(path).unwrap().to_string_lossy().starts_with("pipe:"));
        fcntl(File::open(pipe.unwrap()).unwrap(), FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        wait_until("the end of one that does not read", || {
            assert_eq!(start().to_string(), "");
            !is_alive(&second)
        });
        assert_eq!(start().to_string(), "");
        assert_ne!(guardian(), second);
        drop(runtime);
        Leftovers::assert_none_since(&before, "three guardians");
    });
}

#[test]
fn hooks_of_many_threads_are_guarded_while_guardians_come_and_go() {
    alone("guard::hooks_of_many_threads_are_guarded_while_guardians_come_and_go", || {
        let hooks = Hooks::new().script("test", "exit $((${1#web} % 3))");
        let before = Leftovers::before();
        let runtime = hooks.builder().end_with_host().max_in_flight(NonZeroUsize::new(8).unwrap()).build().unwrap();
        thread::scope(|scope| {
            for thread in 0..16_u16 {
                let runtime = &runtime;
                scope.spawn(move || {
                    for call in 0..20 {
                        // Some hooks lose their guardian during the launch.
                        if call == 10 && thread % 4 == 0 {
                            for guardian in children(std::process::id(), GUARDIAN) {
                                let _ = kill(Pid::from_raw(guardian.parse().unwrap()), Signal::SIGKILL);
                            }
                        }
                        let guest = thread * 20 + call;
                        let report = runtime.run(&event(&format!("web{guest}"), "start"));
                        assert_eq!(u16::from(report.exit_status()), guest % 3, "web{guest}: {report}");
                    }
                });
            }
        });
        drop(runtime);
        Leftovers::assert_none_since(&before, "320 guarded hooks");
    });
}

#[test]
fn without_a_guardian_no_hook_is_launched() {
    alone("guard::without_a_guardian_no_hook_is_launched", || {
        let hooks = Hooks::new().script("test", ":");
        let runtime = hooks.builder().end_with_host().build().unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        // The hook's file and the guardian need some descriptors.
        let reports: Vec<Report> = (1..6)
            .map(|more| {
                setrlimit(Resource::RLIMIT_NOFILE, open + more, 4096).unwrap();
                let report = runtime.run(&event("web1", "start"));
                setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096).unwrap();
                report
            })
            .collect();
        let why = "could not be run: could not start the guardian process (end_with_host): could not create a pipe: Too many open files";
        let unguarded = reports.iter().find(|report| report.to_string().contains(why));
        let unguarded = unguarded.unwrap_or_else(|| panic!("{reports:?}"));
        assert_eq!((unguarded.decision, unguarded.exit_status()), (Decision::Vetoed, 125));
        assert!(children(std::process::id(), GUARDIAN).len() <= 1);
        assert_eq!(runtime.run(&event("web1", "start")).to_string(), "", "once there is room again");
    });
}
