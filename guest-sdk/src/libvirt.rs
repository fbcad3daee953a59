//! libvirt's domain document, as a hook gets it on stdin.
//!
//! The names are those of [libvirt's own description](https://libvirt.org/formatdomain.html). What has no method here
//! is reached by [`Domain::root`], element by element.

mod devices;
mod domain;

pub use devices::{Disk, DiskSource, HostDevice, Interface, PciAddress};
pub use domain::{Domain, DomainError, Vcpu};
pub use roxmltree;
