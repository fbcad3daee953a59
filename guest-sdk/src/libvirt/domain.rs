use std::error::Error;
use std::fmt;

use roxmltree::{Document, Node, ParsingOptions};

use super::{Disk, HostDevice, Interface};
use crate::{Event, EventError};

/// How many elements, attributes and pieces of text a document may have; libvirt's have some hundreds.
const MAX_NODES: u32 = 1 << 20;

/// A guest of libvirt, as its domain XML describes it.
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

/// How many virtual processors a guest has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vcpu {
    /// How many it can have.
    pub maximum: u32,
    /// How many it starts with.
    pub current: u32,
    /// The host's processors that they run on by default, such as `0-3,^2`.
    pub cpuset: Option<String>,
}

impl<'xml> Domain<'xml> {
    /// Reads a domain document.
    ///
    /// # Errors
    /// It is not well-formed XML, has a document type (libvirt's have none), or its root is not `<domain>`.
    pub fn parse(xml: &'xml str) -> Result<Self, DomainError> {
        let options = ParsingOptions { nodes_limit: MAX_NODES, ..ParsingOptions::default() };
        let document = Document::parse_with_options(xml, options).map_err(DomainError::NotXml)?;
        let root = document.root_element().tag_name();
        if (root.name(), root.namespace()) != ("domain", None) {
            return Err(DomainError::NotADomain { root: root.name().to_owned() });
        }
        Ok(Self { document })
    }

    /// The `<domain>` element, for all that has no method here.
    pub fn root(&self) -> Node<'_, 'xml> {
        self.document.root_element()
    }

    /// The guest's name.
    ///
    /// # Errors
    /// There is none.
    pub fn name(&self) -> Result<&str, DomainError> {
        self.required("name")
    }

    /// The guest's UUID, as it is written.
    ///
    /// # Errors
    /// There is none.
    pub fn uuid(&self) -> Result<&str, DomainError> {
        self.required("uuid")
    }

    /// A short description of the guest.
    pub fn title(&self) -> Option<&str> {
        self.text("title")
    }

    /// The memory that the guest has at most, in bytes.
    ///
    /// # Errors
    /// It is missing, no number, or in an unknown unit.
    pub fn memory(&self) -> Result<u64, DomainError> {
        self.bytes("memory")
    }

    /// The memory that the guest starts with, in bytes.
    ///
    /// # Errors
    /// As [`memory`](Self::memory), which stands in where this is missing.
    pub fn current_memory(&self) -> Result<u64, DomainError> {
        match self.element("currentMemory") {
            Some(_) => self.bytes("currentMemory"),
            None => self.memory(),
        }
    }

    /// The guest's virtual processors; one, if the document does not say.
    ///
    /// # Errors
    /// It says something that is no number.
    pub fn vcpu(&self) -> Result<Vcpu, DomainError> {
        let Some(vcpu) = self.element("vcpu") else {
            return Ok(Vcpu { maximum: 1, current: 1, cpuset: None });
        };
        let maximum = number("vcpu", text_of(vcpu).unwrap_or_default())?;
        let current = vcpu.attribute("current").map_or(Ok(maximum), |current| number("vcpu current", current))?;
        Ok(Vcpu { maximum, current, cpuset: vcpu.attribute("cpuset").map(str::to_owned) })
    }

    /// Disks, CD-ROM and floppy drives.
    pub fn disks(&self) -> impl Iterator<Item = Disk<'_>> {
        self.devices("disk").map(Disk::new)
    }

    /// Network interfaces, without those that are a passed-through device ([`hostdevs`](Self::hostdevs)).
    pub fn interfaces(&self) -> impl Iterator<Item = Interface<'_>> {
        self.devices("interface").map(Interface::new)
    }

    /// Devices of the host that the guest has for itself.
    pub fn hostdevs(&self) -> impl Iterator<Item = HostDevice<'_>> {
        self.devices("hostdev").map(HostDevice::new)
    }

    /// The element in `<metadata>` of this namespace. libvirt allows one for each.
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
    /// The document as libvirt's description of a guest.
    ///
    /// # Errors
    /// As [`document_str`](Self::document_str) and [`Domain::parse`].
    pub fn domain(&self) -> Result<Domain<'_>, DomainError> {
        Domain::parse(self.document_str().map_err(DomainError::Event)?)
    }
}

/// The child elements of this name. libvirt's own elements have no namespace.
pub(super) fn children<'tree, 'xml>(
    parent: Node<'tree, 'xml>,
    name: &'static str,
) -> impl Iterator<Item = Node<'tree, 'xml>> {
    parent.children().filter(move |child| child.is_element() && child.tag_name() == name.into())
}

/// The text of an element up to its first child element or comment, without the space around it; `None` if there is none.
fn text_of<'tree>(element: Node<'tree, '_>) -> Option<&'tree str> {
    element.text().map(str::trim).filter(|text| !text.is_empty())
}

fn number<N: std::str::FromStr>(what: &'static str, text: &str) -> Result<N, DomainError> {
    text.parse().map_err(|_| DomainError::Unreadable { what, text: text.to_owned() })
}

/// libvirt's units: powers of 1024 but for those that end in `B` alone.
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

/// Why a domain document is none, or lacks what every guest has. A hook that passes it on with `?` vetoes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DomainError {
    /// There is no document to read.
    Event(EventError),
    /// It is not well-formed XML.
    NotXml(roxmltree::Error),
    /// It describes something else, such as a network.
    NotADomain {
        /// The name of its first element.
        root: String,
    },
    /// An element is missing or empty.
    Missing {
        /// The element's name.
        element: &'static str,
    },
    /// A number is none, or its unit is unknown.
    Unreadable {
        /// What it should have said.
        what: &'static str,
        /// What it says.
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
