//! A hook runtime for host daemons.
//!
//! A daemon that starts guests (virtual machines, containers, services) asks before it starts one, and tells after it
//! has stopped one; hooks answer. A hook is an ordinary executable script or binary, or a WebAssembly module in a WASI
//! sandbox. Both get the same arguments and the same document on stdin, both answer by exit status and stderr, and both
//! end in the same [`Report`].
//!
//! ```no_run
//! use hookvisor::{Event, Runtime};
//!
//! let runtime = Runtime::open("/etc/mydaemon/hooks")?;
//! let guest = |operation| Event::new("mydaemon", "web1", operation);
//! runtime.start(&guest("start")?).into_result()?; // Err(Veto): do not start it
//! // … the guest runs, and stops …
//! let report = runtime.shutdown(&guest("stopped")?);
//! if report.failures().next().is_some() {
//!     eprintln!("{report}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The map
//! - [`Event`]: what is about to happen or has happened, and its [`Stage`]. Conventions (libvirt's, and a generic one) say
//!   which operations there are.
//! - [`Runtime`]: a directory of hooks, ready to be called. [`Exec`] runs a single one.
//! - [`Verdict`], [`Report`]: what came of it.
//! - [`Limits`]: time, memory, output.
//! - [`Config`]: `hookvisor.toml`, for the installed hookvisor.
//! - [`Inventory`]: what is in the hooks directory, and what will happen with it.
//!
//! # What is promised
//! Fail closed: a start proceeds only if every hook ran to its end and exited with 0. A call comes back within the hooks'
//! timeout and grace, whatever they do, and leaves no process of theirs that it could end, no descriptor and no thread.
//!
//! Needs Linux 5.4 or later (pidfds that can be waited for).
//!
//! # Features
//! - `wasm` (default): WebAssembly hooks. Without it, such a hook vetoes.

#![deny(unsafe_code)]

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

mod backend;
mod cancel;
mod capture;
mod config;
mod convention;
mod document;
mod event;
mod hook;
mod inventory;
mod limits;
#[cfg(feature = "metrics")]
pub mod metrics;
mod places;
mod report;
mod runtime;
mod signal;

#[cfg(feature = "wasm")]
pub use backend::wasm::cache::{Cache, CacheError};
pub use cancel::Cancel;
pub use config::{Config, ConfigError, LogConfig, LogLevel, LogTo};
pub use convention::LIBVIRT_DRIVERS;
pub use event::{Event, EventError, Stage};
pub use hook::discovery::LoadError;
pub use inventory::{HookInfo, HookState, Inventory};
pub use limits::Limits;
pub use report::{Decision, HookReport, Kind, Report, Skipped, Termination, Verdict, Veto};
pub use runtime::call::Invocation;
pub use runtime::exec::Exec;
pub use runtime::guest::Guest;
pub use runtime::{Runtime, RuntimeBuilder};
