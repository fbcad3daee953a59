//! Large pages for the memory that a large document is read into: a page fault for each 2 MiB instead of each 4 KiB.
#![expect(unsafe_code, reason = "no safe function gives advice about a memory that wasmtime has mapped")]

/// The beginning of a memory has small pages. It is enough for most documents, and part of it stays resident.
const SMALL: usize = 4 << 20;
/// A smaller rest of a document is not worth it, since memory is then taken in whole large pages.
const WORTHWHILE: usize = 8 << 20;

/// How far one guest's memory has been looked at.
pub(super) struct LargePages {
    asked: usize,
}

impl LargePages {
    pub(super) fn new() -> Self {
        Self { asked: SMALL }
    }

    /// Asks for large pages in what the memory has grown by, if that much of the document is left to read.
    pub(super) fn ask(&mut self, memory: &mut [u8], left: impl FnOnce() -> usize) {
        let Some(grown) = memory.get_mut(self.asked..).filter(|grown| !grown.is_empty()) else { return };
        if left() < WORTHWHILE {
            return;
        }
        self.asked += grown.len();
        // A system without large pages refuses this, and nothing changes.
        // SAFETY: the range is borrowed here alone, and the advice leaves its content as it is.
        unsafe { libc::madvise(grown.as_mut_ptr().cast(), grown.len(), libc::MADV_HUGEPAGE) };
    }
}
