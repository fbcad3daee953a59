use std::error::Error;
use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

use super::{Disk, HostDevice, Interface};
use crate::{Event, EventError};

/// Limit on elements, attributes and text nodes in a document. libvirt's documents have some hundreds.
const MAX_NODES: u32 = 1 << 20;

/// A libvirt guest, parsed from its domain XML.
///
/// ```
/// use hookvisor_guest::Event;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let event = Event::new("web1", "prepare").with_document("<domain><name>web1</name><memory>1024</memory></domain>");
/// let domain = event.domain()?;
/// assert_eq!((domain.name()?, domain.memory()?), ("web1", 1024 << 10));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Domain<'xml> {
    document: Document<'xml>,
}

/// A guest's virtual processors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vcpu {
    /// The maximum number.
    pub maximum: u32,
    /// The number at the start.
    pub current: u32,
    /// The host processors that they run on by default, such as `0-3,^2`.
    pub cpuset: Option<String>,
}

impl<'xml> Domain<'xml> {
    /// Parses a domain document.
    ///
    /// # Errors
    /// The document is not well-formed XML, has a document type declaration, or its root is not `<domain>`.
    pub fn parse(xml: &'xml str) -> Result<Self, DomainError> {
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(xml, options).map_err(DomainError::NotXml)?;
        let root = document.root_element().tag_name();
        if (root.name(), root.namespace()) != ("domain", None) {
            return Err(DomainError::NotADomain { root: root.name().to_owned() });
        }
        Ok(Self { document })
    }

    /// The `<domain>` element. Use it to read elements that have no method here.
    pub fn root(&self) -> Node<'_, 'xml> {
        self.document.root_element()
    }

    /// The guest's name.
    ///
    /// # Errors
    /// The name is missing or empty.
    pub fn name(&self) -> Result<&str, DomainError> {
        self.required("name")
    }

    /// The guest's UUID, as written in the document.
    ///
    /// # Errors
    /// The UUID is missing or empty.
    pub fn uuid(&self) -> Result<&str, DomainError> {
        self.required("uuid")
    }

    /// A short description of the guest.
    pub fn title(&self) -> Option<&str> {
        self.text("title")
    }

    /// The guest's maximum memory, in bytes.
    ///
    /// # Errors
    /// The value is missing or not a number, or its unit is unknown.
    pub fn memory(&self) -> Result<u64, DomainError> {
        self.bytes("memory")
    }

    /// The guest's memory at the start, in bytes. If it is missing, this returns [`memory`](Self::memory).
    ///
    /// # Errors
    /// The same as for [`memory`](Self::memory).
    pub fn current_memory(&self) -> Result<u64, DomainError> {
        match self.element("currentMemory") {
            Some(_) => self.bytes("currentMemory"),
            None => self.memory(),
        }
    }

    /// The guest's virtual processors. The default is one.
    ///
    /// # Errors
    /// A value is not a number.
    pub fn vcpu(&self) -> Result<Vcpu, DomainError> {
        let Some(vcpu) = self.element("vcpu") else {
            return Ok(Vcpu { maximum: 1, current: 1, cpuset: None });
        };
        let maximum = number("vcpu", text_of(vcpu).unwrap_or_default())?;
        let current = vcpu.attribute("current").map_or(Ok(maximum), |current| number("vcpu current", current))?;
        Ok(Vcpu { maximum, current, cpuset: vcpu.attribute("cpuset").map(str::to_owned) })
    }

    /// The disks, CD-ROM drives and floppy drives.
    pub fn disks(&self) -> impl Iterator<Item = Disk<'_>> {
        self.devices("disk").map(Disk::new)
    }

    /// The network interfaces, except passed-through devices ([`hostdevs`](Self::hostdevs)).
    pub fn interfaces(&self) -> impl Iterator<Item = Interface<'_>> {
        self.devices("interface").map(Interface::new)
    }

    /// The host devices that are passed through to the guest.
    pub fn hostdevs(&self) -> impl Iterator<Item = HostDevice<'_>> {
        self.devices("hostdev").map(HostDevice::new)
    }

    /// The element with this namespace in `<metadata>`. libvirt allows one per namespace.
    pub fn metadata(&self, namespace: &str) -> Option<Node<'_, 'xml>> {
        let metadata = self.element("metadata")?;
        metadata.children().find(|child| child.is_element() && child.tag_name().namespace() == Some(namespace))
    }

    fn devices(&self, name: &'static str) -> impl Iterator<Item = Node<'_, 'xml>> {
        self.element("devices").into_iter().flat_map(move |devices| children(devices, name))
    }

    fn element(&self, name: &'static str) -> Option<Node<'_, 'xml>> {
        children(self.root(), name).next()
    }

    fn text(&self, name: &'static str) -> Option<&str> {
        self.element(name).and_then(text_of)
    }

    fn required(&self, name: &'static str) -> Result<&str, DomainError> {
        self.text(name).ok_or(DomainError::Missing { element: name })
    }

    fn bytes(&self, name: &'static str) -> Result<u64, DomainError> {
        let unreadable = |text: &str| DomainError::Unreadable { what: name, text: text.to_owned() };
        let text = self.required(name)?;
        let unit = self.element(name).and_then(|element| element.attribute("unit")).unwrap_or("KiB");
        let unit_bytes = unit_bytes(unit).ok_or_else(|| unreadable(unit))?;
        number::<u64>(name, text)?.checked_mul(unit_bytes).ok_or_else(|| unreadable(text))
    }
}

impl Event {
    /// Parses the document as a libvirt domain.
    ///
    /// # Errors
    /// The same as for [`document_str`](Self::document_str) and [`Domain::parse`].
    pub fn domain(&self) -> Result<Domain<'_>, DomainError> {
        Domain::parse(self.document_str().map_err(DomainError::Event)?)
    }
}

/// The child elements with this name and no namespace, as libvirt's own elements are.
pub(super) fn children<'tree, 'xml>(
    parent: Node<'tree, 'xml>,
    name: &'static str,
) -> impl Iterator<Item = Node<'tree, 'xml>> {
    parent.children().filter(move |child| child.is_element() && child.tag_name() == name.into())
}

/// The trimmed text of an element up to its first child element or comment; `None` if it is empty.
fn text_of<'tree>(element: Node<'tree, '_>) -> Option<&'tree str> {
    element.text().map(str::trim).filter(|text| !text.is_empty())
}

fn number<N: std::str::FromStr>(what: &'static str, text: &str) -> Result<N, DomainError> {
    text.parse().map_err(|_| DomainError::Unreadable { what, text: text.to_owned() })
}

/// libvirt's units: powers of 1000 for `KB`, `MB`, `GB` and `TB`, powers of 1024 for the others.
fn unit_bytes(unit: &str) -> Option<u64> {
    Some(match unit {
        "b" | "bytes" => 1,
        "KB" => 1000,
        "k" | "KiB" => 1 << 10,
        "MB" => 1000 * 1000,
        "M" | "MiB" => 1 << 20,
        "GB" => 1000 * 1000 * 1000,
        "G" | "GiB" => 1 << 30,
        "TB" => 1000 * 1000 * 1000 * 1000,
        "T" | "TiB" => 1 << 40,
        _ => return None,
    })
}

/// Why a domain document or a value in it could not be read. A hook that returns it with `?` vetoes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DomainError {
    /// The document could not be read.
    Event(EventError),
    /// The document is not well-formed XML.
    NotXml(roxmltree::Error),
    /// The document describes something else, such as a network.
    NotADomain {
        /// The name of its root element.
        root: String,
    },
    /// An element is missing or empty.
    Missing {
        /// The element's name.
        element: &'static str,
    },
    /// A value is not a number, or its unit is unknown.
    Unreadable {
        /// The element or attribute.
        what: &'static str,
        /// The text found there.
        text: String,
    },
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(_) => f.write_str("there is no domain XML"),
            Self::NotXml(_) => f.write_str("the document is not well-formed XML"),
            Self::NotADomain { root } => write!(f, "the document is a <{root}>, and no <domain>"),
            Self::Missing { element } => write!(f, "the domain XML has no <{element}>"),
            Self::Unreadable { what, text } => write!(f, "the domain XML says {text:?} for its {what}"),
        }
    }
}

impl Error for DomainError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Event(error) => Some(error),
            Self::NotXml(error) => Some(error),
            Self::NotADomain { .. } | Self::Missing { .. } | Self::Unreadable { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type TestResult = Result<(), DomainError>;

    const WEB1: &str = include_str!("../../../examples/web1.xml");

    fn in_domain(xml: &str) -> String {
        format!("<domain>{xml}</domain>")
    }

    #[test]
    fn a_real_document_is_read() -> TestResult {
        let domain = Domain::parse(WEB1)?;
        assert_eq!((domain.name()?, domain.uuid()?), ("web1", "5b7d2c1e-8f0a-4f63-9c1d-0e6a4b2f7a31"));
        assert_eq!((domain.title(), domain.memory()?), (Some("Web front end 1"), 4 << 30));
        assert_eq!(domain.vcpu()?, Vcpu { maximum: 2, current: 2, cpuset: None });
        let counts = (domain.disks().count(), domain.interfaces().count(), domain.hostdevs().count());
        assert_eq!(counts, (2, 1, 0));
        Ok(())
    }

    #[test]
    fn metadata_is_found_by_its_namespace_whatever_the_prefix() -> TestResult {
        let namespace = "https://inventory.example.org/libvirt/1.0";
        let owner = |domain: &Domain<'_>| {
            let guest = domain.metadata(namespace)?;
            let owner = guest.children().find(|child| child.has_tag_name((namespace, "owner")))?;
            owner.text().map(str::to_owned)
        };
        assert_eq!(owner(&Domain::parse(WEB1)?).as_deref(), Some("Web Team <web-team@example.org>"));
        let renamed = WEB1.replace("inventory:", "i:").replace("xmlns:inventory", "xmlns:i");
        assert!(renamed.contains("<i:owner>"));
        assert_eq!(owner(&Domain::parse(&renamed)?).as_deref(), Some("Web Team <web-team@example.org>"));
        assert!(Domain::parse(WEB1)?.metadata("https://example.org/other").is_none());
        assert!(Domain::parse("<domain/>")?.metadata(namespace).is_none());
        Ok(())
    }

    #[test]
    fn memory_is_in_bytes_whatever_the_unit() -> TestResult {
        let units = [
            ("", 1 << 10),
            (" unit='bytes'", 1),
            (" unit='KB'", 1000),
            (" unit='KiB'", 1 << 10),
            (" unit='MB'", 1_000_000),
            (" unit='M'", 1 << 20),
            (" unit='GB'", 1_000_000_000),
            (" unit='GiB'", 1 << 30),
            (" unit='TB'", 1_000_000_000_000),
            (" unit='TiB'", 1 << 40),
        ];
        for (unit, bytes) in units {
            let xml = in_domain(&format!("<memory{unit}> 3 </memory>"));
            assert_eq!(
                (Domain::parse(&xml)?.memory()?, Domain::parse(&xml)?.current_memory()?),
                (3 * bytes, 3 * bytes)
            );
        }
        let xml = in_domain("<memory>4</memory><currentMemory unit='b'>5</currentMemory>");
        assert_eq!(Domain::parse(&xml)?.current_memory()?, 5);
        Ok(())
    }

    #[test]
    fn processors_can_be_fewer_at_first() -> TestResult {
        let xml = in_domain("<vcpu placement='static' cpuset='0-3,^2' current='2'>4</vcpu>");
        assert_eq!(Domain::parse(&xml)?.vcpu()?, Vcpu { maximum: 4, current: 2, cpuset: Some("0-3,^2".into()) });
        assert_eq!(Domain::parse("<domain/>")?.vcpu()?.current, 1);
        Ok(())
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |xml: &str, read: fn(&Domain<'_>) -> TestResult| {
            let error = Domain::parse(xml).and_then(|domain| read(&domain)).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(error("", |_| Ok(())), "the document is not well-formed XML");
        assert_eq!(error("<domain>", |_| Ok(())), "the document is not well-formed XML");
        assert_eq!(error("<!DOCTYPE domain []><domain/>", |_| Ok(())), "the document is not well-formed XML");
        assert_eq!(error("<network/>", |_| Ok(())), "the document is a <network>, and no <domain>");
        assert_eq!(error("<domain xmlns='urn:x'/>", |_| Ok(())), "the document is a <domain>, and no <domain>");
        assert_eq!(error("<domain/>", |d| d.name().map(drop)), "the domain XML has no <name>");
        assert_eq!(error("<domain><name> </name></domain>", |d| d.name().map(drop)), "the domain XML has no <name>");
        let memory = |xml| error(&in_domain(xml), |d| d.memory().map(drop));
        assert_eq!(memory("<memory>much</memory>"), "the domain XML says \"much\" for its memory");
        assert_eq!(memory("<memory unit='PiB'>1</memory>"), "the domain XML says \"PiB\" for its memory");
        assert!(memory("<memory unit='TiB'>18446744073709551615</memory>").contains("18446744073709551615"));
        assert_eq!(memory("<x:memory xmlns:x='urn:x'>1</x:memory>"), "the domain XML has no <memory>");
    }

    #[test]
    fn what_is_commented_out_does_not_count() -> TestResult {
        let xml = in_domain("<!-- <name>old</name> --><name>new</name><devices><!-- <disk/> --></devices>");
        assert_eq!((Domain::parse(&xml)?.name()?, Domain::parse(&xml)?.disks().count()), ("new", 0));
        Ok(())
    }
}
