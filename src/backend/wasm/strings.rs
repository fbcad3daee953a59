//! A guest's arguments or environment in the form of WASI preview 1.

/// `errno`: success, a bad address, a bad argument.
const SUCCESS: u32 = 0;
const FAULT: u32 = 21;
const INVAL: u32 = 28;

/// NUL-terminated strings, stored the way the guest receives them.
#[derive(Debug, Default)]
pub(super) struct Strings {
    count: u32,
    bytes: Vec<u8>,
}

impl Strings {
    /// Adds one string, given in pieces.
    pub(super) fn push(&mut self, pieces: &[&[u8]]) {
        self.count += 1;
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        self.bytes.push(0);
    }

    /// Writes the strings to `content` and a pointer to each to `list`. Returns an `errno`.
    pub(super) fn write(&self, memory: &mut [u8], list: u32, content: u32) -> u32 {
        if !list.is_multiple_of(4) {
            return INVAL;
        }
        let (list, content) = (list as usize, content as usize);
        let Some(copy) = memory.get_mut(content..).and_then(|rest| rest.get_mut(..self.bytes.len())) else {
            return FAULT;
        };
        copy.copy_from_slice(&self.bytes);
        let Some(list) = memory.get_mut(list..).and_then(|rest| rest.get_mut(..self.count as usize * 4)) else {
            return FAULT;
        };
        let mut at = content;
        for (pointer, string) in list.chunks_exact_mut(4).zip(self.bytes.split_inclusive(|&byte| byte == 0)) {
            pointer.copy_from_slice(&(at as u32).to_le_bytes());
            at += string.len();
        }
        SUCCESS
    }

    /// Writes the number of strings and of bytes. Returns an `errno`.
    pub(super) fn write_sizes(&self, memory: &mut [u8], count: u32, size: u32) -> u32 {
        for (value, at) in [(self.count as usize, count), (self.bytes.len(), size)] {
            if !at.is_multiple_of(4) {
                return INVAL;
            }
            let Some(place) = memory.get_mut(at as usize..).and_then(|rest| rest.get_mut(..4)) else { return FAULT };
            place.copy_from_slice(&(value as u32).to_le_bytes());
        }
        SUCCESS
    }
}
