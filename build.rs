//! The shared library for C stays loaded after `dlclose`: wasmtime has put handlers of signals into the process, and they
//! are part of it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_CAPI").is_some() {
        println!("cargo::rustc-link-arg=-Wl,-z,nodelete");
    }
}
