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
//! let guest = runtime.admit(&Event::new("mydaemon", "web1", "start")?)?; // Err(Veto): do not start it
//! // … the guest runs, and stops …
//! let report = guest.stopped();
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
//! - [`Guest`]: the handle of a guest that was allowed to start, by which its end is told.
//! - [`Invocation`]: one call with terms of its own. [`Cancel`] ends running calls.
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
//! # What operators see
//! Events of [`tracing`], in the spans `event` (driver, object, operation, stage) and `hook` (path, kind):
//!
//! | target | level | when |
//! |---|---|---|
//! | `hookvisor::loaded`, `hookvisor::broken` | debug, warn | a hook is ready to be called; cannot be run, and vetoes |
//! | `hookvisor::started` | debug | a hook is called |
//! | `hookvisor::slow` | warn | it is still running after [`Limits::slow`] |
//! | `hookvisor::call` | info, warn | it has ended; warn if it failed |
//! | `hookvisor::vetoed` | info | a start must not go on |
//! | `hookvisor::guest` | the guest's own | what a sandboxed hook logs |
//!
//! # Features
//! - `wasm` (default): WebAssembly hooks. Without it, such a hook vetoes.
//! - `compiler` (default): compiles them. Without it, those run that `hookvisor compile` of a full build of the same version
//!   has put into the cache, and any other vetoes: for a program that is small and starts soon.
//! - `async`: calls that do not block the thread of an async task (tokio).
//! - `metrics`: counts and durations for the `metrics` facade; their names are in the module `metrics`.
//! - `capi`: the functions of `hookvisor.h`, for a library that C can link.

#![deny(unsafe_code)]

/// The README's examples, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

mod backend;
mod cancel;
#[cfg(feature = "capi")]
pub mod capi;
mod capture;
mod config;
mod convention;
mod document;
mod event;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod inventory;
mod limits;
#[cfg(feature = "metrics")]
pub mod metrics;
mod places;
mod report;
mod runtime;
mod signal;
mod time;

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
