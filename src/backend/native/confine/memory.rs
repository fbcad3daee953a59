//! Reads the memory of a process that waits for an answer.
//!
//! The process can change its memory right after the read. So a decision is carried out on this copy, or the kernel
//! enforces it.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use nix::unistd::Pid;

/// The longest text, and the maximum number of texts.
const LONGEST: usize = 4096;
const MOST: usize = 64;

/// The memory of a process.
pub(super) struct Memory(File);

impl Memory {
    pub(super) fn of(thread: Pid) -> Option<Self> {
        File::options().read(true).write(true).open(format!("/proc/{thread}/mem")).ok().map(Self)
    }

    /// Numbers of 64 bits.
    pub(super) fn words<const N: usize>(&self, at: u64) -> Option<[u64; N]> {
        let mut words = [[0; 8]; N];
        self.bytes(at, words.as_flattened_mut())?;
        Some(words.map(u64::from_ne_bytes))
    }

    /// Writes to an address.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> Option<()> {
        self.0.write_all_at(bytes, at).ok()
    }

    /// Bytes at an address.
    pub(super) fn bytes(&self, at: u64, buffer: &mut [u8]) -> Option<()> {
        self.0.read_exact_at(buffer, at).ok()
    }

    /// A text that ends with a NUL byte.
    pub(super) fn text(&self, at: u64) -> Option<OsString> {
        let mut text = Vec::new();
        let mut piece = [0; 256];
        while text.len() < LONGEST {
            let at = at.checked_add(text.len() as u64)?;
            // Not beyond the end of a page, since the next one may not exist.
            let left = 4096 - usize::try_from(at % 4096).ok()?;
            let piece = piece.get_mut(..left.min(256))?;
            self.bytes(at, piece)?;
            match piece.iter().position(|&byte| byte == 0) {
                Some(end) => {
                    text.extend_from_slice(piece.get(..end)?);
                    return Some(OsString::from_vec(text));
                }
                None => text.extend_from_slice(piece),
            }
        }
        None
    }

    /// A list of texts that ends with a null pointer.
    pub(super) fn texts(&self, at: u64) -> Option<Vec<OsString>> {
        let mut texts = Vec::new();
        for number in 0..MOST as u64 {
            let [pointer] = self.words(at.checked_add(8 * number)?)?;
            match pointer {
                0 => return Some(texts),
                pointer => texts.push(self.text(pointer)?),
            }
        }
        None
    }
}
