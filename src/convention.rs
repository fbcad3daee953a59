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

static BUILT_IN: LazyLock<Vec<Convention>> =
    LazyLock::new(|| libvirt::conventions().chain([oci::convention()]).collect());

static GENERIC: LazyLock<Convention> = LazyLock::new(|| Convention::new(""));

/// The built-in convention of a driver, or else the generic one, which lists no operations.
pub(crate) fn of_driver(driver: &str) -> &'static Convention {
    find(&BUILT_IN, driver).unwrap_or(&GENERIC)
}

fn find<'a>(conventions: &'a [Convention], driver: &str) -> Option<&'a Convention> {
    conventions.iter().find(|convention| convention.driver == driver)
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
        find(&self.own, driver).unwrap_or_else(|| of_driver(driver))
    }

    /// The drivers that have a convention.
    pub(crate) fn drivers(&self) -> impl Iterator<Item = &str> {
        self.own.iter().chain(&*BUILT_IN).map(Convention::driver)
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
        for convention in BUILT_IN.iter().chain([&*GENERIC]) {
            assert_eq!(convention.validate(), Ok(()));
        }
        for driver in LIBVIRT_DRIVERS {
            assert!(of_driver(driver).is_closed(), "{driver}");
        }
    }
}
