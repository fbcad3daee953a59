//! Guests, built from source when first needed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::alone::is_emulated;

/// The probe (`tests/guests/probe`) as a native program.
pub(crate) fn native_probe() -> &'static Path {
    static PROBE: LazyLock<PathBuf> = LazyLock::new(|| build("probe", None));
    &PROBE
}

/// The same as a WebAssembly module.
pub(crate) fn wasm_probe() -> &'static Path {
    static PROBE: LazyLock<PathBuf> = LazyLock::new(|| wasm("probe"));
    &PROBE
}

/// The same as a component.
pub(crate) fn wasm_component_probe() -> &'static Path {
    static PROBE: LazyLock<PathBuf> = LazyLock::new(|| wasm_for("probe", "wasm32-wasip2"));
    &PROBE
}

/// A small module that exits with this status.
pub(crate) fn module_that_exits(status: u8) -> Vec<u8> {
    let exit = "(import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))";
    let start = format!("(func (export \"_start\") (call $exit (i32.const {status})))");
    wat::parse_str(format!("(module {exit} (memory (export \"memory\") 1) {start})")).unwrap()
}

/// A package of this workspace as a WebAssembly module.
pub(crate) fn wasm(package: &str) -> PathBuf {
    wasm_for(package, "wasm32-wasip1")
}

/// A package of this workspace for a WebAssembly target.
pub(crate) fn wasm_for(package: &str, target: &str) -> PathBuf {
    provide(target);
    build(package, Some(target))
}

/// Installs the standard library for a WebAssembly target.
pub(crate) fn provide(target: &str) {
    if is_emulated() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/wasm-targets");
    let made = Command::new(script).arg(target).status().unwrap();
    assert!(made.success(), "scripts/wasm-targets could not provide {target}");
}

/// Builds a package with the profile for guests, natively without a target.
pub(crate) fn build(package: &str, target: Option<&str>) -> PathBuf {
    let target_directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args([
        "build",
        "--quiet",
        "--profile",
        "guest",
        "--package",
        package,
    ]);
    cargo.args(target.iter().flat_map(|target| ["--target", target]));
    cargo.arg("--target-dir").arg(&target_directory);
    if !is_emulated() {
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "{package} was not built:\n{}", String::from_utf8_lossy(&built.stderr));
    }
    match target {
        Some(target) => target_directory.join(target).join("guest").join(package).with_extension("wasm"),
        None => target_directory.join("guest").join(package),
    }
}
