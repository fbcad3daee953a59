//! Write hooks for hookvisor in Rust.
//!
//! A host daemon calls its hooks before it starts a guest and after the guest stops. A hook receives an [`Event`] and
//! returns a [`Verdict`]:
//!
//! ```no_run
//! use hookvisor_guest::{Event, Operation, Verdict, hook};
//! use std::error::Error;
//!
//! fn main() -> Verdict {
//!     hook(decide)
//! }
//!
//! /// Blocks the start of a guest whose domain XML has no title.
//! fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//!     if *event.operation() != Operation::Start || event.document_str()?.contains("<title>") {
//!         return Ok(Verdict::proceed());
//!     }
//!     Ok(Verdict::veto(format!("guest {} has no <title>", event.object())))
//! }
//! ```
//!
//! `hookvisor new NAME` creates a complete crate to start from.
//!
//! # Building
//! ```text
//! rustup target add wasm32-wasip1
//! cargo build --release --target wasm32-wasip1
//! install -m 0755 target/wasm32-wasip1/release/title.wasm /etc/hookvisor/hooks/qemu.d/20-title.wasm
//! ```
//!
//! The same source also builds as a component for `wasm32-wasip2`, and as a native program with
//! `cargo build --release`. hookvisor, libvirt and a shell can all run the native program:
//!
//! ```text
//! target/release/title web1 start begin - < web1.xml
//! ```
//!
//! # What a hook may do
//! A sandboxed hook can read its event, the clocks and random numbers. The administrator grants everything else in a
//! settings file next to the hook (`20-title.toml` for `20-title.wasm`):
//!
//! | in the settings | in the hook |
//! |---|---|
//! | `env = { MODE = "strict" }` | [`setting`] |
//! | `[[dir]]` | [`std::fs`], with paths from [`granted`], which unit tests can redirect |
//! | `[[command]]` | [`Command`] |
//! | `state = true`, `[[secret]]` | [`std::fs`], with the path that [`setting`] returns |
//! | `[[connect]]` to the path of a Unix socket | [`UnixStream`] |
//! | `[[connect]]` to an address and port | [`std::net`], in a component (`wasm32-wasip2`) |
//!
//! A hook that uses none of [`Command`], [`UnixStream`] and the log imports only WASI, so any WASI runtime can run it. A component
//! needs WASI 0.2.12, the first version with exit statuses other than 0 and 1.
//!
//! # Testing
//! Create an event with [`Event::new`] and compare the verdict:
//!
//! ```
//! # use hookvisor_guest::{Event, Operation, Verdict};
//! # use std::error::Error;
//! # fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//! #     if *event.operation() != Operation::Start || event.document_str()?.contains("<title>") {
//! #         return Ok(Verdict::proceed());
//! #     }
//! #     Ok(Verdict::veto(format!("guest {} has no <title>", event.object())))
//! # }
//! # fn main() -> Result<(), Box<dyn Error>> {
//! let event = Event::new("web1", "start").with_sub_operation("begin").with_document("<domain/>");
//! assert_eq!(decide(&event)?, Verdict::veto("guest web1 has no <title>"));
//! # Ok(())
//! # }
//! ```
//!
//! To test a hook that runs commands, opens files or connects to Unix sockets, use the harness of the feature `testing`. It
//! simulates all three.
//!
//! # Streams
//! On success a verdict prints nothing. On a veto it prints its message to stderr. A hook may print more to stderr; it
//! appears in the report. Stdout is used only by filter operations (libvirt's `migrate` and `restore`), where it
//! replaces the document. [`Verdict::replace`] prints it.
//!
//! # Features
//! - `libvirt`: `Event::domain`, which parses libvirt's domain XML.
//! - `log`: sends messages of the `log` crate to the runtime's log. The crate is re-exported as `hookvisor_guest::log`.
//! - `testing`: the test harness, for `[dev-dependencies]`.

#![cfg_attr(not(target_os = "wasi"), forbid(unsafe_code))]
#![cfg_attr(target_os = "wasi", deny(unsafe_code))]

mod command;
mod error;
mod event;
mod grants;
#[cfg(feature = "libvirt")]
pub mod libvirt;
#[cfg(feature = "log")]
mod logger;
mod operation;
mod sys;
#[cfg(feature = "testing")]
pub mod testing;
mod unix;
mod verdict;

pub use command::{Command, CommandError, ExitStatus, Output};
pub use error::EventError;
pub use event::Event;
pub use grants::{granted, setting};
#[cfg(feature = "log")]
pub use log;
#[cfg(feature = "log")]
pub use logger::log_to_runtime;
pub use operation::{Operation, Stage};
pub use unix::UnixStream;
pub use verdict::{Verdict, hook};
