//! A daemon that defines its own operations: cargo run --example convention -- DIR
#![expect(clippy::print_stdout, reason = "its output")]

use hookvisor::{Convention, DocumentFormat, Event, Operation, Runtime};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args_os().nth(1).unwrap_or("/etc/vmm/hooks".into());
    let convention = Convention::new("vmm")
        .operation("configure", Operation::filter(DocumentFormat::Json))
        .operation("create", Operation::start())
        .operation("delete", Operation::shutdown())
        .ended_by("delete")
        .closed();
    let hooks = Runtime::builder(directory).convention(convention).build()?;

    // Hooks may rewrite the guest's configuration. A document that is not JSON vetoes.
    let configure = Event::new("vmm", "web1", "configure")?.with_document("{\"memory\": 512}");
    let report = hooks.start(&configure).into_result()?;
    let configuration = report.document.unwrap_or(configure.document().clone());
    println!("{}", String::from_utf8_lossy(&configuration).trim_end());

    let guest = hooks.admit(&Event::new("vmm", "web1", "create")?.with_document(configuration))?;
    // … the guest runs …
    print!("{}", guest.stopped());
    Ok(())
}
