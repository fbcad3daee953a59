//! The identity and state of a file. Files with equal identities have equal contents.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
#[cfg(feature = "wasm")]
use std::time::{Duration, SystemTime};

/// After a change this recent, a further change may not show in the file's times.
#[cfg(feature = "wasm")]
const UNSETTLED: Duration = Duration::from_secs(2);

/// Device, inode, size, modification time and change time. Only root can set a change time, through the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity([u64; 7]);

impl Identity {
    pub(crate) fn of(found: &Metadata) -> Self {
        let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()].map(i64::cast_unsigned);
        let [mtime, mtime_nsec, ctime, ctime_nsec] = times;
        Self([found.dev(), found.ino(), found.size(), mtime, mtime_nsec, ctime, ctime_nsec])
    }
}

/// The values that a stamp in the cache stores.
#[cfg(feature = "wasm")]
impl Identity {
    pub(crate) const SIZE: usize = 7 * 8;

    /// Whether a later change would be visible.
    pub(crate) fn is_settled(&self) -> bool {
        let [.., ctime, ctime_nsec] = self.0;
        let changed = Duration::new(ctime, u32::try_from(ctime_nsec).unwrap_or_default());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(changed).is_some_and(|age| age > UNSETTLED)
    }

    pub(crate) fn device_and_inode(&self) -> [u64; 2] {
        [self.0[0], self.0[1]]
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        for (field, value) in bytes.chunks_exact_mut(8).zip(self.0) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// As if the last change had been that long ago.
    #[cfg(test)]
    pub(crate) fn changed_before(mut self, age: Duration) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.0[5] = now.saturating_sub(age).as_secs();
        self
    }
}
