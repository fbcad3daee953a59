//! How a family of daemons names its events: pure data.
//!
//! A convention says which operations a driver has, which stage each belongs to, and what is to happen after a veto. A
//! new one is a file beside these and one line in [`of_driver`].

mod generic;
mod libvirt;
pub(crate) mod rules;

pub use self::libvirt::LIBVIRT_DRIVERS;
use self::rules::Convention;

/// The convention that claims this driver.
pub(crate) fn of_driver(driver: &str) -> &'static Convention {
    let claims = |c: &&&'static Convention| c.drivers.contains(&driver);
    [&libvirt::LIBVIRT].iter().find(claims).copied().unwrap_or(&generic::GENERIC)
}
