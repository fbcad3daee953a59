//! Conditions on the arguments of a system call.

use seccompiler::{Error, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

/// Conditions that all hold.
pub(super) type Conditions = Vec<SeccompCondition>;

/// A 32-bit argument and a value.
#[derive(Clone, Copy)]
pub(crate) struct Compared(u8, i32);

pub(crate) fn equal(argument: u8, value: i32) -> Compared {
    Compared(argument, value)
}

impl Compared {
    pub(crate) fn is(self) -> Result<SeccompCondition, Error> {
        compare(self.0, SeccompCmpOp::Eq, self.1 as u32 as u64)
    }

    pub(super) fn not(self) -> Result<SeccompCondition, Error> {
        compare(self.0, SeccompCmpOp::Ne, self.1 as u32 as u64)
    }
}

/// The argument is none of these values.
pub(super) fn none_of(argument: u8, values: &[u64]) -> Result<Conditions, Error> {
    values.iter().map(|&value| compare(argument, SeccompCmpOp::Ne, value)).collect()
}

pub(super) fn compare(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

pub(crate) fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, Error> {
    compare(argument, SeccompCmpOp::MaskedEq(mask), value)
}
