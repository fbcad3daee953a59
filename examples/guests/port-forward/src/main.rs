//! Forwards ports of the host to a guest, as the guest's metadata asks:
//!
//! ```xml
//! <metadata>
//!   <forward:ports xmlns:forward="https://example.org/libvirt/port-forward/1.0" address="192.168.122.10">
//!     <forward:port protocol="tcp" host="8080" guest="80"/>
//!   </forward:ports>
//! </metadata>
//! ```
//!
//! Each guest has its own nftables table, which is removed when the guest stops. It replaces `port-forward.sh`;
//! `port-forward.toml` lists everything that it may run.

use std::error::Error;
use std::fmt::Write;
use std::net::Ipv4Addr;

use hookvisor_guest::libvirt::Domain;
use hookvisor_guest::{Command, Event, Operation, Verdict, hook};

const FORWARD: &str = "https://example.org/libvirt/port-forward/1.0";

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    let up = match event.operation() {
        // A restarted daemon may find its guests running but the rules gone.
        Operation::Started | Operation::Reconnect => true,
        Operation::Stopped => false,
        _ => return Ok(Verdict::proceed()),
    };
    let domain = event.domain()?;
    if domain.metadata(FORWARD).is_none() {
        return Ok(Verdict::proceed());
    }
    let table = table(&domain)?;
    // Deleting a missing table fails, so add it first.
    let mut rules = format!("table ip {table}\ndelete table ip {table}\n");
    if up {
        write!(rules, "table ip {table} {{\nchain prerouting {{\n")?;
        rules.push_str("type nat hook prerouting priority dstnat; policy accept;\n");
        rules.push_str(&forwards(&domain)?);
        rules.push_str("}\n}\n");
    }
    Command::new("nft").args(["-f", "-"]).stdin(rules).run()?;
    Ok(Verdict::proceed())
}

/// The guest's table, named by its UUID: a guest's name may contain nft syntax.
fn table(domain: &Domain<'_>) -> Result<String, Box<dyn Error>> {
    let uuid = domain.uuid()?;
    if !uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Err(format!("{uuid} is not a UUID").into());
    }
    Ok(format!("guest-{uuid}"))
}

/// One rule per port. Every value was parsed, so metadata cannot add other rules.
fn forwards(domain: &Domain<'_>) -> Result<String, Box<dyn Error>> {
    let mut rules = String::new();
    let Some(ports) = domain.metadata(FORWARD) else { return Ok(rules) };
    let address = ports.attribute("address").unwrap_or_default();
    let to: Ipv4Addr = address.parse().map_err(|_| format!("{address:?} is not an IPv4 address"))?;
    for port in ports.children().filter(|child| child.has_tag_name((FORWARD, "port"))) {
        let protocol = match port.attribute("protocol").unwrap_or_default() {
            known @ ("tcp" | "udp") => known,
            other => return Err(format!("{other:?} is not a protocol that can be forwarded: use tcp or udp").into()),
        };
        let number = |name| {
            let number = port.attribute(name).unwrap_or_default();
            number.parse::<u16>().map_err(|_| format!("{number:?} is not a {name} port"))
        };
        writeln!(rules, "{protocol} dport {} dnat to {to}:{}", number("host")?, number("guest")?)?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use hookvisor_guest::testing::{Answer, Harness, Seen};

    use super::*;

    const PORTS: &str = r#"
      <forward:port protocol="tcp" host="8080" guest="80"/>
      <forward:port protocol="udp" host="5353" guest="53"/>"#;

    fn guest_with(address: &str, ports: &str) -> String {
        let forward =
            format!(r#"<forward:ports xmlns:forward="{FORWARD}" address="{address}">{ports}</forward:ports>"#);
        include_str!("../../../web1.xml").replace("<metadata>", &format!("<metadata>{forward}"))
    }

    fn run(operation: Operation, document: &str, answer: Answer) -> Seen {
        let event = Event::new("web1", operation).with_document(document);
        Harness::new(event).command("nft", ["-f", "-"], answer).run(decide)
    }

    fn rules(seen: &Seen) -> String {
        seen.commands.iter().map(|command| String::from_utf8_lossy(command.input()).into_owned()).collect()
    }

    const DOWN: &str = "\
        table ip guest-5b7d2c1e-8f0a-4f63-9c1d-0e6a4b2f7a31\n\
        delete table ip guest-5b7d2c1e-8f0a-4f63-9c1d-0e6a4b2f7a31\n";

    const UP: &str = "\
        table ip guest-5b7d2c1e-8f0a-4f63-9c1d-0e6a4b2f7a31 {\n\
        chain prerouting {\n\
        type nat hook prerouting priority dstnat; policy accept;\n\
        tcp dport 8080 dnat to 192.168.122.10:80\n\
        udp dport 5353 dnat to 192.168.122.10:53\n\
        }\n}\n";

    #[test]
    fn a_started_guest_gets_its_ports() {
        for operation in [Operation::Started, Operation::Reconnect] {
            let seen = run(operation, &guest_with("192.168.122.10", PORTS), Answer::exited(0));
            assert_eq!(seen.verdict, Verdict::proceed());
            assert_eq!((seen.command_lines(), rules(&seen)), (vec!["nft -f -".into()], format!("{DOWN}{UP}")));
        }
    }

    #[test]
    fn a_stopped_guest_loses_them() {
        let seen = run(Operation::Stopped, &guest_with("192.168.122.10", PORTS), Answer::exited(0));
        assert_eq!((seen.verdict.is_veto(), rules(&seen).as_str()), (false, DOWN));
    }

    #[test]
    fn a_guest_without_such_metadata_is_left_alone() {
        let seen = run(Operation::Started, include_str!("../../../web1.xml"), Answer::exited(0));
        assert_eq!((seen.verdict.is_veto(), seen.commands.len()), (false, 0));
        let seen = run(Operation::Prepare, &guest_with("192.168.122.10", PORTS), Answer::exited(0));
        assert_eq!((seen.verdict.is_veto(), seen.commands.len()), (false, 0));
    }

    #[test]
    fn metadata_makes_no_other_rules() {
        let port = |attributes: &str| format!("<forward:port {attributes}/>");
        for (address, ports, message) in [
            ("", PORTS.to_owned(), "\"\" is not an IPv4 address"),
            ("1.1.1.1; drop", PORTS.to_owned(), "\"1.1.1.1; drop\" is not an IPv4 address"),
            (
                "10.0.0.1",
                port("protocol='icmp' host='1' guest='1'"),
                "\"icmp\" is not a protocol that can be forwarded: use tcp or udp",
            ),
            ("10.0.0.1", port("protocol='tcp' host='1 accept' guest='1'"), "\"1 accept\" is not a host port"),
            ("10.0.0.1", port("protocol='udp' host='1' guest='65536'"), "\"65536\" is not a guest port"),
        ] {
            let seen = run(Operation::Started, &guest_with(address, &ports), Answer::exited(0));
            assert_eq!((seen.verdict.message(), seen.commands.len()), (message, 0));
        }
        let renamed = guest_with("10.0.0.1", PORTS).replace("<uuid>", "<uuid>;");
        assert!(run(Operation::Started, &renamed, Answer::exited(0)).verdict.message().ends_with("is not a UUID"));
    }

    #[test]
    fn rules_that_nft_does_not_take_veto_in_its_words() {
        let answer = Answer::exited(1).with_stderr("/dev/stdin:3: Error: syntax error\n");
        let seen = run(Operation::Started, &guest_with("192.168.122.10", PORTS), answer);
        assert_eq!(seen.verdict, Verdict::veto("nft exited with 1: /dev/stdin:3: Error: syntax error"));
    }
}
