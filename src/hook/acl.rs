//! POSIX access control lists: which further users and groups can write to a file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::io::Errno;

/// The extended attribute that holds the list. `linux/posix_acl_xattr.h` defines its format.
const ATTRIBUTE: &str = "system.posix_acl_access";
const VERSION: u32 = 2;
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const WRITE: u16 = 0x02;
/// More than any file system stores in one attribute.
const LARGEST: usize = 64 << 10;

/// A user or group with write permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writer {
    User(u32),
    Group(u32),
}

/// The first user or group that can write and is not accepted. The only accepted group is root's.
pub(super) fn writer(file: &File, accepts: impl Fn(u32) -> bool) -> io::Result<Option<Writer>> {
    let mut list = vec![0; LARGEST];
    let read = match rustix::fs::fgetxattr(file, ATTRIBUTE, list.as_mut_slice()) {
        // The file was opened with O_PATH.
        Err(Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::getxattr(path, ATTRIBUTE, list.as_mut_slice())
        }
        read => read,
    };
    match read {
        Ok(size) => {
            list.truncate(size);
            first_writer(&list, accepts).ok_or_else(|| io::Error::other("its format is unknown"))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// `None` if this is not a list.
fn first_writer(list: &[u8], accepts: impl Fn(u32) -> bool) -> Option<Option<Writer>> {
    let (version, entries) = list.split_first_chunk()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
        return None;
    }
    let entries = entries.iter().map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| {
        (u16::from_le_bytes([t0, t1]), u16::from_le_bytes([p0, p1]), u32::from_le_bytes([i0, i1, i2, i3]))
    });
    let mask = entries.clone().find(|(tag, ..)| *tag == MASK).map_or(WRITE, |(_, permissions, _)| permissions);
    let mut writers = entries.filter(|(_, permissions, _)| permissions & mask & WRITE != 0);
    Some(writers.find_map(|(tag, _, id)| match tag {
        USER if !accepts(id) => Some(Writer::User(id)),
        GROUP if id != 0 => Some(Writer::Group(id)),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn writers_are_found_unless_the_mask_denies_them() {
        let first = |entries: &[(u16, u16, u32)]| first_writer(&list(entries), |user| user == 0);
        let owner = (0x01, 7, u32::MAX);
        assert_eq!(first(&[owner, (USER, 7, 1000), (MASK, 7, u32::MAX)]), Some(Some(Writer::User(1000))));
        assert_eq!(first(&[owner, (USER, 7, 1000), (MASK, 5, u32::MAX)]), Some(None));
        assert_eq!(first(&[owner, (USER, 5, 1000), (GROUP, 6, 33)]), Some(Some(Writer::Group(33))));
        assert_eq!(first(&[owner, (USER, 7, 0), (GROUP, 6, 0)]), Some(None));
    }

    #[test]
    fn a_malformed_list_is_not_an_empty_one() {
        for wrong in [&[][..], &[2, 0, 0], &[3, 0, 0, 0], &[2, 0, 0, 0, 1]] {
            assert_eq!(first_writer(wrong, |_| true), None, "{wrong:?}");
        }
        assert_eq!(first_writer(&list(&[]), |_| true), Some(None));
    }
}
