//! Measures what hooks cost a host: a large one, one that starts many guests at once, and an idle one.
//!
//! `cargo bench --bench host`; see `benches/README.md` for how to read it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark stops at its first error, and prints")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cache, Event, Runtime};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use tempfile::TempDir;

const STARTS: usize = 1000;
const CALLERS: usize = 64;
/// With this argument, this program launches hooks.
const LAUNCHES: &str = "--launches";
/// With this one, it compiles the hooks of a directory.
const COMPILE: &str = "compile";
const SCRIPT: &str = "#!/bin/sh\necho 'guest web2 has no owner' >&2\nexit 1\n";

fn install(directory: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = directory.join("qemu.d").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

fn policy() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hooks/qemu.d/20-policy.wasm")).unwrap()
}

fn document() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/web2.xml")).unwrap()
}

fn start() -> Event {
    Event::new("qemu", "web2", "start").unwrap().with_document(document())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

/// One row of the table.
fn row(case: &str, seen: &str, target: &str, met: Option<bool>) {
    let met = met.map_or("", |met| if met { "met" } else { "missed" });
    println!("| {case} | {seen} | {target} | {met} |");
}

/// The process's resident memory in KiB: the current one (`VmRSS`) or the maximum (`VmHWM`).
fn resident(which: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(which)).unwrap();
    line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
}

/// Resets the maximum that `VmHWM` reports.
fn forget_the_most_resident() {
    fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Touches this much memory, page by page of 4 KiB.
#[expect(unsafe_code, reason = "the C library has no safe way to ask for small pages")]
fn large_host(bytes: usize) {
    let mut memory: Vec<u8> = Vec::with_capacity(bytes);
    // SAFETY: the range is the vector's own allocation, which is never given back; the advice changes no content, and
    // each byte that becomes part of the vector has been written.
    unsafe {
        let at = memory.as_mut_ptr().map_addr(|at| at.next_multiple_of(4096));
        libc::madvise(at.cast(), bytes - 4096, libc::MADV_NOHUGEPAGE);
        for page in (0..bytes).step_by(4096) {
            memory.as_mut_ptr().add(page).write(1);
        }
    }
    std::mem::forget(memory);
}

/// The cost of a plain fork: `std` forks if a `pre_exec` is set.
#[expect(unsafe_code, reason = "pre_exec is unsafe")]
fn by_fork(program: &Path) {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: it does nothing.
    unsafe { command.pre_exec(|| Ok(())) };
    let child = command.spawn().unwrap();
    drop(child.wait_with_output().unwrap());
}

/// Launches once with hookvisor and once with a plain fork for each input line, and answers with the durations.
fn launches() {
    let directory = TempDir::new().unwrap();
    install(directory.path(), "10-dash", SCRIPT);
    let runtime = Runtime::open(directory.path()).unwrap();
    let (event, hook) = (start(), directory.path().join("qemu.d/10-dash"));
    let bytes: usize = std::env::args().nth(2).and_then(|bytes| bytes.parse().ok()).unwrap();
    if bytes > 0 {
        large_host(bytes);
    }
    for line in std::io::stdin().lines() {
        let ours = timed(|| drop(runtime.run(&event)));
        let fork = if line.unwrap() == "both" { timed(|| by_fork(&hook)) } else { Duration::ZERO };
        println!("{} {}", ours.as_nanos(), fork.as_nanos());
    }
}

/// A separate process that launches on demand.
struct Host(Child, BufReader<std::process::ChildStdout>);

impl Host {
    fn of(bytes: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([LAUNCHES, &bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self(child, answers)
    }

    fn launch(&mut self, what: &str) -> [Duration; 2] {
        writeln!(self.0.stdin.as_ref().unwrap(), "{what}").unwrap();
        let mut answer = String::new();
        self.1.read_line(&mut answer).unwrap();
        let times: Vec<u64> = answer.split_whitespace().map(|time| time.parse().unwrap()).collect();
        [times[0], times[1]].map(Duration::from_nanos)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

/// Alternate, so that a disturbance affects both.
fn large() {
    let (mut small, mut large) = (Host::of(0), Host::of(4 << 30));
    let mut times = [(); 4].map(|()| Vec::new());
    for turn in 0..500 {
        // A plain fork of the large process is slow.
        let what = if turn % 10 == 0 { "both" } else { "ours" };
        let [ours, fork] = small.launch(what);
        let [ours_large, fork_large] = large.launch(what);
        times[0].push(ours);
        times[1].push(ours_large);
        if what == "both" {
            times[2].push(fork);
            times[3].push(fork_large);
        }
    }
    let [small, large, small_fork, large_fork] = times.map(median);
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let [ours, fork] = [ratio(large, small), ratio(large_fork, small_fork)];
    row(
        "native hook from a host of 4 GiB, against a small one",
        &format!("{large:.2?} / {small:.2?} = {ours:.3}"),
        "1.1 or less",
        Some(ours <= 1.1),
    );
    row("the same by a plain fork", &format!("{large_fork:.2?} / {small_fork:.2?} = {fork:.1}"), "", None);
}

/// `STARTS` events from `CALLERS` threads: the duration of each, and the total.
fn from_many(runtime: &Runtime, event: &Event) -> (Vec<Duration>, Duration) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let caller = || {
        let mut mine = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < STARTS {
            mine.push(timed(|| assert_eq!(runtime.run(event).exit_status(), 1)));
        }
        mine
    };
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let took = began.elapsed();
    times.sort();
    (times, took)
}

fn storm() {
    let directory = TempDir::new().unwrap();
    install(directory.path(), "20-policy.wasm", policy());
    let (event, runtime) = (start(), Runtime::open(directory.path()).unwrap());
    drop(runtime.run(&event));
    let before = resident("VmRSS");
    forget_the_most_resident();
    from_many(&runtime, &event);
    let each = resident("VmHWM").saturating_sub(before) / CALLERS;
    row(
        &format!("{CALLERS} callers of a wasm hook, with their threads"),
        &format!("{each} KiB resident each"),
        "1 MiB or less",
        Some(each <= 1024),
    );

    install(directory.path(), "10-dash", "#!/bin/sh\nexit 0\n");
    runtime.reload().unwrap();
    let (times, took) = from_many(&runtime, &event);
    let per_second = 2.0 * STARTS as f64 / took.as_secs_f64();
    let [p50, p99] = [50, 99].map(|percent| times[times.len() * percent / 100]);
    let seen = format!("{per_second:.0} hooks/s; a start: p50 {p50:.2?}, p99 {p99:.2?}");
    row(&format!("storm: {STARTS} starts of a dash and a wasm hook, {CALLERS} callers"), &seen, "", None);
}

/// The CPU time of this process.
fn computed() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000);
    time(usage.user_time()) + time(usage.system_time())
}

/// How often the process's other threads were woken.
fn woken() -> u64 {
    let own = std::process::id().to_string();
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let count = |line: &str| line.split_whitespace().last()?.parse::<u64>().ok();
    tasks
        .filter(|task| !task.ends_with(&own))
        .map(|task| fs::read_to_string(task.join("status")).unwrap())
        .flat_map(|status| status.lines().filter(|line| line.contains("ctxt")).filter_map(count).collect::<Vec<_>>())
        .sum()
}

/// A runtime for the hooks in a directory, with its cache there.
fn runtime_of(directory: &Path) -> Runtime {
    let cache = Cache::open(directory.join("cache")).unwrap();
    Runtime::builder(directory).cache(cache).build().unwrap()
}

/// Compiles the hooks of a directory. This runs in a separate process, so that the memory of compilation is not counted
/// for the loaded hooks.
fn compile(directory: &Path) {
    let before = computed();
    let took = timed(|| drop(runtime_of(directory)));
    let cores = (computed() - before).as_secs_f64() / took.as_secs_f64();
    let all = thread::available_parallelism().unwrap().get() as f64;
    let seen = format!("{took:.2?}, {cores:.2} of {all} cores busy");
    row("load ten wasm hooks, from nothing", &seen, "all cores used", Some(cores > 0.75 * all));
}

fn idle() {
    let directory = TempDir::new().unwrap();
    for number in 0..10 {
        // Ten different modules. They differ in a custom section.
        install(directory.path(), &format!("{number}.wasm"), [policy(), vec![0, 2, 1, number]].concat());
    }
    let this = std::env::current_exe().unwrap();
    assert!(Command::new(this).arg(COMPILE).arg(directory.path()).status().unwrap().success());

    let before = resident("VmRSS");
    let runtime = runtime_of(directory.path());
    let more = resident("VmRSS").saturating_sub(before);
    row("ten wasm hooks loaded", &format!("{more} KiB resident"), "15 MiB or less", Some(more <= 15 << 10));
    let before = woken();
    thread::sleep(Duration::from_secs(3));
    let woken = woken() - before;
    row("idle for 3 s", &format!("{woken} wake-ups"), "none", Some(woken == 0));
    drop(runtime);
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(LAUNCHES) {
        return launches();
    }
    if std::env::args().nth(1).as_deref() == Some(COMPILE) {
        return compile(Path::new(&std::env::args_os().nth(2).unwrap()));
    }
    println!("\n| case | seen | target | |\n|---|---|---|---|");
    idle();
    storm();
    large();
}
