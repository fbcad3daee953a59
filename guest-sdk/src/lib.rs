//! Write hooks for hookvisor in Rust.
//!
//! A hook answers a host daemon that asks before it starts a guest and tells after it stopped one. What it gets is an
//! [`Event`], what it answers is a [`Verdict`]:
//!
//! ```no_run
//! use hookvisor_guest::{Event, Operation, Verdict, hook};
//! use std::error::Error;
//!
//! fn main() -> Verdict {
//!     hook(decide)
//! }
//!
//! /// Guests of this host start with a title that tells people what they are for.
//! fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//!     if *event.operation() != Operation::Start || event.document_str()?.contains("<title>") {
//!         return Ok(Verdict::proceed());
//!     }
//!     Ok(Verdict::veto(format!("guest {} has no <title>", event.object())))
//! }
//! ```
//!
//! `hookvisor new NAME` writes a crate to begin with.
//!
//! # Building
//! ```text
//! rustup target add wasm32-wasip1
//! cargo build --release --target wasm32-wasip1
//! install -m 0755 target/wasm32-wasip1/release/title.wasm /etc/hookvisor/hooks/qemu.d/20-title.wasm
//! ```
//!
//! The same source is a component for `wasm32-wasip2`, and an ordinary program too: `cargo build --release` makes a
//! native hook of it, which libvirt itself or a shell runs as well as hookvisor does:
//!
//! ```text
//! target/release/title web1 start begin - < web1.xml
//! ```
//!
//! # What a hook may do
//! In the sandbox a hook has its event, clocks and randomness. All else the administrator grants, in a file beside it
//! (`20-title.toml` for `20-title.wasm`):
//!
//! | in the settings | in the hook |
//! |---|---|
//! | `env = { MODE = "strict" }` | [`setting`] |
//! | `[[dir]]` | [`std::fs`], with paths from [`granted`] so that they can be tested |
//! | `[[command]]` | [`Command`] |
//! | `[[connect]]` | [`std::net`], in a component (`wasm32-wasip2`) |
//!
//! A hook that uses no [`Command`] and logs nothing imports nothing but WASI, and runs in any WASI runtime; a component
//! in one of WASI 0.2.12, which brought exit statuses other than 0 and 1.
//!
//! # Testing
//! [`Event::new`] makes the event that a test needs, and verdicts compare:
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
//! For a hook that does more than decide, feature `testing` has a harness with commands and directories that the test
//! makes up.
//!
//! # Streams
//! A verdict says nothing on success and one text on stderr on a veto; more on stderr is fine and reaches the report.
//! Stdout matters to `filter` operations alone (libvirt's `migrate` and `restore`): what a hook prints there replaces
//! the document, which is what [`Verdict::replace`] does.
//!
//! # Features
//! - `libvirt`: `Event::domain`, libvirt's description of a guest.
//! - `log`: what the `log` crate's macros write goes to the runtime's log. The crate is here as `hookvisor_guest::log`.
//! - `testing`: the harness; for `[dev-dependencies]`.

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
pub use verdict::{Verdict, hook};
