//! Prints `include/hookvisor.h`, generated from the source of the C API:
//!
//! `cargo run --package header > include/hookvisor.h`

use std::io;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    cbindgen::Builder::new()
        .with_config(cbindgen::Config::from_file(root.join("cbindgen.toml"))?)
        .with_src(root.join("src/capi/types.rs"))
        .with_src(root.join("src/capi.rs"))
        .with_src(root.join("src/capi/read.rs"))
        .with_src(root.join("src/capi/cancel.rs"))
        .generate()?
        .write(io::stdout());
    Ok(())
}
