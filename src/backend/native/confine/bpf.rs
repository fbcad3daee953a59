//! Instructions of classic BPF, for seccomp filters and for filters of sockets.

use seccompiler::sock_filter;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_CONSTANT: u16 = 0x00;
const AND: u16 = 0x54;
const SHIFT_LEFT_BY_X: u16 = 0x6c;
const TO_X: u16 = 0x07;
const FROM_X: u16 = 0x87;
const RETURN: u16 = 0x06;
const SKIP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const NOT_BELOW: u16 = 0x35;
pub(super) const ANY_BIT: u16 = 0x45;

/// Loads 32 bits.
pub(super) const fn load(offset: u32) -> sock_filter {
    instruction(LOAD_WORD, offset)
}

/// Loads 16 bits in network byte order.
pub(super) const fn load_half(offset: u32) -> sock_filter {
    instruction(LOAD_HALF, offset)
}

pub(super) const fn load_byte(offset: u32) -> sock_filter {
    instruction(LOAD_BYTE, offset)
}

pub(super) const fn and(mask: u32) -> sock_filter {
    instruction(AND, mask)
}

pub(super) const fn load_constant(value: u32) -> sock_filter {
    instruction(LOAD_CONSTANT, value)
}

/// Shifts left by the number in the register X.
pub(super) const fn shift_left_by_x() -> sock_filter {
    instruction(SHIFT_LEFT_BY_X, 0)
}

pub(super) const fn to_x() -> sock_filter {
    instruction(TO_X, 0)
}

pub(super) const fn from_x() -> sock_filter {
    instruction(FROM_X, 0)
}

/// Skips so many instructions if the comparison holds, or otherwise.
pub(super) const fn jump(code: u16, value: u32, then: u8, otherwise: u8) -> sock_filter {
    sock_filter { code, jt: then, jf: otherwise, k: value }
}

/// Skips so many instructions.
pub(super) const fn skip(count: u32) -> sock_filter {
    instruction(SKIP, count)
}

pub(super) const fn answer(action: u32) -> sock_filter {
    instruction(RETURN, action)
}

const fn instruction(code: u16, value: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k: value }
}
