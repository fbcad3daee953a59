//! How the program and the library for C are linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The shared library for C stays loaded after `dlclose`: wasmtime has put handlers of signals into the process, and they
    // are part of it.
    if std::env::var_os("CARGO_FEATURE_CAPI").is_some() {
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
    // A static program relocates itself each time that it starts; packed, there is less to read for that.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
