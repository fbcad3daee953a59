//! Parser for libvirt's domain XML, which a hook receives on stdin.
//!
//! Names follow [libvirt's format description](https://libvirt.org/formatdomain.html). For elements without a method
//! here, use [`Domain::root`].

mod devices;
mod domain;

pub use devices::{Disk, DiskSource, HostDevice, Interface, PciAddress};
pub use domain::{Domain, DomainError, Vcpu};
pub use roxmltree;
