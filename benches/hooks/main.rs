//! Measures the cost of a hook, and what it is compared with, in one run.
//!
//! `cargo bench --bench hooks -- [--quick] [PART OF A CASE'S NAME]`; see `benches/README.md` for how to read it.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark stops at its first error, and prints")]

mod chart;
mod commands;
mod confined;
mod measure;
mod table;

use std::fs::{self, File, Permissions};
use std::hint::black_box;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hookvisor::{Cache, Event, Runtime};
use tempfile::TempDir;

use crate::measure::{Case, Measured, target_directory};

/// A hook of two lines, for a shell.
const SCRIPT: &str = "echo 'guest web2 has no owner' >&2\nexit 1\n";
/// A hook that reads its document.
const READER: &str = "#!/bin/sh\nexec cat > /dev/null\n";
/// Below the build directory: where `scripts/bench-peers` installs what hookvisor is compared with.
const PEERS: &str = "bench/peers/bin";
const SIZES: [(usize, &str); 3] = [(1_000, "1 kB"), (1_000_000, "1 MB"), (50_000_000, "50 MB")];

/// Hooks directories, each with one driver.
struct Hooks {
    directory: TempDir,
    guest: Vec<u8>,
    document: Vec<u8>,
}

impl Hooks {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let document = fs::read(root.join("examples/web2.xml")).unwrap();
        Self { directory: TempDir::new().unwrap(), guest: fs::read(guest(root)).unwrap(), document }
    }

    /// A directory with these files as the hooks of `qemu`.
    fn with(&self, name: &str, files: &[Vec<u8>]) -> PathBuf {
        let hooks = self.directory.path().join(name);
        fs::create_dir_all(hooks.join("qemu.d")).unwrap();
        for (number, content) in files.iter().enumerate() {
            let path = hooks.join(format!("qemu.d/{number:02}"));
            File::create(&path).unwrap().write_all(content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        hooks
    }

    fn wasm(&self) -> PathBuf {
        self.with("wasm", std::slice::from_ref(&self.guest))
    }

    fn script(&self, shell: &str) -> PathBuf {
        self.with(shell, &[format!("#!/bin/{shell}\n{SCRIPT}").into_bytes()])
    }

    /// Ten different guests. They differ in a custom section.
    fn ten_wasm(&self) -> PathBuf {
        let guests: Vec<_> = (0..10).map(|number| [self.guest.clone(), vec![0, 2, 1, number]].concat()).collect();
        self.with("ten wasm", &guests)
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn event(&self, extra: &str) -> Event {
        event(extra, self.document.clone())
    }
}

fn event(extra: &str, document: Vec<u8>) -> Event {
    Event::new("qemu", "web2", "start").and_then(|event| event.with_extra(extra)).unwrap().with_document(document)
}

/// A guest built with the SDK (`tests/guests/sdk`). The event's extra argument selects what it does.
fn guest(root: &Path) -> PathBuf {
    let target = target_directory().join("bench/guest");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "guest", "--package", "sdk", "--target", "wasm32-wasip1"])
        .arg("--target-dir")
        .arg(&target)
        .current_dir(root)
        .env_remove("RUSTFLAGS")
        // As `hookvisor new` sets up a hook.
        .env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", "-Clink-arg=--initial-memory=1572864")
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
    // A hook may exit without reading its input.
    let _ = child.stdin.take().unwrap().write_all(document);
    black_box(child.wait_with_output().unwrap());
}

fn in_process(measured: &mut Measured, hooks: &Hooks) {
    let runtime = Runtime::open(hooks.wasm()).unwrap();
    let (veto, proceed) = (hooks.event("read"), hooks.event("status=0"));
    measured.case("wasm, veto with stderr", || drop(black_box(runtime.run(&veto))));
    measured.case("wasm, proceed", || drop(black_box(runtime.run(&proceed))));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    tokio.block_on(async { measured.case("wasm, veto, inside tokio", || drop(black_box(runtime.run(&veto)))) });
    for (size, name) in SIZES {
        let event = event("read", vec![b' '; size]);
        measured.case(&format!("wasm, {name} read"), || drop(black_box(runtime.run(&event))));
    }
}

fn native(measured: &mut Measured, hooks: &Hooks) {
    let dash = hooks.script("sh");
    let (runtime, hook, event) = (Runtime::open(&dash).unwrap(), dash.join("qemu.d/00"), hooks.event("read"));
    let cases: Vec<Case<'_>> = vec![
        ("dash by std's Command", Box::new(|| by_std(&hook, &["web2", "start", "begin", "read"], &hooks.document))),
        ("dash by hookvisor", Box::new(|| drop(black_box(runtime.run(&event))))),
    ];
    measured.in_turns(1000, cases);
    let reader = Runtime::open(hooks.with("reader", &[READER.into()])).unwrap();
    for (size, name) in SIZES {
        let event = self::event("read", vec![b' '; size]);
        let name = format!("dash, {name} read");
        measured.in_turns(50, vec![(&name, Box::new(|| drop(black_box(reader.run(&event)))))]);
    }
}

fn loading(measured: &mut Measured, hooks: &Hooks) {
    if !measured.wants(&["load ten wasm hooks, cached", "load ten wasm hooks, compile"]) {
        return;
    }
    let (ten, cache) = (hooks.ten_wasm(), hooks.cache());
    let cached = || drop(black_box(Runtime::builder(&ten).cache(Cache::open(&cache).unwrap()).build().unwrap()));
    cached();
    measured.in_turns(50, vec![("load ten wasm hooks, cached", Box::new(cached))]);
    measured.in_turns(3, vec![("load ten wasm hooks, compile", Box::new(|| drop(Runtime::open(&ten).unwrap())))]);
}

/// The same sandboxed hook in other runtimes, inside a Python host.
fn peers(measured: &mut Measured, hooks: &Hooks) {
    const NAMES: [&str; 2] = ["wasmtime by its Python package", "Extism by its Python package"];
    if !measured.wants(&NAMES) {
        return;
    }
    let (root, wasm) = (Path::new(env!("CARGO_MANIFEST_DIR")), hooks.wasm().join("qemu.d/00"));
    let installed = target_directory().join(PEERS).join("python3");
    let python = if installed.exists() { installed } else { "python3".into() };
    let mut command = Command::new(python);
    command.arg(root.join("benches/peers.py")).args([&wasm, &root.join("examples/web2.xml")]);
    let printed = command.output().map(|output| output.stdout).unwrap_or_default();
    let printed = String::from_utf8_lossy(&printed);
    for name in NAMES {
        let value = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
        match value.map(|value| value.parse().map_err(|_| value)) {
            Some(Ok(median)) => measured.other(name, median),
            Some(Err(why)) => measured.leave_out(name, why),
            None => measured.leave_out(name, "there is no python3"),
        }
    }
}

/// Prints the table. A full run also saves it with a chart next to the benchmarks, any other run below `target`.
fn report(measured: &Measured) {
    let table = table::table(measured);
    println!("\n{table}");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_whole = !measured.is_quick && measured.only.is_none();
    let directory = if is_whole { root.join("benches") } else { target_directory().join("bench") };
    fs::create_dir_all(&directory).unwrap();
    let made = "Made by `cargo bench --bench hooks`, all in one run. See README.md for how to read it.";
    fs::write(directory.join("results.md"), format!("# Results\n\n{made}\n\n{table}")).unwrap();
    fs::write(directory.join("results.svg"), chart::svg(&measured.cases)).unwrap();
    println!("written to {}", directory.display());
}

fn main() {
    let (mut measured, hooks) = (Measured::new(), Hooks::new());
    in_process(&mut measured, &hooks);
    native(&mut measured, &hooks);
    confined::measure(&mut measured, &hooks);
    loading(&mut measured, &hooks);
    commands::measure(&mut measured, &hooks);
    peers(&mut measured, &hooks);
    measured.finish();
    report(&measured);
    // The host's cases run in a separate process, which starts small.
    if !measured.is_quick && measured.only.is_none() {
        let host = Command::new(env!("CARGO")).args(["bench", "--quiet", "--bench", "host"]).status();
        assert!(host.unwrap().success(), "the cases of a host");
    }
}
