//! Messages for processes that cannot be started.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;

use crate::hook::error::LaunchError;

pub(super) fn host_error(what: &'static str, errno: Errno) -> LaunchError {
    let why = match errno {
        Errno::EAGAIN => "no more processes or threads are allowed here (`ulimit -u`, or the limit of its cgroup)",
        _ => errno.desc(),
    };
    LaunchError::Host { what, why: why.to_owned() }
}

pub(super) fn c_string(value: &OsStr) -> Result<CString, LaunchError> {
    CString::new(value.as_bytes()).map_err(|_| {
        LaunchError::Refused(format!("{} contains a NUL byte, which cannot be passed to a program", value.display()))
    })
}
