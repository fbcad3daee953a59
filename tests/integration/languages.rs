//! Hooks in other languages, built with packaged compilers. They need nothing but WASI.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookvisor::{Decision, Event, Limits};

use crate::support::{Hooks, skip, stderr};

/// The exit status of `scripts/build-language-hooks` if a package is not available.
const CANNOT_BE_HAD: i32 = 77;

/// The hook in this language. `None`, with the reason on standard error, if its compiler is not available.
fn built(language: &str) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/build-language-hooks");
    let built = Command::new(script).arg(&directory).arg(language).output().unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    match built.status.code() {
        Some(0) => Some(directory.join(language).with_extension("wasm")),
        Some(CANNOT_BE_HAD) => {
            skip(&format!("the hook in {language}"), said.trim_end());
            None
        }
        status => unreachable!("{status:?}: {said}"),
    }
}

fn decides_as_its_source_says(language: &str) {
    let Some(hook) = built(language) else { return };
    let hooks = Hooks::new().copy("qemu.d/10-title.wasm", &hook);
    // An interpreter takes long to compile, especially with a compiler built for debugging.
    let mut limits = Limits::default();
    limits.compile_time = Duration::from_secs(3600);
    let runtime = hooks.builder().limits(limits).build().unwrap();
    let event =
        |operation, document: &str| Event::new("qemu", "web1", operation).unwrap().with_document(document.to_owned());
    let why = "guest web1 has no title: virsh desc web1 --config --title TITLE\n";

    let vetoed = runtime.run(&event("start", "<domain/>"));
    assert_eq!((vetoed.decision, vetoed.exit_status(), stderr(&vetoed).as_str()), (Decision::Vetoed, 3, why));
    let with_title = "<domain><title>Mail</title></domain>";
    assert_eq!(runtime.run(&event("start", with_title)).decision, Decision::Proceed);
    assert_eq!(runtime.run(&event("release", "<domain/>")).exit_status(), 0);
    // A document that is read in many pieces. Its end decides.
    let long = format!("<domain>{}{with_title}</domain>", "<!-- — -->".repeat(200_000));
    let report = runtime.run(&event("start", &long));
    assert_eq!(report.decision, Decision::Proceed, "{report}");

    // The command line does not compile it again.
    let mut exec = crate::support::program::hookvisor();
    exec.args(["exec", "--cache", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache")]);
    exec.arg(hooks.path().join("qemu.d/10-title.wasm")).args(["web1", "start", "begin", "-"]);
    let ran = hooks.ran(exec.write_stdin("<domain/>"));
    assert_eq!(ran.status, 3);
    assert_eq!(
        ran.stderr,
        format!("Hook script execution failed: Hook script DIR/qemu.d/10-title.wasm failed with error code 3: {why}")
    );

    // The limits also hold for an interpreter.
    let mut limits = Limits::default();
    limits.timeout = Duration::from_nanos(1);
    let out_of_time = hooks.builder().limits(limits).build().unwrap().run(&event("start", &long));
    assert_eq!(out_of_time.exit_status(), 124, "{out_of_time}");
}

#[test]
fn a_hook_in_c() {
    decides_as_its_source_says("c");
}

#[test]
fn a_hook_in_go() {
    decides_as_its_source_says("go");
}

#[test]
fn a_hook_in_python() {
    decides_as_its_source_says("python");
}
