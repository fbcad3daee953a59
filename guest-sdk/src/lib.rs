//! Write hooks for hookvisor in Rust.
//!
//! A hook answers a host daemon that asks before it starts a guest and tells after it stopped one. What it gets is an
//! [`Event`], what it answers is a [`Verdict`]:
//!
//! ```no_run
//! use hookvisor_guest::{Event, Verdict, hook};
//! use std::error::Error;
//!
//! fn main() -> Verdict {
//!     hook(decide)
//! }
//!
//! /// Guests of this host start with a title that tells people what they are for.
//! fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//!     if event.operation() != "start" || event.document_str()?.contains("<title>") {
//!         return Ok(Verdict::proceed());
//!     }
//!     Ok(Verdict::veto(format!("guest {} has no <title>", event.object())))
//! }
//! ```
//!
//! # Building
//! ```text
//! rustup target add wasm32-wasip1
//! cargo build --release --target wasm32-wasip1
//! install -m 0755 target/wasm32-wasip1/release/title.wasm /etc/hookvisor/hooks/qemu.d/20-title.wasm
//! ```
//!
//! The crate is nothing but std, so the same source is an ordinary program too: `cargo build --release` makes a native
//! hook of it, which libvirt itself or a shell runs as well as hookvisor does:
//!
//! ```text
//! target/release/title web1 start begin - < web1.xml
//! ```
//!
//! Build for `wasm32-wasip1` when the exit status matters: a WASI 0.2 component can only tell success from failure, so
//! every veto of a `wasm32-wasip2` hook has status 1.
//!
//! # Testing
//! [`Event::new`] makes the event that a test needs, and verdicts compare:
//!
//! ```
//! # use hookvisor_guest::{Event, Verdict};
//! # use std::error::Error;
//! # fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//! #     if event.operation() != "start" || event.document_str()?.contains("<title>") {
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
//! # Streams
//! A verdict says nothing on success and one text on stderr on a veto; more on stderr is fine and reaches the report.
//! Stdout matters to `filter` operations alone (libvirt's `migrate` and `restore`): what a hook prints there replaces
//! the document.

#![forbid(unsafe_code)]

mod error;
mod event;
mod verdict;

pub use error::EventError;
pub use event::Event;
pub use verdict::{Verdict, hook};
