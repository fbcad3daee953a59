//! How the program and the library for C are linked, and the guest SDK that the program carries.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The guest SDK, by links that `cargo package` follows: the SDK is a package of its own, which it would leave out.
const SDK: &str = "packaging/guest-sdk";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    // The shared library for C stays loaded after `dlclose`: wasmtime has put handlers of signals into the process, and they
    // are part of it.
    if env::var_os("CARGO_FEATURE_CAPI").is_some() {
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
    // A static program relocates itself each time that it starts; packed, there is less to read for that.
    if env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    list_sdk()
}

/// Writes `sdk.rs`: an array of the SDK's files, each its name and its text, for `hookvisor new`.
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
