//! Vetoes guests with less memory than this host requires.

use std::error::Error;

use hookvisor_guest::{Event, Operation, Verdict, hook, log, setting};

fn main() -> Verdict {
    hook(decide)
}

/// `?` vetoes too, with the error's text.
fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    if !matches!(event.operation(), Operation::Prepare | Operation::Start) {
        return Ok(Verdict::proceed());
    }
    let guest = event.object();
    let needed: u64 = setting("MIN_MEMORY_MIB")
        .as_deref()
        .unwrap_or("512")
        .parse()?;
    let memory = event.domain()?.memory()? >> 20;
    if memory < needed {
        return Ok(Verdict::veto(format!(
            "guest {guest} has {memory} MiB of memory and needs {needed}: virsh edit {guest}"
        )));
    }
    log::info!("guest {guest} has {memory} MiB of memory");
    Ok(Verdict::proceed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookvisor_guest::testing::{Harness, Seen};

    /// The verdict on the guest in `guest.xml` if the host requires this much memory.
    fn start(min_memory_mib: &str) -> Seen {
        let event =
            Event::new("web1", Operation::Start).with_document(include_str!("../guest.xml"));
        Harness::new(event)
            .settings_file("{{name}}.toml")
            .setting("MIN_MEMORY_MIB", min_memory_mib)
            .run(decide)
    }

    #[test]
    fn a_guest_with_enough_memory_starts() {
        let seen = start("2048");
        assert_eq!(seen.verdict, Verdict::proceed());
        assert_eq!(
            seen.log,
            [(
                log::Level::Info,
                "guest web1 has 2048 MiB of memory".to_owned()
            )]
        );
    }

    #[test]
    fn a_guest_with_too_little_does_not() {
        let verdict = start("2049").verdict;
        assert_eq!(
            verdict.message(),
            "guest web1 has 2048 MiB of memory and needs 2049: virsh edit web1"
        );
    }

    #[test]
    fn a_setting_that_is_not_a_number_vetoes() {
        assert!(start("plenty").verdict.is_veto());
    }
}
