//! Files that only this user can write, and that get their name only when complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// Whether a file belongs to this user and nobody else may write to it. An access control list has no effect without the
/// group's bit.
pub(super) fn is_private(found: &Metadata, user: u32) -> bool {
    found.uid() == user && found.mode() & 0o022 == 0
}

/// A file without a name. It disappears if the process that writes it ends.
pub(super) struct UnnamedFile(File);

impl UnnamedFile {
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).mode(0o600).custom_flags(OFlag::O_TMPFILE.bits());
        options.open(directory).map(Self)
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Gives it this name, and replaces an existing file.
    pub(super) fn link(self, path: &Path) -> io::Result<()> {
        let link = || {
            let unnamed = format!("/proc/self/fd/{}", self.0.as_raw_fd());
            linkat(AT_FDCWD, Path::new(&unnamed), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW)
        };
        match link() {
            // Readers of the old entry keep it open.
            Err(Errno::EEXIST) => {
                fs::remove_file(path)?;
                Ok(link()?)
            }
            other => Ok(other?),
        }
    }
}
