//! What a hook costs: sandboxed and native, in process and as a command, side by side in one run.
//!
//! `cargo bench --bench hooks`; see `benches/README.md` for how to read it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark stops at its first error, and prints")]

use std::fs::{self, File, Permissions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::Criterion;
use hookvisor::{Cache, Event, Runtime};

/// A hook of two lines, as a shell reads it.
const SCRIPT: &str = "echo 'guest web2 has no owner' >&2\nexit 1\n";

struct Bench {
    criterion: Criterion,
    directory: tempfile::TempDir,
}

impl Bench {
    /// A hooks directory with these files as the hooks of `qemu`.
    fn hooks(&self, name: &str, files: &[Vec<u8>]) -> PathBuf {
        let hooks = self.directory.path().join(name);
        fs::create_dir_all(hooks.join("qemu.d")).unwrap();
        for (number, content) in files.iter().enumerate() {
            let path = hooks.join(format!("qemu.d/{number:02}"));
            File::create(&path).unwrap().write_all(content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        hooks
    }

    fn case(&mut self, name: &str, mut run: impl FnMut()) {
        self.criterion.bench_function(name, |bencher| bencher.iter(&mut run));
    }

    /// A case's median, in seconds, as criterion has just measured it.
    fn median(&self, name: &str) -> Option<f64> {
        let estimates = criterion_directory().join(name).join("new/estimates.json");
        let estimates: serde_json::Value = serde_json::from_str(&fs::read_to_string(estimates).ok()?).ok()?;
        Some(estimates["median"]["point_estimate"].as_f64()? / 1e9)
    }
}

/// Where criterion keeps its results.
fn criterion_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("criterion")
}

/// A guest that the SDK makes (`tests/guests/sdk`), which does what the event's extra says.
fn guest(root: &Path) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--profile",
            "guest",
            "--package",
            "sdk",
            "--target",
            "wasm32-wasip1",
            "--target-dir",
        ])
        .arg(target)
        .current_dir(root)
        .status();
    assert!(built.unwrap().success(), "scripts/wasm-targets provides the target");
    target.join("wasm32-wasip1/guest/sdk.wasm")
}

/// Runs a program with three pipes, as a daemon would without this library.
fn by_std(program: &Path, arguments: &[&str], document: &[u8]) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A hook may have left without reading.
    let _ = child.stdin.take().unwrap().write_all(document);
    black_box(child.wait_with_output().unwrap());
}

fn main() {
    let criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50)
        .without_plots()
        .configure_from_args();
    let mut bench = Bench { criterion, directory: tempfile::tempdir().unwrap() };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guest = fs::read(guest(root)).unwrap();
    let document = fs::read(root.join("examples/web2.xml")).unwrap();
    let script = |shell: &str| format!("#!{shell}\n{SCRIPT}").into_bytes();

    let wasm = bench.hooks("wasm", std::slice::from_ref(&guest));
    let dash = bench.hooks("dash", &[script("/bin/sh")]);
    let bash = bench.hooks("bash", &[script("/bin/bash")]);
    let ten_dash = bench.hooks("ten", &vec![b"#!/bin/sh\nexit 0\n".to_vec(); 10]);
    let event = |extra, document: &[u8]| {
        let event = Event::new("qemu", "web2", "start").and_then(|event| event.with_extra(extra)).unwrap();
        event.with_document(document.to_vec())
    };
    let (start, other) = (event("read", &document), event("status=0", &document));

    let runtime = Runtime::open(&wasm).unwrap();
    bench.case("wasm, veto with stderr", || drop(black_box(runtime.run(&start))));
    bench.case("wasm, proceed", || drop(black_box(runtime.run(&other))));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    tokio.block_on(async { bench.case("wasm, veto, inside tokio", || drop(black_box(runtime.run(&start)))) });
    for (size, name) in [(1_000, "wasm, 1 kB read"), (1_000_000, "wasm, 1 MB read"), (50_000_000, "wasm, 50 MB read")] {
        let event = event("read", &vec![b' '; size]);
        bench.case(name, || drop(black_box(runtime.run(&event))));
    }
    let native = Runtime::open(&dash).unwrap();
    let dash_hook = dash.join("qemu.d/00");
    let arguments = ["web2", "start", "begin", "-"];
    bench.case("dash by std's Command", || by_std(&dash_hook, &arguments, &document));
    bench.case("dash by hookvisor", || drop(black_box(native.run(&start))));

    let cache = bench.directory.path().join("cache");
    bench.case("load a wasm hook, cached", || {
        drop(black_box(Runtime::builder(&wasm).cache(Cache::open(&cache).unwrap()).build().unwrap()));
    });
    bench.case("load a wasm hook, compile", || drop(black_box(Runtime::open(&wasm).unwrap())));

    let hookvisor = Path::new(env!("CARGO_BIN_EXE_hookvisor"));
    let cache = cache.to_str().unwrap().to_owned();
    let command = |hooks: &Path| {
        let hooks = hooks.to_str().unwrap().to_owned();
        let cache = cache.clone();
        let document = document.clone();
        move || {
            let line = ["run", "--hooks", &hooks, "--cache", &cache, "qemu", "web2", "start", "begin", "read"];
            by_std(hookvisor, &line, &document);
        }
    };
    bench.case("command, /bin/true", || by_std(Path::new("/bin/true"), &[], b""));
    let bash_hook = bash.join("qemu.d/00");
    bench.case("command, bash hook by itself", || by_std(&bash_hook, &arguments, &document));
    bench.case("command, hookvisor run, wasm", command(&wasm));
    bench.case("command, hookvisor run, dash", command(&dash));
    bench.case("command, hookvisor run, ten dash", command(&ten_dash));
    let ten = ten_dash.join("qemu.d").display().to_string();
    bench.case("command, run-parts, ten dash", || by_std(Path::new("/bin/run-parts"), &[&ten], b""));

    table(&bench);
    bench.criterion.final_summary();
}

/// Case, and the case that it is measured against.
const AGAINST: [(&str, &str); 13] = [
    ("wasm, veto with stderr", "dash by std's Command"),
    ("wasm, proceed", "dash by std's Command"),
    ("wasm, veto, inside tokio", "wasm, veto with stderr"),
    ("wasm, 1 kB read", "wasm, proceed"),
    ("wasm, 1 MB read", "wasm, 1 kB read"),
    ("wasm, 50 MB read", "wasm, 1 MB read"),
    ("dash by hookvisor", "dash by std's Command"),
    ("load a wasm hook, cached", "load a wasm hook, compile"),
    ("command, bash hook by itself", "command, /bin/true"),
    ("command, hookvisor run, wasm", "command, bash hook by itself"),
    ("command, hookvisor run, wasm", "command, /bin/true"),
    ("command, hookvisor run, dash", "dash by std's Command"),
    ("command, hookvisor run, ten dash", "command, run-parts, ten dash"),
];

fn table(bench: &Bench) {
    println!("\n{:<34} {:>12}   {:<34} {:>12} {:>8}", "case", "median", "against", "median", "ratio");
    for (case, against) in AGAINST {
        if let (Some(time), Some(base)) = (bench.median(case), bench.median(against)) {
            println!("{case:<34} {:>9.1} µs   {against:<34} {:>9.1} µs {:>8.3}", time * 1e6, base * 1e6, time / base);
        }
    }
}
