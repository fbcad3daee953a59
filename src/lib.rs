//! Runs hook scripts for host daemons.
//!
//! A daemon starts guests: virtual machines, containers, services. It calls hooks before a guest starts and after it stops.
//! Before a start, any failing hook vetoes it. A hook is an ordinary executable, or a WebAssembly module in a WASI sandbox. Both
//! kinds get the same arguments and the same document on stdin, answer by exit status and stderr, and end in the same [`Report`].
//!
//! ```no_run
//! use hookvisor::{Event, Runtime};
//!
//! let runtime = Runtime::open("/etc/mydaemon/hooks")?;
//! let guest = runtime.admit(&Event::new("mydaemon", "web1", "start")?)?; // Err(Veto): do not start it
//! // … the guest runs, and stops …
//! let report = guest.stopped();
//! if report.failures().next().is_some() {
//!     eprintln!("{}", report.shown());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The map
//! - [`Event`]: what is about to happen, or has happened, to a guest. Its driver's convention gives the [`Stage`].
//! - [`Runtime`]: the hooks of a directory, ready to be called. [`Exec`] runs a single hook file.
//! - [`Guest`]: the handle of a guest that was allowed to start. Its end is reported to the hooks once.
//! - [`Invocation`]: options for one call. [`Cancel`] ends running calls.
//! - [`Verdict`], [`Report`]: the answer, and what each hook did.
//! - [`Limits`]: time, memory, output.
//! - [`Config`]: `hookvisor.toml`, for the installed program.
//! - [`Inventory`]: what the hooks directory contains, and how each file is treated.
//!
//! # Guarantees
//! A start proceeds only if every hook ran to its end and exited with 0. A call returns within its hooks' timeout and grace. It leaves no
//! descriptor, no thread, and no process that it could end.
//!
//! For each native hook, this can come on top:
//! - up to 2 s for a process that SIGKILL does not end at once, or that a debugger holds,
//! - up to 2 s for the commands of a confined hook that are still running when it ends,
//! - 1 s when it starts, if the host forks another process at that moment,
//! - [`Limits::leak_wait`] for background processes that keep its stdout or stderr open, and 500 ms for each of the two to find
//!   their names,
//! - with [`RuntimeBuilder::max_in_flight`], the wait for a free slot: as long as the hook's timeout, so the time can double. The
//!   report then says how long it waited.
//!
//! Not bounded: a system call on a mount that does not answer, such as opening a hook's file there, or executing it.
//!
//! Tested on Linux 6.1 (Debian's) and 6.18. Needs 5.4 at least, for pidfds that can be waited for.
//!
//! # Logging
//! All activity is logged through [`tracing`], in a span `event` for each call, and a span `hook` for each hook in it. Their fields have
//! OpenTelemetry's names, such as `hookvisor.driver`, `process.executable.path` and `error.type`; the book's page for daemon authors
//! lists them. The log's targets:
//!
//! | target | level | when |
//! |---|---|---|
//! | `hookvisor::loaded` | debug | a hook is ready to be called |
//! | `hookvisor::broken` | warn | a hook cannot be run, and fails when it is called |
//! | `hookvisor::started` | debug | a hook is called |
//! | `hookvisor::slow` | warn | it still runs after [`Limits::slow`] |
//! | `hookvisor::call` | info, warn | it has ended; warn if it failed |
//! | `hookvisor::vetoed` | info | a start is vetoed |
//! | `hookvisor::guest` | the guest's own | a sandboxed hook logs |
//!
//! # Features
//! - `wasm` (default): WebAssembly hooks. Without it, such a hook vetoes.
//! - `compiler` (default): compiles them. Without it, only modules run that `hookvisor compile` of a full build of the same version
//!   has put into the cache; any other vetoes. Such a program is small and starts fast.
//! - `async`: calls that do not block the thread of an async task (tokio).
//! - `metrics`: counts and durations for the `metrics` facade; the module `metrics` names them.
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
mod limits;
#[cfg(feature = "metrics")]
pub mod metrics;
mod needs;
mod observe;
mod printable;
mod pthread;
mod record;
mod report;
mod runtime;
mod semaphore;
mod serialize;
mod stage;
mod thread_waker;
mod time;

#[doc(hidden)]
pub use backend::native::is_ignored;
#[cfg(feature = "wasm")]
pub use backend::wasm::cache::{Cache, CacheError};
#[cfg(feature = "wasm")]
pub use backend::wasm::compiler::Compiler;
pub use cancel::Cancel;
pub use config::{Config, ConfigError, HistoryConfig, LogConfig, LogLevel, LogTo};
pub use convention::LIBVIRT_DRIVERS;
pub use convention::rules::{AfterVeto, Convention, ConventionError, Operation};
pub use document::DocumentFormat;
pub use event::{Event, EventError};
pub use hook::discovery::LoadError;
pub use hook::error::LaunchError;
pub use hook::kind::Kind;
pub use hook::mask::{Disabled, MaskError, disable_hook, enable_hook};
pub use hook::mode::Mode;
pub use hook::skipped::Skipped;
pub use hook::untrusted::Untrusted;
#[doc(hidden)]
pub use hook::walk::OneLook;
pub use limits::Limits;
pub use needs::{FileUse, Needs};
pub use printable::{printable, printable_block, printable_line};
pub use record::{Entries, Record, Recorded, RecordedChange, RecordedEvent, RecordedHook, RecordedSkip};
pub use report::termination::Termination;
pub use report::verdict::{Verdict, Veto};
pub use report::{Decision, HookReport, Report};
pub use runtime::Runtime;
pub use runtime::builder::RuntimeBuilder;
pub use runtime::call::Invocation;
pub use runtime::exec::Exec;
pub use runtime::explain::{ExplainedHook, Explanation};
pub use runtime::guest::Guest;
pub use runtime::inventory::{HookInfo, HookState, Inventory};
pub use stage::Stage;
