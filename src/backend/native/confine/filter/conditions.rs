//! Conditions on the arguments of a system call.

/// What happens to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// EPERM.
    Refuse,
    /// ENOSYS, as in an older kernel.
    Hide,
    /// The runtime decides.
    Ask,
}

impl Verdict {
    /// What the program returns for it.
    pub(super) const fn action(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Refuse => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            Self::Hide => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
            Self::Ask => libc::SECCOMP_RET_USER_NOTIF,
        }
    }
}

/// A condition on 32 bits of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// The offset in seccomp_data.
    pub(super) at: u32,
    pub(super) mask: u32,
    pub(super) value: u32,
    /// Whether it holds if the bits have this value, or if they have another.
    pub(super) if_equal: bool,
}

/// The argument has this value.
pub(super) const fn equal(argument: u8, value: i32) -> Condition {
    masked(argument, u32::MAX as u64, value as u32 as u64)
}

/// The bits of the mask have this value.
pub(super) const fn masked(argument: u8, mask: u64, value: u64) -> Condition {
    Condition { at: lower_half(argument), mask: mask as u32, value: value as u32, if_equal: true }
}

/// The argument is none of these values.
pub(super) fn none_of(argument: u8, values: &[u64]) -> Vec<Condition> {
    values.iter().map(|&value| masked(argument, u32::MAX.into(), value).not()).collect()
}

/// The argument has this value in all its 64 bits.
pub(super) fn is_address(argument: u8, address: u64) -> [Condition; 2] {
    let low = masked(argument, u32::MAX.into(), address);
    [low, Condition { at: low.at + 4, value: (address >> 32) as u32, ..low }]
}

/// On a little-endian machine.
const fn lower_half(argument: u8) -> u32 {
    16 + 8 * argument as u32
}

impl Condition {
    pub(super) const fn not(self) -> Self {
        Self { if_equal: !self.if_equal, ..self }
    }

    #[cfg(test)]
    pub(super) fn holds(self, arguments: [u64; 6]) -> bool {
        let argument = arguments[(self.at as usize - 16) / 8];
        let half = if self.at.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 };
        (half & self.mask == self.value) == self.if_equal
    }
}
