use std::fmt;

use roxmltree::Node;

use super::domain::children;

/// A disk, CD-ROM or floppy drive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk<'xml> {
    /// The kind of device that the guest sees: `disk`, `cdrom`, `floppy` or `lun`.
    pub device: &'xml str,
    /// Where the content is stored; `None` for an empty drive.
    pub source: Option<DiskSource<'xml>>,
    /// The format of the content, such as `raw` or `qcow2`.
    pub format: Option<&'xml str>,
    /// The device name in the guest, such as `vda`.
    pub target: Option<&'xml str>,
    /// The bus, such as `virtio`.
    pub bus: Option<&'xml str>,
    /// Whether the disk is read-only for the guest.
    pub read_only: bool,
    /// Whether several guests may use the disk at the same time.
    pub shareable: bool,
}

/// Where a disk's content is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskSource<'xml> {
    /// An image file.
    File(&'xml str),
    /// A block device of the host.
    Block(&'xml str),
    /// A directory, presented as a drive.
    Directory(&'xml str),
    /// A volume of one of libvirt's storage pools.
    Volume {
        /// The pool's name.
        pool: &'xml str,
        /// The volume's name.
        volume: &'xml str,
    },
    /// Storage on another machine.
    Network {
        /// The protocol, such as `rbd`, `iscsi` or `nbd`.
        protocol: &'xml str,
        /// The name of the volume or export on that machine.
        name: Option<&'xml str>,
    },
    /// Any other source, by the disk's type.
    Other(&'xml str),
}

impl<'xml> Disk<'xml> {
    pub(super) fn new(disk: Node<'xml, '_>) -> Self {
        Self {
            device: disk.attribute("device").unwrap_or("disk"),
            source: child(disk, "source").map(|source| DiskSource::new(disk, source)),
            format: child_attribute(disk, "driver", "type"),
            target: child_attribute(disk, "target", "dev"),
            bus: child_attribute(disk, "target", "bus"),
            read_only: child(disk, "readonly").is_some(),
            shareable: child(disk, "shareable").is_some(),
        }
    }
}

impl<'xml> DiskSource<'xml> {
    fn new(disk: Node<'xml, '_>, source: Node<'xml, '_>) -> Self {
        let kind = disk.attribute("type").unwrap_or("file");
        let named = |name| source.attribute(name);
        let known = match kind {
            "file" => named("file").map(Self::File),
            "block" => named("dev").map(Self::Block),
            "dir" => named("dir").map(Self::Directory),
            "volume" => named("pool").zip(named("volume")).map(|(pool, volume)| Self::Volume { pool, volume }),
            "network" => named("protocol").map(|protocol| Self::Network { protocol, name: named("name") }),
            _ => None,
        };
        known.unwrap_or(Self::Other(kind))
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface<'xml> {
    /// How it is connected: `network`, `bridge`, `direct`, `user`, …
    pub kind: &'xml str,
    /// The MAC address.
    pub mac: Option<&'xml str>,
    /// The host's network, bridge or device that it is connected to.
    pub source: Option<&'xml str>,
    /// The model that the guest sees, such as `virtio`.
    pub model: Option<&'xml str>,
    /// The name of the interface on the host, such as `vnet0`. It is set after the guest has started.
    pub target: Option<&'xml str>,
}

impl<'xml> Interface<'xml> {
    pub(super) fn new(interface: Node<'xml, '_>) -> Self {
        let source = child(interface, "source");
        let named = |name| source.and_then(|source| source.attribute(name));
        Self {
            kind: interface.attribute("type").unwrap_or_default(),
            mac: child_attribute(interface, "mac", "address"),
            source: named("network").or_else(|| named("bridge")).or_else(|| named("dev")),
            model: child_attribute(interface, "model", "type"),
            target: child_attribute(interface, "target", "dev"),
        }
    }
}

/// A host device that is passed through to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostDevice<'xml> {
    /// The kind of device: `pci`, `usb`, `scsi`, `mdev`, …
    pub kind: &'xml str,
    /// Whether libvirt detaches the device from the host's driver and reattaches it.
    pub managed: bool,
    /// The host address of a PCI device.
    pub pci: Option<PciAddress>,
    /// The vendor and product of a USB device that is selected by them, such as `0x046d` and `0xc52b`.
    pub usb: Option<(&'xml str, &'xml str)>,
    /// The UUID of a mediated device.
    pub mdev: Option<&'xml str>,
}

impl<'xml> HostDevice<'xml> {
    pub(super) fn new(hostdev: Node<'xml, '_>) -> Self {
        let kind = hostdev.attribute("type").unwrap_or_default();
        let source = child(hostdev, "source");
        let address = source.and_then(|source| child(source, "address"));
        let id = |name| source.and_then(|source| child_attribute(source, name, "id"));
        Self {
            kind,
            managed: hostdev.attribute("managed") == Some("yes"),
            pci: address.filter(|_| kind == "pci").and_then(PciAddress::new),
            usb: id("vendor").zip(id("product")),
            mdev: address.filter(|_| kind == "mdev").and_then(|address| address.attribute("uuid")),
        }
    }
}

/// A PCI address. It is displayed as in `/sys/bus/pci/devices`: `0000:01:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PciAddress {
    /// The domain, usually 0.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The slot.
    pub slot: u8,
    /// The function.
    pub function: u8,
}

impl PciAddress {
    fn new(address: Node<'_, '_>) -> Option<Self> {
        let field = |name| {
            let text = address.attribute(name)?;
            match text.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok(),
                None => text.parse().ok(),
            }
        };
        let byte = |name| field(name).and_then(|number| u8::try_from(number).ok());
        let domain = if address.has_attribute("domain") { field("domain")? } else { 0 };
        Some(Self { domain, bus: byte("bus")?, slot: byte("slot")?, function: byte("function")? })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.slot, self.function)
    }
}

fn child<'tree, 'xml>(parent: Node<'tree, 'xml>, name: &'static str) -> Option<Node<'tree, 'xml>> {
    children(parent, name).next()
}

fn child_attribute<'tree>(parent: Node<'tree, '_>, name: &'static str, attribute: &str) -> Option<&'tree str> {
    child(parent, name)?.attribute(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::{Domain, DomainError};

    type TestResult = Result<(), DomainError>;

    fn with_devices(devices: &str) -> String {
        format!("<domain><devices>{devices}</devices></domain>")
    }

    #[test]
    fn a_disk_has_a_source_and_a_target() -> TestResult {
        let domain = Domain::parse(include_str!("../../../examples/web1.xml"))?;
        let disk = Disk {
            device: "disk",
            source: Some(DiskSource::File("/var/lib/libvirt/images/web1.qcow2")),
            format: Some("qcow2"),
            target: Some("vda"),
            bus: Some("virtio"),
            read_only: false,
            shareable: false,
        };
        let cdrom = Disk {
            device: "cdrom",
            source: None,
            format: Some("raw"),
            target: Some("sda"),
            bus: Some("sata"),
            read_only: true,
            shareable: false,
        };
        assert_eq!(domain.disks().collect::<Vec<_>>(), [disk, cdrom]);
        Ok(())
    }

    #[test]
    fn a_disk_is_not_only_a_file() -> TestResult {
        let xml = with_devices(
            "<disk type='block'><source dev='/dev/vg/a'/><shareable/></disk>\
             <disk type='dir'><source dir='/srv'/></disk>\
             <disk type='volume'><source pool='p' volume='v'/></disk>\
             <disk type='network'><source protocol='rbd' name='pool/image'/></disk>\
             <disk type='nvme'><source type='pci'/></disk>\
             <disk type='file'><source startupPolicy='optional'/></disk>",
        );
        let expected = [
            DiskSource::Block("/dev/vg/a"),
            DiskSource::Directory("/srv"),
            DiskSource::Volume { pool: "p", volume: "v" },
            DiskSource::Network { protocol: "rbd", name: Some("pool/image") },
            DiskSource::Other("nvme"),
            DiskSource::Other("file"),
        ];
        let domain = Domain::parse(&xml)?;
        assert_eq!(domain.disks().map(|disk| disk.source).collect::<Vec<_>>(), expected.map(Some));
        assert_eq!(domain.disks().filter(|disk| disk.shareable).count(), 1);
        Ok(())
    }

    #[test]
    fn an_interface_names_its_connection() -> TestResult {
        let xml = with_devices(
            "<interface type='network'><mac address='52:54:00:6b:3c:58'/><source network='default'/>\
             <model type='virtio'/><target dev='vnet0'/></interface>\
             <interface type='bridge'><source bridge='br0'/></interface>\
             <interface type='direct'><source dev='eth0' mode='bridge'/></interface>\
             <interface type='user'/>",
        );
        let domain = Domain::parse(&xml)?;
        let sources: Vec<_> = domain.interfaces().map(|interface| (interface.kind, interface.source)).collect();
        let expected =
            [("network", Some("default")), ("bridge", Some("br0")), ("direct", Some("eth0")), ("user", None)];
        assert_eq!(sources, expected);
        let first = domain.interfaces().next().map(|first| (first.mac, first.model, first.target));
        assert_eq!(first, Some((Some("52:54:00:6b:3c:58"), Some("virtio"), Some("vnet0"))));
        Ok(())
    }

    #[test]
    fn a_passed_through_device_is_named_as_the_host_names_it() -> TestResult {
        let xml = with_devices(
            "<hostdev mode='subsystem' type='pci' managed='yes'><source>\
             <address domain='0x0000' bus='0x0a' slot='0x1f' function='0x7'/></source>\
             <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></hostdev>\
             <hostdev mode='subsystem' type='pci'><source><address bus='300' slot='0' function='0'/></source></hostdev>\
             <hostdev mode='subsystem' type='usb'><source><vendor id='0x046d'/><product id='0xc52b'/></source></hostdev>\
             <hostdev mode='subsystem' type='mdev'><source><address uuid='c2177883'/></source></hostdev>",
        );
        let domain = Domain::parse(&xml)?;
        let devices: Vec<_> = domain.hostdevs().collect();
        assert_eq!(devices[0].pci.map(|pci| pci.to_string()).as_deref(), Some("0000:0a:1f.7"));
        assert_eq!((devices[0].kind, devices[0].managed, devices[1].managed), ("pci", true, false));
        assert_eq!(devices[1].pci, None);
        assert_eq!(devices[2].usb, Some(("0x046d", "0xc52b")));
        assert_eq!(devices[3].mdev, Some("c2177883"));
        Ok(())
    }
}
