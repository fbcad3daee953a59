//! Sealed files in memory, which cannot be changed.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Makes the file executable whatever the sysctl vm.memfd_noexec is. Linux before 6.3 does not know the flag.
const EXECUTABLE: MFdFlags = MFdFlags::from_bits_retain(0x10);

/// A file with this content.
pub(super) fn sealed_file(contents: &[u8]) -> std::io::Result<OwnedFd> {
    seal(new(MFdFlags::empty())?, contents)
}

/// A program.
pub(super) fn sealed_program(contents: &[u8]) -> std::io::Result<OwnedFd> {
    let file = match new(EXECUTABLE) {
        Err(Errno::EINVAL) => new(MFdFlags::empty()),
        made => made,
    };
    seal(file?, contents)
}

fn new(flags: MFdFlags) -> Result<OwnedFd, Errno> {
    memfd_create(c"hookvisor", flags | MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
}

fn seal(file: OwnedFd, contents: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = File::from(file);
    file.write_all(contents)?;
    file.rewind()?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}
