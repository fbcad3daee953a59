//! What users would notice, tried with real processes and real WebAssembly.
//!
//! One binary, so that it links once.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

#[cfg(feature = "compiler")]
mod abi;
#[cfg(feature = "compiler")]
mod amplification;
mod bad_input;
#[cfg(feature = "compiler")]
mod brokered;
#[cfg(feature = "compiler")]
mod capi;
mod cli;
#[cfg(feature = "compiler")]
mod compiling;
mod configured;
mod confined;
mod convention;
mod corpus;
mod daemon;
mod disable;
mod dropin;
mod edges;
mod embedding;
mod env_file;
mod explain;
mod faults;
#[cfg(feature = "compiler")]
mod granted_files;
mod guard;
mod history;
#[cfg(feature = "compiler")]
mod hostile;
mod interrupt;
#[cfg(all(feature = "compiler", target_arch = "x86_64"))]
mod kernels;
#[cfg(feature = "compiler")]
mod languages;
#[cfg(feature = "compiler")]
mod learn;
#[cfg(feature = "compiler")]
mod libvirt_hosts;
#[cfg(feature = "compiler")]
mod libvirtd;
mod misuse;
#[cfg(feature = "compiler")]
mod monitor;
mod native;
#[cfg(feature = "compiler")]
mod new;
mod package;
#[cfg(feature = "compiler")]
mod parity;
#[cfg(feature = "compiler")]
mod ported;
#[cfg(all(feature = "wasm", not(feature = "compiler")))]
mod precompiled;
mod printed;
mod progress;
#[cfg(feature = "compiler")]
mod public_api;
#[cfg(feature = "compiler")]
mod python;
#[cfg(feature = "compiler")]
mod readme;
#[cfg(feature = "compiler")]
mod reconnect;
#[cfg(feature = "compiler")]
mod sandbox;
mod schemas;
#[cfg(feature = "compiler")]
mod sdk;
#[cfg(feature = "compiler")]
mod seeds;
mod silence;
mod storm;
mod structure;
#[cfg(feature = "compiler")]
mod subcommands;
mod takeover;
mod telemetry;
mod trust;
#[cfg(feature = "compiler")]
mod unix;
