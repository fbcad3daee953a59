//! The smallest embedding: `cargo run --example embed -- HOOKS-DIR`. It is in the README.
#![expect(clippy::print_stderr, reason = "its log")]

use hookvisor::{Event, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).unwrap_or("/etc/mydaemon/hooks".into());
    let hooks = Runtime::open(directory)?;

    // Before: a veto is an error, and `?` keeps the guest from starting.
    let start = Event::new("mydaemon", "web1", "start")?.with_document("{\"memory\": 512}");
    let guest = hooks.admit(&start)?;

    // … start the guest: if that fails and `guest` is dropped, the hooks are told that it is over …

    // After: this cannot fail, only report.
    let report = guest.stopped();
    if report.failures().next().is_some() {
        eprintln!("{}", report.shown());
    }
    Ok(())
}
