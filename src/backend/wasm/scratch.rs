//! Memory for WASI preview 1 calls that the guest does not see.

use wiggle::GuestMemory;

/// `filetype`: `directory`, `regular_file` and `symbolic_link`. The last appears only if links are not followed.
const OPENABLE: [u8; 3] = [3, 4, 7];
/// A `filestat`: its size, its alignment, and the offset of the `filetype` in it.
const FILESTAT: usize = 64;
const ALIGNMENT: usize = 8;
const FILETYPE: usize = 16;
const INO: usize = 8;

/// Memory for a call of WASI that the guest does not see. It holds a `filestat`, followed by a path.
pub(super) struct ScratchMemory {
    bytes: Vec<u8>,
    /// The address of the `filestat`.
    pub(super) at: i32,
    pub(super) path: i32,
}

impl ScratchMemory {
    pub(super) fn with_path(path: &[u8]) -> Self {
        let mut bytes = Vec::<u8>::with_capacity(ALIGNMENT + FILESTAT + path.len());
        // WASI checks the alignment of the host address.
        let at = bytes.as_ptr().align_offset(ALIGNMENT);
        bytes.resize(at + FILESTAT, 0);
        bytes.extend_from_slice(path);
        let [at, path] = [at, at + FILESTAT].map(|offset| offset as i32);
        Self { bytes, at, path }
    }

    pub(super) fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.bytes)
    }

    /// The `filetype` of the `filestat`.
    pub(super) fn kind(&self) -> Option<u8> {
        self.bytes.get(self.at as usize + FILETYPE).copied()
    }

    pub(super) fn is_openable(&self) -> bool {
        self.kind().is_some_and(|kind| OPENABLE.contains(&kind))
    }

    /// The `ino` of the `filestat`.
    pub(super) fn id(&self) -> u64 {
        let bytes = self.bytes.get(self.at as usize + INO..).and_then(<[u8]>::first_chunk);
        u64::from_le_bytes(bytes.copied().unwrap_or_default())
    }
}
