//! A policy for libvirt guests: whoever runs into trouble with one must find out whom to call.
//!
//! A guest whose domain XML names no owner in its `<metadata>` is not started. What is in
//! `examples/hooks/qemu.d/20-policy.wasm` is this program, built for wasm32-wasip1; `policy.sh` is what it replaces.

use std::error::Error;

use hookvisor_guest::libvirt::Domain;
use hookvisor_guest::{Event, Operation, Verdict, hook};

/// The namespace of the site's own metadata.
const INVENTORY: &str = "https://inventory.example.org/libvirt/1.0";

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    if !matches!(event.operation(), Operation::Prepare | Operation::Start) {
        return Ok(Verdict::proceed());
    }
    if owner(&event.domain()?).is_none() {
        return Ok(Verdict::veto(format!(
            "guest {guest} has no owner: \
             add <inventory:owner>NAME</inventory:owner> to its <metadata> (virsh edit {guest})",
            guest = event.object()
        )));
    }
    Ok(Verdict::proceed())
}

/// Whom to call.
fn owner<'domain>(domain: &'domain Domain<'_>) -> Option<&'domain str> {
    let owner = domain.metadata(INVENTORY)?.descendants().find(|node| node.has_tag_name((INVENTORY, "owner")))?;
    owner
        .children()
        .filter_map(|node| node.text().filter(|_| node.is_text()))
        .map(str::trim)
        .find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(operation: &str, document: &str) -> Verdict {
        decide(&Event::new("web1", operation).with_document(document)).into()
    }

    fn start_with(metadata: &str) -> Verdict {
        let document = format!("<domain><name>web1</name>{metadata}<devices/></domain>");
        decision("start", &document.replace("<metadata", &format!("<metadata xmlns:i='{INVENTORY}'")))
    }

    #[test]
    fn a_guest_with_an_owner_starts() {
        for metadata in [
            "<metadata><i:owner>Web Team</i:owner></metadata>",
            "<metadata>\n  <i:guest>\n<i:owner since='2025'>Web Team</i:owner></i:guest></metadata>",
            "<metadata><i:guest><!-- ask them --><i:owner><!-- day shift -->Web Team</i:owner></i:guest></metadata>",
            "<metadata><i:owner><![CDATA[Web Team]]></i:owner></metadata>",
            "<metadata><other xmlns='urn:other'/><owner xmlns='https://inventory.example.org/libvirt/1.0'>W</owner></metadata>",
        ] {
            assert_eq!(start_with(metadata), Verdict::proceed(), "{metadata}");
        }
    }

    #[test]
    fn a_guest_without_an_owner_does_not() {
        for metadata in [
            "",
            "<metadata/>",
            "<metadata></metadata>",
            "<metadata><i:owner/></metadata>",
            "<metadata><i:owner since='2025'/></metadata>",
            "<metadata><i:owner> \n </i:owner></metadata>",
            "<metadata><i:former-owner>Web Team</i:former-owner></metadata>",
            "<metadata><owner>Web Team</owner></metadata>",
            "<owner>Web Team</owner>",
            "<title>owner</title><owner>Web Team</owner><metadata/>",
        ] {
            assert!(start_with(metadata).is_veto(), "{metadata}");
        }
    }

    #[test]
    fn what_is_commented_out_does_not_count() {
        for metadata in [
            "<metadata><!-- <i:owner>Web Team</i:owner> --></metadata>",
            "<!-- <metadata><i:owner>Web Team</i:owner></metadata> -->",
            "<metadata><i:owner><!-- Web Team --></i:owner></metadata>",
            "<metadata><i:guest><![CDATA[<i:owner>Web Team</i:owner>]]></i:guest></metadata>",
            "<metadata><?note <i:owner>Web Team</i:owner> ?></metadata>",
            "<metadata><!-- <i:owner>Web Team</i:owner> </metadata>",
        ] {
            assert!(start_with(metadata).is_veto(), "{metadata}");
        }
    }

    #[test]
    fn the_veto_names_the_guest_and_what_to_add() {
        assert_eq!(
            start_with("").message(),
            "guest web1 has no owner: add <inventory:owner>NAME</inventory:owner> to its <metadata> (virsh edit web1)"
        );
    }

    #[test]
    fn both_operations_before_a_start_are_checked_and_no_other() {
        for (operation, vetoes) in
            [("prepare", true), ("start", true), ("started", false), ("stopped", false), ("release", false)]
        {
            assert_eq!(decision(operation, "<domain/>").is_veto(), vetoes, "{operation}");
        }
    }

    #[test]
    fn what_cannot_be_read_as_a_domain_does_not_start() {
        assert!(decision("start", "").is_veto());
        let no_text = Event::new("web1", "start").with_document(b"<domain>\xff</domain>");
        assert!(Verdict::from(decide(&no_text)).is_veto());
    }

    #[test]
    fn the_example_documents_are_told_apart() {
        assert_eq!(decision("start", include_str!("../../../web1.xml")), Verdict::proceed());
        assert!(decision("start", include_str!("../../../web2.xml")).is_veto());
    }
}
