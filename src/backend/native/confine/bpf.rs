//! Instructions of classic BPF, for seccomp filters and for filters of sockets.

use seccompiler::sock_filter;

const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const SKIP: u16 = 0x05;
pub(super) const EQUAL: u16 = 0x15;
pub(super) const NOT_BELOW: u16 = 0x35;

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
