//! Reserves huge pages for guests that ask for them, and frees them at the release.
//!
//! The pages are reserved only while a guest needs them, so other memory is not fragmented. It replaces `hugepages.sh`;
//! `hugepages.toml` lists everything that it may touch.
//!
//! Neither locks the pool: guests that start at the same moment may count each other's pages.

use std::error::Error;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use hookvisor_guest::libvirt::Domain;
use hookvisor_guest::{Event, Operation, Verdict, granted, hook, setting};

/// The kernel's pool of pages of this size.
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const PAGE: u64 = 2 << 20;

/// The file with the guest's number of pages: `release` also comes after a failed start.
const STATE: &str = "/run/hugepages";

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    match event.operation() {
        Operation::Prepare if wants_huge_pages(&event.domain()?) => {
            reserve(event.object(), event.domain()?.memory()?.div_ceil(PAGE))
        }
        Operation::Release => release(event.object()),
        _ => Ok(Verdict::proceed()),
    }
}

fn wants_huge_pages(domain: &Domain<'_>) -> bool {
    let backing = domain.root().children().find(|child| child.has_tag_name("memoryBacking"));
    backing.is_some_and(|backing| backing.children().any(|child| child.has_tag_name("hugepages")))
}

fn reserve(guest: &str, needed: u64) -> Result<Verdict, Box<dyn Error>> {
    let before = pool()?;
    set_pool(before + needed)?;
    // The kernel accepts any number, and reserves as many pages as it finds.
    let found = pool()?.saturating_sub(before);
    if found < needed {
        set_pool(before)?;
        return Ok(Verdict::veto(format!(
            "guest {guest} needs {needed} huge pages, and the host has {found} to spare"
        )));
    }
    fs::write(state(guest), format!("{needed}\n"))?;
    Ok(Verdict::proceed())
}

fn release(guest: &str) -> Result<Verdict, Box<dyn Error>> {
    let reserved: u64 = match fs::read_to_string(state(guest)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Verdict::proceed()),
        reserved => reserved?.trim().parse()?,
    };
    set_pool(pool()?.saturating_sub(reserved))?;
    fs::remove_file(state(guest))?;
    Ok(Verdict::proceed())
}

fn pool() -> Result<u64, Box<dyn Error>> {
    Ok(fs::read_to_string(pool_file())?.trim().parse()?)
}

fn set_pool(pages: u64) -> Result<(), Box<dyn Error>> {
    Ok(fs::write(pool_file(), format!("{pages}\n"))?)
}

fn pool_file() -> PathBuf {
    granted(setting("HUGEPAGES_POOL").unwrap_or_else(|| POOL.to_owned())).join("nr_hugepages")
}

fn state(guest: &str) -> PathBuf {
    granted(setting("HUGEPAGES_STATE").unwrap_or_else(|| STATE.to_owned())).join(guest)
}

#[cfg(test)]
mod tests {
    use hookvisor_guest::testing::{Harness, Seen};

    use super::*;

    const COUNT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn guest_with(memory_backing: &str) -> String {
        include_str!("../../../web1.xml").replace("<vcpu", &format!("{memory_backing}<vcpu"))
    }

    fn asking() -> String {
        guest_with("<memoryBacking><hugepages/></memoryBacking>")
    }

    /// Runs `operation` with 8 pages in the pool and `reserved` recorded for the guest.
    fn run(operation: Operation, document: &str, reserved: Option<&str>) -> Seen {
        let harness = Harness::new(Event::new("web1", operation).with_document(document)).file(COUNT, "8\n");
        let harness = match reserved {
            Some(reserved) => harness.file("/run/hugepages/web1", reserved),
            None => harness.file("/run/hugepages/another", "1\n"),
        };
        harness.run(decide)
    }

    fn left(seen: &Seen) -> (Option<String>, Option<String>) {
        (seen.file(COUNT), seen.file("/run/hugepages/web1"))
    }

    #[test]
    fn pages_for_all_of_the_guest_s_memory_are_added_to_the_pool() {
        let seen = run(Operation::Prepare, &asking(), None);
        assert_eq!(seen.verdict, Verdict::proceed());
        assert_eq!(left(&seen), (Some("2056\n".into()), Some("2048\n".into())));
    }

    #[test]
    fn a_guest_that_does_not_ask_gets_none() {
        for backing in ["", "<memoryBacking><locked/></memoryBacking>", "<!-- <hugepages/> -->", "<hugepages/>"] {
            let seen = run(Operation::Prepare, &guest_with(backing), None);
            assert_eq!((seen.verdict.is_veto(), seen.file(COUNT).as_deref()), (false, Some("8\n")), "{backing}");
        }
    }

    #[test]
    fn what_a_guest_has_got_is_freed_once() {
        let seen = run(Operation::Release, "", Some("6\n"));
        assert_eq!((seen.verdict.is_veto(), left(&seen)), (false, (Some("2\n".into()), None)));
        let again = run(Operation::Release, "", None);
        assert_eq!((again.verdict.is_veto(), left(&again)), (false, (Some("8\n".into()), None)));
    }

    #[test]
    fn no_other_operation_touches_the_pool() {
        for operation in [Operation::Start, Operation::Started, Operation::Stopped, Operation::Reconnect] {
            let seen = run(operation, &asking(), Some("6\n"));
            assert_eq!((seen.verdict.is_veto(), seen.file(COUNT).as_deref()), (false, Some("8\n")));
        }
    }

    #[test]
    fn a_pool_that_cannot_be_reached_vetoes() {
        let event = Event::new("web1", Operation::Prepare).with_document(asking());
        assert!(Harness::new(event).run(decide).verdict.is_veto());
    }

    #[test]
    fn a_document_that_is_none_vetoes() {
        assert_eq!(run(Operation::Prepare, "", None).verdict.exit_status(), 1);
        let no_memory = "<domain><memoryBacking><hugepages/></memoryBacking></domain>";
        assert_eq!(run(Operation::Prepare, no_memory, None).verdict.message(), "the domain XML has no <memory>");
    }
}
