//! Guests that try to escape, to exceed their limits, or to stay.
//!
//! Each must end with a report, in time, and leave the host unchanged.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use hookvisor::{Limits, Report, Termination};
use tempfile::TempDir;

use crate::support::alone::alone;
use crate::support::guests::{wasm_component_probe, wasm_probe};
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, Hooks, event, impatient, stderr};

/// Longer than any of these calls takes: timeout, grace period, and a slow machine.
const TOO_LONG: Duration = Duration::from_secs(20);
const SECRET: &str = "a secret of the host";

/// Files on the host: `granted` may be written, `read` may be read, and `secret` is next to them.
struct World {
    directory: TempDir,
    hooks: Hooks,
}

impl World {
    fn new() -> Self {
        let directory = TempDir::with_prefix("world-").unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["granted", "granted/below", "read"] {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("secret"), SECRET).unwrap();
        for name in ["granted/file", "read/file"] {
            fs::write(at(name), "as it was").unwrap();
        }
        symlink("file", at("granted/inside")).unwrap();
        symlink("../secret", at("granted/up")).unwrap();
        symlink(at("secret"), at("granted/absolute")).unwrap();
        symlink("..", at("granted/parent")).unwrap();
        symlink("/", at("granted/root")).unwrap();
        symlink("loop", at("granted/loop")).unwrap();
        nix::unistd::mkfifo(&at("granted/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let world = Self { directory, hooks: Hooks::new() };
        world.install(&fs::read(wasm_probe()).unwrap());
        world.settings("");
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn install(&self, module: &[u8]) {
        self.hooks.file(DRIVER, module, 0o755);
    }

    /// The two directories, and further grants.
    fn settings(&self, more: &str) {
        let dir = |name: &str, access| {
            let host = self.at(name).display().to_string();
            format!("[[dir]]\nhost = '{host}'\nguest = '/{name}'\naccess = '{access}'\n")
        };
        let settings = dir("granted", "read-write") + &dir("read", "read") + more;
        self.hooks.file("test.toml", settings, 0o644);
    }

    /// With enough time for everything that ends by itself.
    fn run(&self, steps: &str) -> Report {
        let mut limits = impatient();
        limits.timeout = Duration::from_secs(10);
        self.run_within(limits, steps)
    }

    fn run_within(&self, limits: Limits, steps: &str) -> Report {
        let runtime = self.hooks.builder().limits(limits).build().unwrap();
        let began = Instant::now();
        let report = runtime.run(&event(steps, "start"));
        assert!(began.elapsed() < TOO_LONG, "{steps}: {:?}", began.elapsed());
        assert!(!stderr(&report).contains(SECRET), "{steps}: {report}");
        report
    }

    fn files(&self) -> Vec<(PathBuf, String)> {
        let files = ["secret", "granted/file", "read/file"]
            .map(|name| (self.at(name), fs::read_to_string(self.at(name)).unwrap()));
        files.into()
    }
}

#[test]
fn nothing_outside_a_grant_is_accessible() {
    let world = World::new();
    let before = world.files();
    let outside = [
        "/etc/passwd",
        "/granted/../secret",
        "/granted/below/../../secret",
        "/granted/up",
        "/granted/absolute",
        "/granted/parent/secret",
        "/granted/root/etc/passwd",
        "/granted/loop",
        "/granted//../secret",
        "/granted/./../secret",
        "/proc/self/environ",
        "/proc/1/root/etc/passwd",
        "/dev/mem",
        "/read/../granted/../secret",
    ];
    for path in outside {
        assert_eq!(world.run(&format!("open={path}")).exit_status(), 4, "{path}");
        assert_ne!(world.run(&format!("write={path}:changed")).exit_status(), 0, "{path}");
    }
    // The same names with other operations: no file can be created, moved, linked or removed across the border.
    for steps in [
        "rename=/granted/file:/granted/../stolen",
        "rename=/granted/file:/read/stolen",
        "rename=/read/file:/granted/stolen",
        "rename=/granted/../secret:/granted/stolen",
        "hard-link=/granted/../secret:/granted/stolen",
        "hard-link=/read/file:/granted/stolen",
        "hard-link=/granted/file:/granted/../stolen",
        "make-directory=/granted/../stolen",
        "remove=/granted/../secret",
        "remove=/granted/parent/secret",
        "list=/granted/..",
        "list=/granted/parent",
        "list=/granted/root",
        "list=/",
    ] {
        assert_eq!(world.run(steps).exit_status(), 5, "{steps}");
    }
    // A hard link to a symbolic link does not help.
    world.run("hard-link=/granted/absolute:/granted/again;show=/granted/again");
    assert_eq!(world.files(), before);
    assert!(!world.at("stolen").exists());
    // Files inside are accessible, also through a link.
    assert_eq!(stderr(&world.run("show=/granted/inside;exit=1")), "as it was");
}

#[test]
fn a_read_grant_is_no_write_grant() {
    let world = World::new();
    let before = world.files();
    for steps in [
        "write=/read/file:changed",
        "write=/read/new:made",
        "make-directory=/read/new",
        "remove=/read/file",
        "rename=/read/file:/read/other",
        "hard-link=/read/file:/read/other",
    ] {
        assert_eq!(world.run(steps).exit_status(), 5, "{steps}");
    }
    assert_eq!(world.files(), before);
    assert_eq!(fs::read_dir(world.at("read")).unwrap().count(), 1);
}

#[test]
fn a_link_that_is_swapped_during_the_call_leads_nowhere() {
    let world = World::new();
    let runtime = world.hooks.builder().build().unwrap();
    let (path, swap) = (world.at("granted/swapped"), world.at("granted/swap"));
    fs::write(&path, "inside").unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Alternates between a file and a link to the secret, as fast as possible.
            for turn in 0.. {
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let _ = fs::remove_file(&swap);
                if turn % 2 == 0 {
                    symlink("../secret", &swap).unwrap()
                } else {
                    fs::write(&swap, "inside").unwrap()
                }
                fs::rename(&swap, &path).unwrap();
            }
        });
        for _ in 0..20 {
            let report = runtime.run(&event(&"show=/granted/swapped;".repeat(50), "start"));
            assert!(!stderr(&report).contains(SECRET), "{report}");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn there_is_no_network_without_a_grant() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    let connect = |to: &TcpListener| format!("connect={}", to.local_addr().unwrap());
    assert_eq!(world.run(&connect(&listener)).exit_status(), 6, "a module has no sockets");

    world.install(&fs::read(wasm_component_probe()).unwrap());
    assert_ne!(world.run(&connect(&listener)).exit_status(), 0);
    assert!(listener.accept().is_err());
    // With a grant, only that address works.
    world.settings(&format!("[[connect]]\nto = '{}'\n", listener.local_addr().unwrap()));
    assert_eq!(world.run(&connect(&listener)).exit_status(), 0);
    assert!(listener.accept().is_ok());
    assert_ne!(world.run(&connect(&other)).exit_status(), 0);
    assert!(other.accept().is_err());
}

/// A module in text form with an exported memory and this `_start`.
fn module(imports: &str, start: &str) -> Vec<u8> {
    let import = |function: &str| {
        let (name, signature) = function.trim().split_once(' ').unwrap();
        let (module, name) = name.split_once('.').unwrap_or(("wasi_snapshot_preview1", name));
        format!("(import \"{module}\" \"{name}\" (func ${name} {signature}))\n")
    };
    let imports: String = imports.lines().filter(|line| !line.trim().is_empty()).map(import).collect();
    let text = format!(
        "(module {imports} (memory (export \"memory\") 1) (data (i32.const 1024) \"0123456789abcdef\") \
         (func (export \"_start\") {start}))"
    );
    wat::parse_str(&text).unwrap_or_else(|error| unreachable!("{error}\n{text}"))
}

const EXIT: &str = "proc_exit (param i32)";
const COMMAND: &str = "hookvisor.command_run (param i32 i32 i32) (result i32)";
const RESPONSE: &str = "hookvisor.command_response (param i32 i32) (result i32)";
const UNIX: &str = "hookvisor.unix_connect (param i32 i32 i32) (result i32)";
const UNIX_READ: &str = "hookvisor.unix_read (param i32 i32 i32 i32) (result i32)";
const LOG: &str = "hookvisor.log (param i32 i32 i32)";

enum End {
    /// Exits with this status.
    Exit(u8),
    TimedOut,
    /// Ends with a trap that contains this text.
    Trap(&'static str),
    /// Is refused before it runs, with this reason.
    Refused(&'static str),
    /// Fails in any orderly way.
    Somehow,
}

/// Name, module, and expected end.
fn attackers() -> Vec<(&'static str, Vec<u8>, End)> {
    let call = |imports: &str, start: &str| module(&format!("{EXIT}\n{imports}"), start);
    // Exits with the function's result, so 0 would be a successful attack.
    let returned = |imports: &str, start: &str| call(imports, &format!("{start} call $proc_exit"));
    let text = |text: &str| wat::parse_str(text).unwrap_or_else(|error| unreachable!("{error}"));
    vec![
        ("inherited descriptors", call("fd_fdstat_get (param i32 i32) (result i32)", "(local $fd i32)
            ;; After three streams, two granted directories and the empty one.
            (local.set $fd (i32.const 6))
            (loop $next
              (if (i32.eqz (call $fd_fdstat_get (local.get $fd) (i32.const 0))) (then (call $proc_exit (i32.const 0))))
              (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $fd) (i32.const 300))))
            (call $proc_exit (i32.const 9))"), End::Exit(9)),
        ("endless loop", call("", "(loop $again (br $again))"), End::TimedOut),
        ("endless host calls", call("sched_yield (result i32)", "(loop $again (drop (call $sched_yield)) (br $again))"), End::TimedOut),
        ("endless recursion", text("(module (func $f (export \"_start\") call $f))"), End::Trap("call stack exhausted")),
        ("memory without end", call("", "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (call $proc_exit (i32.const 9))"), End::Exit(9)),
        ("all memory at once", returned("", "(memory.grow (i32.const 65535)) (i32.const 0) (i32.lt_s)"), End::Exit(1)),
        ("tables without end", text("(module (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
            (table $t 1 funcref) (memory (export \"memory\") 1)
            (func (export \"_start\") (loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) (call $exit (i32.const 9))))"), End::Exit(9)),
        ("a large table from the start", text("(module (table 200000 funcref) (func (export \"_start\")))"), End::Refused("its table has 200000 elements, but the limit is")),
        ("a large memory from the start", text("(module (memory 2000) (func (export \"_start\")))"), End::Refused("raise `memory` in its settings")),
        ("two memories over the limit together", text("(module (memory 600) (memory 600) (func (export \"_start\")))"), End::Refused("its memories together need more than its limit at the start, 64.0 MiB: raise `memory`")),
        ("memories of two instances", text("(component (core module $m (memory 600)) (core instance (instantiate $m)) (core instance (instantiate $m))
            (core module $r (func (export \"run\") (result i32) i32.const 0)) (core instance $i (instantiate $r))
            (func $run (result (result)) (canon lift (core func $i \"run\"))) (instance $e (export \"run\" (func $run)))
            (export \"wasi:cli/run@0.2.0\" (instance $e)))"), End::Refused("its memories together need more than its limit")),
        ("many memories", text(&format!("(module {} (func (export \"_start\")))", "(memory 20)".repeat(90))), End::Refused("memories")),
        ("a start function that loops", text("(module (func $s (loop $a (br $a))) (start $s) (func (export \"_start\")))"), End::TimedOut),
        ("a start function that traps", text("(module (func $s unreachable) (start $s) (func (export \"_start\")))"), End::Trap("unreachable")),
        ("a wild pointer", call("fd_write (param i32 i32 i32 i32) (result i32)", "(drop (call $fd_write (i32.const 2) (i32.const -16) (i32.const 1) (i32.const 0))) unreachable"), End::Trap("")),
        ("a wild length", call("random_get (param i32 i32) (result i32)", "(drop (call $random_get (i32.const 8) (i32.const -1))) unreachable"), End::Trap("")),
        ("a million vectors", returned("fd_write (param i32 i32 i32 i32) (result i32)", "(call $fd_write (i32.const 2) (i32.const 0) (i32.const 1000000) (i32.const 0))"), End::Somehow),
        ("a sleep of years", call("poll_oneoff (param i32 i32 i32 i32) (result i32)", "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const -1)) (drop (call $poll_oneoff (i32.const 0) (i32.const 200) (i32.const 1) (i32.const 400)))"), End::TimedOut),
        ("polls without number", returned("poll_oneoff (param i32 i32 i32 i32) (result i32)", "(call $poll_oneoff (i32.const 0) (i32.const 200) (i32.const -1) (i32.const 400))"), End::Somehow),
        ("an absolute link", returned("path_symlink (param i32 i32 i32 i32 i32) (result i32)", "(i32.store (i32.const 0) (i32.const 0x6374652f)) (call $path_symlink (i32.const 0) (i32.const 4) (i32.const 3) (i32.const 1024) (i32.const 2))"), End::Somehow),
        ("a path as long as memory", returned("path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)", "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0))"), End::Somehow),
        ("a path with a NUL", returned("path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)", "(call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 0) (i64.const 0) (i64.const 0) (i32.const 0) (i32.const 0))"), End::Somehow),
        ("standard streams closed and used", returned("fd_close (param i32) (result i32)\nfd_write (param i32 i32 i32 i32) (result i32)", "(drop (call $fd_close (i32.const 2))) (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64))"), End::Somehow),
        ("a raised signal", returned("proc_raise (param i32) (result i32)", "(call $proc_raise (i32.const 9))"), End::Somehow),
        ("an unknown clock", returned("clock_time_get (param i32 i64 i32) (result i32)", "(call $clock_time_get (i32.const 77) (i64.const 0) (i32.const 0))"), End::Somehow),
        ("division by zero", call("", "(drop (i32.div_u (i32.const 1) (i32.const 0)))"), End::Trap("integer divide by zero")),
        ("a command request of nothing", returned(COMMAND, "(call $command_run (i32.const 0) (i32.const 0) (i32.const 0))"), End::Trap("a malformed command request")),
        ("a command request that lies", returned(COMMAND, "(i32.store (i32.const 4) (i32.const -1)) (call $command_run (i32.const 0) (i32.const 12) (i32.const 0))"), End::Trap("a malformed command request")),
        ("a command request outside of memory", returned(COMMAND, "(call $command_run (i32.const 65000) (i32.const 65000) (i32.const 0))"), End::Trap("outside the guest's memory")),
        ("a command that is not listed", returned(COMMAND, "(i32.store (i32.const 0) (i32.const 4)) (i32.store (i32.const 4) (i32.const 0x6873202f)) (call $command_run (i32.const 0) (i32.const 16) (i32.const 64))"), End::Exit(1)),
        ("an answer to a place outside of memory", returned(COMMAND, "(call $command_run (i32.const 2048) (i32.const 12) (i32.const 65535))"), End::Trap("out of bounds")),
        ("a response that is not there", returned(RESPONSE, "(call $command_response (i32.const 0) (i32.const 100))"), End::Exit(1)),
        ("a log message outside of memory", call(LOG, "(call $log (i32.const 1) (i32.const -1) (i32.const 100)) unreachable"), End::Trap("outside the guest's memory")),
        ("a log message of no text", call(LOG, "(i32.store (i32.const 0) (i32.const -1)) (call $log (i32.const 99) (i32.const 0) (i32.const 4)) (call $proc_exit (i32.const 9))"), End::Exit(9)),
        ("messages without end", call(LOG, "(loop $again (call $log (i32.const 5) (i32.const 0) (i32.const 4)) (br $again))"), End::TimedOut),
        ("a status without end", call("", "(call $proc_exit (i32.const -1))"), End::Exit(255)),
        ("a truncated module", module("", "")[..40].to_vec(), End::Refused("it is not a valid WebAssembly module")),
        ("a module of nothing but its header", b"\0asm\x01\0\0\0".to_vec(), End::Refused("it exports no function `_start`")),
        ("a start with parameters", text("(module (func (export \"_start\") (param i32)))"), End::Refused("it exports no function `_start`")),
        ("a name that is no UTF-8", b"\0asm\x01\0\0\0\x07\x06\x01\x02\xff\xfe\0\0".to_vec(), End::Refused("it is not a valid WebAssembly module")),
        ("deep nesting", text(&format!("(module (func (export \"_start\") {}{} unreachable))", "(block ".repeat(5000), ")".repeat(5000))), End::Trap("unreachable")),
        ("many functions", text(&format!("(module {} (func (export \"_start\") unreachable))", "(func)".repeat(100_000))), End::Trap("unreachable")),
        ("shared memory", text("(module (memory 1 1 shared) (func (export \"_start\")))"), End::Refused("threads")),
        ("a component of nine hundred instances", text(&format!("(component (core module $m) {} (instance $i) (export \"wasi:cli/run@0.2.0\" (instance $i)))", "(core instance (instantiate $m))".repeat(900))), End::Refused("900 core module instances")),
    ]
}

/// The same, with Unix sockets.
fn attackers_with_sockets() -> Vec<(&'static str, Vec<u8>, End)> {
    let call = |imports: &str, start: &str| module(&format!("{EXIT}\n{imports}"), start);
    let returned = |imports: &str, start: &str| call(imports, &format!("{start} call $proc_exit"));
    vec![
        ("a socket that is not granted", returned(UNIX, "(i32.store (i32.const 0) (i32.const 0x6873202f)) (call $unix_connect (i32.const 0) (i32.const 4) (i32.const 64))"), End::Exit(76)),
        ("a socket's path of nothing", returned(UNIX, "(call $unix_connect (i32.const 0) (i32.const 0) (i32.const 64))"), End::Exit(5)),
        ("a socket's path with a NUL", returned(UNIX, "(i32.store (i32.const 0) (i32.const 0x2f)) (call $unix_connect (i32.const 0) (i32.const 4) (i32.const 64))"), End::Exit(28)),
        ("a socket's path as long as memory", returned(UNIX, "(call $unix_connect (i32.const 0) (i32.const -1) (i32.const 64))"), End::Exit(37)),
        ("a socket's path outside of memory", returned(UNIX, "(call $unix_connect (i32.const 65530) (i32.const 100) (i32.const 64))"), End::Trap("outside the guest's memory")),
        ("a connection that is another resource, or none", call(UNIX_READ, "(local $c i32)
            (loop $next
              (if (i32.ne (call $unix_read (local.get $c) (i32.const 0) (i32.const 100) (i32.const 200)) (i32.const 8)) (then unreachable))
              (local.set $c (i32.add (local.get $c) (i32.const 1)))
              (br_if $next (i32.lt_u (local.get $c) (i32.const 300))))
            (call $proc_exit (i32.const 9))"), End::Exit(9)),
        ("a read to a place outside of memory", returned(UNIX_READ, "(call $unix_read (i32.const 0) (i32.const 65000) (i32.const 1000) (i32.const 0))"), End::Trap("outside the guest's memory")),
    ]
}

#[test]
fn every_attack_ends_in_a_report_with_the_host_as_it_was() {
    alone("hostile::every_attack_ends_in_a_report_with_the_host_as_it_was", || {
        let world = World::new();
        let before = Leftovers::before();
        let files = world.files();
        let attackers = attackers();
        assert!(attackers.len() >= 40, "{}", attackers.len());
        for (name, module, end) in attackers_with_sockets().into_iter().chain(attackers) {
            world.install(&module);
            let report = world.run_within(impatient(), "-");
            let hook = &report.hooks[0];
            let said = report.to_string();
            match end {
                End::Exit(status) => assert_eq!(hook.termination, Termination::Exited(status), "{name}: {said}"),
                End::TimedOut => assert_eq!(report.exit_status(), 124, "{name}: {said}"),
                End::Trap(what) => {
                    assert!(
                        matches!(&hook.termination, Termination::Trapped(why) if why.contains(what)),
                        "{name}: {said}"
                    );
                }
                End::Refused(what) => {
                    assert_eq!(report.exit_status(), 126, "{name}: {said}");
                    assert!(said.contains(what), "{name}: {said}");
                }
                End::Somehow => assert_ne!(report.exit_status(), 0, "{name}: {said}"),
            }
            // The report entry, and for a refused command the note with three lines of TOML.
            assert!(said.lines().count() <= 5, "{name}: {said}");
            Leftovers::assert_none_since(&before, name);
        }
        assert_eq!(world.files(), files);
    });
}

#[test]
fn a_guest_cannot_exhaust_the_host_s_descriptors() {
    alone("hostile::a_guest_cannot_exhaust_the_host_s_descriptors", || {
        let world = World::new();
        let before = Leftovers::before();
        let report = world.run("hoard=/granted/file");
        assert_ne!(report.exit_status(), 0, "{report}");
        assert!(File::open("/dev/null").is_ok());
        Leftovers::assert_none_since(&before, "a hoard of descriptors");
    });
}

#[test]
fn special_files_are_not_opened_and_never_block() {
    alone("hostile::special_files_are_not_opened_and_never_block", || {
        let world = World::new();
        symlink("fifo", world.at("granted/link-to-fifo")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(world.at("granted/socket")).unwrap();
        let component = fs::read(wasm_component_probe()).unwrap();
        // Before any call: a thread that opened a file for one may take a moment to end.
        let before = Leftovers::before();
        for module in [fs::read(wasm_probe()).unwrap(), component] {
            world.install(&module);
            for name in ["fifo", "link-to-fifo", "below/../fifo", "socket"] {
                let report = world.run(&format!("open=/granted/{name}"));
                assert!(matches!(report.hooks[0].termination, Termination::Exited(4 | 1)), "{name}: {report}");
                let note = format!("it could not open {name:?}: a hook can open only files and directories");
                assert_eq!(report.hooks[0].notes, [note]);
                let report = world.run(&format!("write=/granted/{name}:x"));
                assert!(matches!(report.hooks[0].termination, Termination::Exited(5 | 1)), "{name}: {report}");
                // A waiting thread would remain even without its runtime.
                Leftovers::assert_none_since(&before, name);
            }
            // It is visible, and the other files work as usual.
            assert_eq!(stderr(&world.run("list=/granted/below;show=/granted/inside;exit=1")), "\nas it was");
            assert_eq!(world.run("open=/granted/below").exit_status(), 0);
        }
        world.install(&module(
            &format!("{EXIT}\npath_filestat_set_times (param i32 i32 i32 i32 i64 i64 i32) (result i32)"),
            "(i32.store (i32.const 0) (i32.const 0x6f666966))
             (call $path_filestat_set_times
                (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 4) (i64.const 0) (i64.const 0) (i32.const 5))
             call $proc_exit",
        ));
        assert_eq!(world.run("-").exit_status(), 63, "to set times opens it too");
        assert_eq!(stderr(&world.run("-")), "");
    });
}

#[test]
fn a_module_past_the_size_limit_is_refused_unread() {
    let world = World::new();
    let mut limits: Limits = impatient();
    limits.module_size = 1000;
    let runtime = world.hooks.builder().limits(limits).build().unwrap();
    let report = runtime.run(&event("exit=0", "start"));
    assert!(report.to_string().contains(", but the limit for a module is 1000 B"), "{report}");
}
