//! What hooks cost a host: one that is large, one that starts many guests at once, one that is idle.
//!
//! `cargo bench --bench host`; see `benches/README.md` for how to read it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark stops at its first error, and prints")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::{Cache, Event, Runtime};
use tempfile::TempDir;

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

fn times(count: usize, mut call: impl FnMut()) -> Vec<Duration> {
    (0..count)
        .map(|_| {
            let began = Instant::now();
            call();
            began.elapsed()
        })
        .collect()
}

/// The process's resident memory, in KiB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Touches this much memory, in pages of 4 KiB each.
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

/// The price of a plain fork, beside: `std` forks as soon as a `pre_exec` is asked for.
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

fn large() {
    let directory = TempDir::new().unwrap();
    install(directory.path(), "10-dash", SCRIPT);
    let runtime = Runtime::open(directory.path()).unwrap();
    let event = start();
    let hook = directory.path().join("qemu.d/10-dash");
    let both = || {
        let ours = median(times(300, || drop(runtime.run(&event))));
        let fork = median(times(300, || by_fork(&hook)));
        (ours, fork)
    };
    let (small, small_fork) = both();
    large_host(4 << 30);
    let (large, large_fork) = both();
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!(
        "native hook from a host of 4 GiB:   {large:?}, from a small one {small:?}: ratio {:.3}",
        ratio(large, small)
    );
    println!(
        "the same by a plain fork:           {large_fork:?}, {small_fork:?}: ratio {:.3}",
        ratio(large_fork, small_fork)
    );
}

fn storm() {
    const STARTS: usize = 1000;
    const CALLERS: usize = 64;
    let directory = TempDir::new().unwrap();
    install(directory.path(), "10-dash", "#!/bin/sh\nexit 0\n");
    install(directory.path(), "20-policy.wasm", policy());
    let runtime = Runtime::open(directory.path()).unwrap();
    let event = start();
    drop(runtime.run(&event));
    let (next, before) = (AtomicUsize::new(0), resident());
    let began = Instant::now();
    let mut latencies: Vec<Duration> = thread::scope(|scope| {
        let caller = || {
            let mut mine = Vec::new();
            while next.fetch_add(1, Ordering::Relaxed) < STARTS {
                let began = Instant::now();
                assert_eq!(runtime.run(&event).exit_status(), 1);
                mine.push(began.elapsed());
            }
            mine
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    });
    let took = began.elapsed();
    latencies.sort();
    let per_second = 2.0 * STARTS as f64 / took.as_secs_f64();
    let [p50, p99] = [50, 99].map(|percent| latencies[latencies.len() * percent / 100]);
    let grown = (resident().saturating_sub(before)) / CALLERS;
    println!(
        "storm of {STARTS} starts, {CALLERS} callers:    {per_second:.0} hooks/s, p50 {p50:?}, p99 {p99:?}, {grown} KiB resident a caller"
    );
}

fn idle() {
    let directory = TempDir::new().unwrap();
    for number in 0..10 {
        // Ten different modules: a custom section tells them apart.
        let section = [0, 2, 1, number];
        install(directory.path(), &format!("{number}.wasm"), [policy(), section.to_vec()].concat());
    }
    let cache = Cache::open(directory.path().join("cache")).unwrap();
    let build = || Runtime::builder(directory.path()).cache(cache.clone()).build().unwrap();
    drop(build());
    let before = resident();
    let began = Instant::now();
    let runtime = build();
    println!(
        "ten wasm hooks from a warm cache:   loaded in {:?}, {} KiB resident",
        began.elapsed(),
        resident() - before
    );
    let woken = || -> u64 {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let own = format!("{}", std::process::id());
        let switches =
            tasks.filter(|task| !task.ends_with(&own)).map(|task| fs::read_to_string(task.join("status")).unwrap());
        switches
            .flat_map(|s| {
                s.lines()
                    .filter(|l| l.contains("ctxt"))
                    .filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok())
                    .collect::<Vec<_>>()
            })
            .sum()
    };
    let before = woken();
    thread::sleep(Duration::from_secs(3));
    println!("idle for 3 s:                       {} wake-ups", woken() - before);
    drop(runtime);
}

fn main() {
    idle();
    storm();
    large();
}
