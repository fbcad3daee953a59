//! A hook file with any content must be refused, or run within its limits.
//!
//! The input is a module or component: binary, or text if it begins with `(`. Any other input selects a valid module
//! that calls the functions a hook can import.
#![no_main]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use arbitrary::Unstructured;
use hookvisor::{Event, LaunchError, Limits, Runtime, Termination};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use wasm_smith::{Config, Module};

/// Far above the time limit, for slow machines.
const TOO_LONG: Duration = Duration::from_secs(10);
const IMPORTS: &str = include_str!("loader/imports.wat");
const EXPORTS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// One runtime for all inputs, as in a daemon. Each input is a new hook.
struct World {
    directory: TempDir,
    runtime: Runtime,
    /// The descriptors that it uses without a hook.
    descriptors: usize,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let directory = TempDir::new().expect("a directory");
    let granted = directory.path().join("granted/below");
    fs::create_dir_all(&granted).expect("a directory to grant");
    // The settings that enable the host's functions for files and commands.
    let granted = granted.parent().expect("its parent");
    let settings = format!("[[dir]]\nhost = {granted:?}\nguest = '/'\n[[command]]\nprogram = '/bin/true'\n");
    fs::create_dir(directory.path().join("hooks")).expect("a hooks directory");
    fs::write(directory.path().join("hooks/test.toml"), settings).expect("its settings");
    let mut limits = Limits::default();
    limits.timeout = Duration::from_millis(50);
    limits.grace = Duration::from_millis(50);
    limits.memory = 1 << 20;
    limits.stdout = 1 << 10;
    limits.stderr = 1 << 10;
    let runtime = Runtime::builder(directory.path().join("hooks")).limits(limits).build().expect("a runtime");
    let mut world = World { directory, runtime, descriptors: 0 };
    // The first hook creates the engine.
    world.call(b"\0asm\x01\0\0\0");
    world.descriptors = count("/proc/self/fd");
    world
});

impl World {
    /// Loads a hook, runs it and removes it.
    fn call(&self, module: &[u8]) {
        let hook = self.directory.path().join("hooks/test");
        fs::write(&hook, module).expect("a hook");
        fs::set_permissions(&hook, Permissions::from_mode(0o755)).expect("its mode");
        self.runtime.reload().expect("the hooks");
        let event = Event::new("test", "web1", "start").expect("an event").with_document("<domain/>");
        let began = Instant::now();
        let report = self.runtime.run(&event);
        assert!(began.elapsed() < TOO_LONG, "{:?}", began.elapsed());
        let [ended] = report.hooks.as_slice() else { panic!("{report:?}") };
        match &ended.termination {
            Termination::Exited(_) | Termination::TimedOut { .. } | Termination::Trapped(_) => {}
            Termination::NotLaunched(LaunchError::Refused(why)) if !why.is_empty() => {}
            other => panic!("{other:?}"),
        }
        // The kept output, and the line that says how much was dropped.
        assert!(ended.stdout.len() <= 1 << 10 && ended.stderr.len() <= (1 << 10) + 200);
        fs::remove_file(&hook).expect("the hook");
        self.runtime.reload().expect("no hooks");
    }
}

fuzz_target!(|data: &[u8]| {
    let module = match data {
        [b'\0', b'a', b's', b'm', ..] => data.to_vec(),
        [b'(', ..] => match wat::parse_bytes(data) {
            Ok(module) => module.into_owned(),
            Err(_) => return,
        },
        _ => match generated(data) {
            Ok(module) => module,
            Err(_) => return,
        },
    };
    WORLD.call(&module);
    assert_eq!(count("/proc/self/fd"), WORLD.descriptors, "descriptors are left");
    // The epoch thread, libFuzzer's own, and tokio's idle threads.
    assert!(count("/proc/self/task") < 20, "threads are left");
});

/// A valid module, selected by the bytes.
fn generated(data: &[u8]) -> arbitrary::Result<Vec<u8>> {
    let config = Config {
        available_imports: Some(wat::parse_str(IMPORTS).expect("the imports")),
        exports: Some(wat::parse_str(EXPORTS).expect("the exports")),
        max_imports: 20,
        ..Config::default()
    };
    Ok(Module::new(config, &mut Unstructured::new(data))?.to_bytes())
}

fn count(directory: &str) -> usize {
    fs::read_dir(directory).expect("a directory of /proc").count()
}
