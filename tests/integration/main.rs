//! What users would notice, tried with real processes and real WebAssembly.
//!
//! One binary, so that it links once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

mod bad_input;
#[cfg(feature = "wasm")]
mod brokered;
mod capi;
mod cli;
mod daemon;
mod dropin;
mod embedding;
mod faults;
mod guard;
#[cfg(feature = "wasm")]
mod hostile;
mod interrupt;
#[cfg(feature = "wasm")]
mod languages;
#[cfg(feature = "wasm")]
mod libvirtd;
mod native;
#[cfg(feature = "wasm")]
mod new;
#[cfg(feature = "wasm")]
mod parity;
#[cfg(feature = "wasm")]
mod ported;
#[cfg(all(feature = "wasm", not(feature = "compiler")))]
mod precompiled;
mod progress;
#[cfg(feature = "wasm")]
mod public_api;
#[cfg(feature = "wasm")]
mod readme;
#[cfg(feature = "wasm")]
mod sandbox;
#[cfg(feature = "wasm")]
mod sdk;
#[cfg(feature = "wasm")]
mod seeds;
mod storm;
mod takeover;
