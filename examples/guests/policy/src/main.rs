//! A policy for libvirt guests: whoever runs into trouble with one must find out whom to call.
//!
//! A guest whose domain XML names no owner in its `<metadata>` is not started. What is in
//! `examples/hooks/qemu.d/20-policy.wasm` is this program, built for wasm32-wasip1.

use std::error::Error;

use hookvisor_guest::{Event, Verdict, hook};

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    if !matches!(event.operation(), "prepare" | "start") {
        return Ok(Verdict::proceed());
    }
    let domain = elements_only(event.document_str()?);
    let owner = content(&domain, "metadata").and_then(|metadata| content(metadata, "owner"));
    Ok(match owner.map(str::trim) {
        None | Some("") => Verdict::veto(format!(
            "guest {guest} has no owner: \
             add <inventory:owner>NAME</inventory:owner> to its <metadata> (virsh edit {guest})",
            guest = event.object()
        )),
        Some(_) => Verdict::proceed(),
    })
}

/// What opens and closes the parts of XML whose tags are no tags: comments, CDATA sections, processing instructions.
const NO_ELEMENTS: [(&str, &str); 3] = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")];

/// The XML without those parts, so that a rule is not met by what somebody commented out.
///
/// With [`content`] this is enough for one rule, for libvirt always hands a hook well-formed XML. A policy of many
/// rules wants an XML parser from crates.io: it builds for the sandbox like any other crate.
fn elements_only(mut xml: &str) -> String {
    let mut elements = String::with_capacity(xml.len());
    while let Some((text, _)) = xml.split_once('<') {
        elements.push_str(text);
        xml = &xml[text.len()..];
        match NO_ELEMENTS.iter().find(|(open, _)| xml.starts_with(open)) {
            Some((open, close)) => {
                xml = xml[open.len()..].split_once(close).map_or("", |(_, after)| after);
            }
            None => {
                elements.push('<');
                xml = &xml[1..];
            }
        }
    }
    elements + xml
}

/// What stands in the first element of this name, whatever its namespace prefix.
fn content<'xml>(xml: &'xml str, name: &str) -> Option<&'xml str> {
    xml.match_indices('<').find_map(|(at, _)| {
        let (tag, rest) = xml[at + 1..].split_once('>')?;
        let qualified = tag.split_whitespace().next()?;
        let local = qualified.rsplit_once(':').map_or(qualified, |(_, local)| local);
        if local != name || qualified.starts_with('/') || tag.ends_with('/') {
            return None;
        }
        rest.split_once(&format!("</{qualified}>")).map(|(content, _)| content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(operation: &str, document: &str) -> Verdict {
        decide(&Event::new("web1", operation).with_document(document)).into()
    }

    fn start_with(metadata: &str) -> Verdict {
        decision("start", &format!("<domain><name>web1</name>{metadata}<devices/></domain>"))
    }

    #[test]
    fn a_guest_with_an_owner_starts() {
        for metadata in [
            "<metadata><owner>Web Team</owner></metadata>",
            "<metadata><inventory:owner>Web Team</inventory:owner></metadata>",
            "<metadata>\n  <i:guest xmlns:i='urn:i'>\n<i:owner since='2025'>Web Team</i:owner></i:guest></metadata>",
            "<metadata><!-- ask them --><owner>Web Team<!-- day shift --></owner></metadata>",
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
            "<metadata><owner/></metadata>",
            "<metadata><owner since='2025'/></metadata>",
            "<metadata><owner> \n </owner></metadata>",
            "<metadata><former-owner>Web Team</former-owner></metadata>",
            "<owner>Web Team</owner>",
            "<title>owner</title><owner>Web Team</owner><metadata/>",
        ] {
            assert!(start_with(metadata).is_veto(), "{metadata}");
        }
    }

    #[test]
    fn what_is_commented_out_does_not_count() {
        for metadata in [
            "<metadata><!-- <owner>Web Team</owner> --></metadata>",
            "<!-- <metadata><owner>Web Team</owner></metadata> -->",
            "<metadata><owner><!-- Web Team --></owner></metadata>",
            "<metadata><![CDATA[<owner>Web Team</owner>]]></metadata>",
            "<metadata><?note <owner>Web Team</owner> ?></metadata>",
            "<metadata><!-- <owner>Web Team</owner> </metadata>",
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
