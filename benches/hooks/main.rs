//! What a hook costs, each case beside what it is measured against, in one run.
//!
//! `cargo bench --bench hooks`; see `benches/README.md` for how to read it.

#![expect(clippy::unwrap_used, reason = "a benchmark stops at its first error")]

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

/// A hook of two lines, as a shell reads it.
const SCRIPT: &str = "echo 'guest web2 has no owner' >&2\nexit 1\n";
/// One that reads its document.
const READER: &str = "#!/bin/sh\nexec cat > /dev/null\n";
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

    /// Ten guests: a custom section tells them apart.
    fn ten_wasm(&self) -> PathBuf {
        let guests: Vec<_> = (0..10).map(|number| [self.guest.clone(), vec![0, 2, 1, number]].concat()).collect();
        self.with("ten wasm", &guests)
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

/// A guest that the SDK makes (`tests/guests/sdk`), which does what the event's extra says.
fn guest(root: &Path) -> PathBuf {
    let target = target_directory();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--profile", "guest", "--package", "sdk", "--target", "wasm32-wasip1"])
        .arg("--target-dir")
        .arg(&target)
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
    measured.in_turns(
        1000,
        vec![
            ("dash by std's Command", Box::new(|| by_std(&hook, &["web2", "start", "begin", "read"], &hooks.document))),
            ("dash by hookvisor", Box::new(|| drop(black_box(runtime.run(&event))))),
        ],
    );
    let reader = Runtime::open(hooks.with("reader", &[READER.into()])).unwrap();
    for (size, name) in SIZES {
        let event = event_of(size);
        let name = format!("dash, {name} read");
        measured.in_turns(50, vec![(&name, Box::new(|| drop(black_box(reader.run(&event)))))]);
    }
}

fn event_of(size: usize) -> Event {
    event("read", vec![b' '; size])
}

fn loading(measured: &mut Measured, hooks: &Hooks) {
    let (ten, cache) = (hooks.ten_wasm(), hooks.cache());
    let cached = || drop(black_box(Runtime::builder(&ten).cache(Cache::open(&cache).unwrap()).build().unwrap()));
    cached();
    measured.in_turns(50, vec![("load ten wasm hooks, cached", Box::new(cached))]);
    measured.in_turns(3, vec![("load ten wasm hooks, compile", Box::new(|| drop(Runtime::open(&ten).unwrap())))]);
}

/// The command line, as its own process each time.
fn commands(measured: &mut Measured, hooks: &Hooks) {
    let (wasm, dash, bash) = (hooks.wasm(), hooks.script("sh"), hooks.script("bash"));
    let ten = hooks.with("ten", &vec![b"#!/bin/sh\nexit 0\n".to_vec(); 10]);
    let cache = hooks.cache();
    let programs = [
        ("hookvisor", PathBuf::from(env!("CARGO_BIN_EXE_hookvisor"))),
        ("static hookvisor", target_directory().join("x86_64-unknown-linux-musl/release/hookvisor")),
    ];
    let runs: Vec<_> = programs
        .iter()
        .filter(|(_, program)| program.exists())
        .flat_map(|(name, program)| {
            [("wasm", &wasm), ("dash", &dash), ("dash, recorded", &dash), ("ten dash", &ten)]
                .map(|(what, hooks)| (format!("{name} run, {what}"), program, hooks, what.ends_with("recorded")))
        })
        .collect();
    let record = hooks.directory.path().join("record/history.jsonl").display().to_string();
    let run = |program: &Path, directory: &Path, recorded: bool| {
        let [directory, cache] = [directory, &cache].map(|path| path.to_str().unwrap());
        let line = ["run", "--hooks", directory, "--cache", cache, "qemu", "web2", "start", "begin", "read"];
        let recording = ["run", "--record", &record].iter().chain(&line[1..]).copied().collect::<Vec<_>>();
        by_std(program, if recorded { &recording } else { &line }, &hooks.document);
    };
    let arguments = ["web2", "start", "begin", "read"];
    let script = |hooks: &Path| hooks.join("qemu.d/00");
    let (bash, dash_by_itself, ten) = (script(&bash), script(&dash), ten.join("qemu.d").display().to_string());
    let mut cases: Vec<Case<'_>> = vec![
        ("/bin/true", Box::new(|| by_std(Path::new("/bin/true"), &[], b""))),
        ("the hook in bash, by itself", Box::new(|| by_std(&bash, &arguments, &hooks.document))),
        ("the hook in dash, by itself", Box::new(|| by_std(&dash_by_itself, &arguments, &hooks.document))),
        ("run-parts, ten dash", Box::new(|| by_std(Path::new("/bin/run-parts"), &[&ten], b""))),
    ];
    for (name, program, hooks, recorded) in &runs {
        cases.push((name, Box::new(|| run(program, hooks, *recorded))));
    }
    measured.in_turns(200, cases);
}

fn main() {
    let (mut measured, hooks) = (Measured::new(), Hooks::new());
    in_process(&mut measured, &hooks);
    native(&mut measured, &hooks);
    loading(&mut measured, &hooks);
    commands(&mut measured, &hooks);
    measured.finish();
    table::print(&measured.cases);
    // The host's cases have a process of their own, which is small when it begins.
    let host = Command::new(env!("CARGO")).args(["bench", "--quiet", "--bench", "host"]).status();
    assert!(host.unwrap().success(), "the cases of a host");
}
