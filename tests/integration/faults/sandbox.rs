//! A host without threads, memory or disk space, which only sandboxed hooks need.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use hookvisor::Runtime;
use nix::sys::resource::Resource;

use super::resources::limited;
use super::{allowed, as_nobody, sentence, vetoed};
use crate::support::alone::{alone, alone_under};
use crate::support::guests::{module_that_exits, wasm_probe};
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event, skip};

#[test]
fn without_threads_a_sandboxed_hook_vetoes_until_it_is_loaded_again() {
    alone("faults::sandbox::without_threads_a_sandboxed_hook_vetoes_until_it_is_loaded_again", || {
        let hooks = Hooks::new();
        hooks.file("test.d/10", module_that_exits(0), 0o755);
        let before = Leftovers::now();
        as_nobody(|| {
            let no_threads = |body: &dyn Fn()| limited(Resource::RLIMIT_NPROC, 0, body);
            let open = || Runtime::open(hooks.path()).unwrap();
            let runtime = limited(Resource::RLIMIT_NPROC, 0, open);
            let said = "could not be run: could not start the thread that interrupts WebAssembly hooks: Resource \
                        temporarily unavailable (os error 11)";
            assert_eq!(vetoed(&runtime, "web1"), said);
            runtime.reload().unwrap();
            no_threads(&|| allowed(&runtime, "web1"));

            no_threads(&|| runtime.reload().unwrap());
            let said = vetoed(&runtime, "web1");
            let expected = "could not be run: could not start the threads that compile it: ";
            assert!(said.starts_with(expected) && said.ends_with("(os error 11)"), "{said}");
            runtime.reload().unwrap();
            allowed(&runtime, "web1");
        });
        Leftovers::assert_none_since(&before, "a lack of threads");
    });
}

#[test]
fn without_threads_a_guest_that_needs_one_vetoes() {
    alone("faults::sandbox::without_threads_a_guest_that_needs_one_vetoes", || {
        let hooks = Hooks::new().copy(DRIVER, wasm_probe());
        let granted = hooks.path().display();
        hooks.file("test.toml", format!("[[dir]]\nhost = '{granted}'\nguest = '/granted'\n"), 0o644);
        let before = Leftovers::now();
        let runtime = hooks.runtime();
        as_nobody(|| {
            let steps = "open=/granted/test";
            // Inside the sandbox this is a panic, which does not leave the sandbox.
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|_| {}));
            let said = limited(Resource::RLIMIT_NPROC, 0, || vetoed(&runtime, steps));
            std::panic::set_hook(hook);
            let expected = "could not be run: the sandbox has failed: OS can't spawn worker thread: ";
            assert!(said.starts_with(expected) && said.ends_with("(os error 11)"), "{said}");
            allowed(&runtime, steps);
        });
        drop(runtime);
        Leftovers::assert_none_since(&before, "a guest without threads");
    });
}

/// The size of the used address space.
fn address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[test]
fn without_memory_for_an_instance_a_start_is_vetoed() {
    alone("faults::sandbox::without_memory_for_an_instance_a_start_is_vetoed", || {
        let hooks = Hooks::new().copy(DRIVER, wasm_probe());
        let at_first = Leftovers::now();
        // Memory that is already reserved stays available.
        let runtime = hooks.runtime();
        limited(Resource::RLIMIT_AS, address_space() + (16 << 20), || allowed(&runtime, "exit=0"));
        drop(runtime);
        // Too little for a pool or for a memory's reservation. Hooks run without them.
        let limit = address_space() + (512 << 20);
        let runtime = limited(Resource::RLIMIT_AS, limit, || {
            let runtime = hooks.runtime();
            allowed(&runtime, "exit=0");
            runtime
        });
        // Too little for anything.
        let event = event("exit=0", "start");
        let report = limited(Resource::RLIMIT_AS, address_space(), || runtime.run(&event));
        assert_eq!(report.exit_status(), 125, "{report}");
        let said = sentence(&report);
        assert!(said.starts_with("could not be run: "), "{said}");
        assert!(said.contains("Cannot allocate memory (os error 12)"), "{said}");
        assert!(
            said.contains(" (the address space is limited to ") && said.ends_with(": raise `ulimit -v`)"),
            "{said}"
        );
        allowed(&runtime, "exit=0");
        drop(runtime);
        Leftovers::assert_none_since(&at_first, "a lack of memory");
    });
}

const SMALL_DISK: &str = "HOOKVISOR_TEST_SMALL_DISK";

#[test]
fn a_full_disk_under_the_cache_costs_only_time() {
    let directory = tempfile::tempdir().unwrap();
    // A separate mount namespace, which ends with the process.
    let on_small_disk = |test: Command| {
        let mut unshare = Command::new("unshare");
        let mount = "mount -t tmpfs -o size=64k,mode=700 none \"$0\" && exec \"$@\"";
        unshare.args(["--mount", "sh", "-c", mount]).arg(directory.path()).arg(test.get_program());
        unshare.args(test.get_args()).envs(test.get_envs().filter_map(|(name, value)| Some((name, value?))));
        unshare.env(SMALL_DISK, directory.path());
        unshare
    };
    let tried =
        Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "none"]).arg(directory.path()).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return skip("a full disk under the cache", "no file system can be mounted here");
    }
    alone_under("faults::sandbox::a_full_disk_under_the_cache_costs_only_time", on_small_disk, small_disk);
}

fn small_disk() {
    let disk = PathBuf::from(std::env::var_os(SMALL_DISK).unwrap());
    let entries = || fs::read_dir(&disk).unwrap().count();
    let hooks = Hooks::new().copy(DRIVER, wasm_probe());
    let before = Leftovers::now();
    let builder = || Runtime::builder(hooks.path()).cache(hookvisor::Cache::open(&disk).unwrap());
    let runtime = builder().build().unwrap();
    allowed(&runtime, "exit=0");
    assert_eq!(entries(), 0, "of what there was no room for, nothing stays");
    let larger = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&disk).status().unwrap();
    assert!(larger.success());
    runtime.reload().unwrap();
    allowed(&runtime, "exit=0");
    assert_eq!(entries(), 1);
    let entry = fs::read_dir(&disk).unwrap().next().unwrap().unwrap().metadata().unwrap();
    // The disk is full again, and the cached code is used.
    let smaller = format!("remount,size={}k", entry.len().div_ceil(1024) + 8);
    assert!(Command::new("mount").args(["-o", &smaller]).arg(&disk).status().unwrap().success());
    allowed(&builder().build().unwrap(), "exit=0");
    drop(runtime);
    Leftovers::assert_none_since(&before, "a full disk");
}
