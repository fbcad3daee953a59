//! Files that nobody else can have written.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Whether a file belongs to this user and nobody else may write to it. An access control list has no effect without the
/// group's bit.
pub(super) fn is_private(found: &Metadata, user: u32) -> bool {
    found.uid() == user && found.mode() & 0o022 == 0
}
