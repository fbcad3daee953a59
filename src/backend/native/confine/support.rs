//! The running kernel's features for confinement.

use std::sync::LazyLock;

use landlock::ABI;

use super::kernel;
use crate::hook::error::LaunchError;

/// The program that covers granted programs. Empty if it does not support this architecture.
pub(super) const SHIM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shim"));
/// The kernel's features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Support {
    /// The version of Landlock's interface; 0 without Landlock.
    landlock: i32,
    /// seccomp filters that can ask the runtime.
    asking: bool,
}

static RUNNING: LazyLock<Support> =
    LazyLock::new(|| Support { landlock: kernel::landlock_abi(), asking: kernel::has_user_notification() });

impl Support {
    pub(super) fn of_the_running_kernel() -> Self {
        *RUNNING
    }

    /// A kernel with this version of Landlock's interface.
    #[cfg(test)]
    pub(super) fn of_landlock(landlock: i32) -> Self {
        Self { landlock, asking: true }
    }

    /// Refuses a kernel without the features that every confined hook needs.
    pub(super) fn check(self) -> Result<(), LaunchError> {
        if SHIM.is_empty() {
            return Err(missing("a processor of type x86_64 or aarch64"));
        }
        if self.landlock < 1 {
            return Err(missing("Landlock (Linux 5.13, and `landlock` in the kernel parameter lsm=, if that is set)"));
        }
        if !self.asking {
            return Err(missing("seccomp user notification (Linux 5.9)"));
        }
        Ok(())
    }

    /// The newest version of Landlock that both the kernel and this program know.
    pub(super) fn abi(self) -> ABI {
        ABI::from(self.landlock.min(7))
    }

    /// Landlock controls truncation (Linux 6.2).
    pub(super) fn truncate(self) -> bool {
        self.landlock >= 3
    }

    /// Landlock restricts signals to the confined processes (Linux 6.12).
    pub(super) fn signals(self) -> bool {
        self.landlock >= 6
    }
}

fn missing(what: &str) -> LaunchError {
    LaunchError::Refused(format!(
        "it cannot be confined here (`confine = true`): this needs {what}, which this system does not have"
    ))
}
