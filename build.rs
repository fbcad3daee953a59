//! Links the program and the C library, and prepares what they contain: the guest SDK for `hookvisor new`, and the
//! program that confined hooks execute in place of a command.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The guest SDK, through links that `cargo package` follows. It would leave out the SDK itself, which is another
/// package.
const SDK: &str = "packaging/guest-sdk";
/// The functions that a start executes. `packaging/order-functions` lists them.
const FUNCTIONS: &str = "packaging/functions.ld";
const SHIM: &str = "src/backend/native/confine/shim.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    build_shim()?;
    // The shared library for C stays loaded after `dlclose`, because wasmtime's signal handlers are part of it.
    if env::var_os("CARGO_FEATURE_CAPI").is_some() {
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
    // A static program relocates itself at each start. Packed relocations are less to read.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        // Fewer pages are mapped if the functions of a start are next to each other.
        println!("cargo::rerun-if-changed={FUNCTIONS}");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}/{FUNCTIONS}", env::var("CARGO_MANIFEST_DIR")?);
    }
    list_sdk()
}

/// Writes `sdk.rs`: the SDK's files as an array of names and texts, for `hookvisor new`.
fn list_sdk() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SDK}");
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join(SDK);
    let mut files = Vec::new();
    find(&root, &mut files)?;
    files.sort();
    let mut list = "[\n".to_owned();
    for file in files {
        writeln!(list, "    ({:?}, include_str!({file:?})),", file.strip_prefix(&root)?)?;
    }
    list += "]\n";
    fs::write(Path::new(&env::var("OUT_DIR")?).join("sdk.rs"), list)?;
    Ok(())
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { find(&path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// Compiles the program that confined hooks execute in place of a command. This needs only the Rust toolchain. On other
/// architectures the file is empty, and confined hooks are refused.
fn build_shim() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SHIM}");
    println!("cargo::rerun-if-changed={}", SHIM.trim_end_matches(".rs"));
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let shim = Path::new(&variable("OUT_DIR")).join("shim");
    if !["x86_64", "aarch64"].contains(&variable("CARGO_CFG_TARGET_ARCH").as_str()) {
        return Ok(fs::write(&shim, [])?);
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=bin", "--crate-name=shim", "--target", &variable("TARGET")]);
    rustc.args(["-Copt-level=s", "-Cpanic=abort", "-Cdebuginfo=0", "-Cstrip=symbols", "-Crelocation-model=static"]);
    rustc.args(["-nostartfiles", "-nostdlib", "-static"].map(|option| format!("-Clink-arg={option}")));
    rustc.args(["--build-id=none", "-z,noseparate-code"].map(|option| format!("-Clink-arg=-Wl,{option}")));
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        rustc.arg("-Clink-self-contained=no");
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg(format!("-Clinker={linker}"));
    }
    // A toolchain with its core library elsewhere passes `--sysroot`.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS");
    let flags: Vec<&str> = flags.split('\x1f').collect();
    for (at, flag) in flags.iter().enumerate() {
        match *flag {
            "--sysroot" => drop(rustc.args(flags.get(at..at + 2).unwrap_or_default())),
            flag if flag.starts_with("--sysroot=") => drop(rustc.arg(flag)),
            _ => {}
        }
    }
    let compiled = rustc.arg("-o").arg(&shim).arg(SHIM).output()?;
    if !compiled.status.success() {
        return Err(format!("{SHIM} does not compile:\n{}", String::from_utf8_lossy(&compiled.stderr)).into());
    }
    Ok(())
}
