//! How daemons name their events. Pure data.
//!
//! A convention lists a driver's operations, the stage of each, and what happens after a veto. Each built-in one is a
//! file in this directory and a line in [`BUILT_IN`]. Daemons and `hookvisor.toml` can add others.

mod libvirt;
mod oci;
pub(crate) mod raw;
pub(crate) mod rules;

use std::sync::LazyLock;

pub use self::libvirt::LIBVIRT_DRIVERS;
use self::rules::{Convention, ConventionError, UnknownOperation};

/// By driver.
static BUILT_IN: [(&str, LazyLock<Convention>); 7] = [
    ("daemon", LazyLock::new(libvirt::daemon)),
    ("qemu", LazyLock::new(libvirt::qemu)),
    ("lxc", LazyLock::new(libvirt::lxc)),
    ("libxl", LazyLock::new(libvirt::libxl)),
    ("bhyve", LazyLock::new(libvirt::bhyve)),
    ("network", LazyLock::new(libvirt::network)),
    ("oci", LazyLock::new(oci::convention)),
];

static GENERIC: LazyLock<Convention> = LazyLock::new(|| Convention::new(""));

/// The built-in convention of a driver, or else the generic one, which lists no operations.
pub(crate) fn of_driver(driver: &str) -> &'static Convention {
    BUILT_IN.iter().find(|(known, _)| *known == driver).map_or(&GENERIC, |(_, convention)| convention)
}

/// The conventions of a runtime: its own and the built-in ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conventions {
    own: Vec<Convention>,
    /// If false, closed lists are not enforced.
    any_operation: bool,
}

impl Conventions {
    /// Of two conventions for one driver, the later one applies.
    pub(crate) fn new(own: Vec<Convention>, any_operation: bool) -> Result<Self, ConventionError> {
        own.iter().try_for_each(Convention::validate)?;
        Ok(Self { own: own.into_iter().rev().collect(), any_operation })
    }

    /// The convention of a driver.
    pub(crate) fn of(&self, driver: &str) -> &Convention {
        self.own.iter().find(|own| own.driver == driver).unwrap_or_else(|| of_driver(driver))
    }

    /// The drivers that have a convention.
    pub(crate) fn drivers(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(Convention::driver).chain(BUILT_IN.iter().map(|(driver, _)| *driver))
    }

    /// Whether hooks can be called for a driver's operation.
    pub(crate) fn check(&self, driver: &str, operation: &str) -> Result<(), UnknownOperation> {
        match self.of(driver).check(operation) {
            Err(error) if error.is_unlisted() && self.any_operation => Ok(()),
            checked => checked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_convention_is_valid() {
        for (driver, convention) in &BUILT_IN {
            assert_eq!((convention.driver(), convention.validate()), (*driver, Ok(())));
        }
        assert_eq!(GENERIC.validate(), Ok(()));
        for driver in LIBVIRT_DRIVERS {
            assert!(of_driver(driver).is_closed(), "{driver}");
        }
    }
}
