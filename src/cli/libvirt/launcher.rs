//! The file that libvirt calls as a driver's hook: a small script that runs hookvisor.
//!
//! A link to the program would be half a millisecond faster. But if the program disappears, libvirt treats a dangling
//! link as no hook and starts every guest. The script remains, and fails.

use std::fs;
use std::path::Path;

use crate::cli::driver::LAUNCHED;

/// How the second line of every launcher begins.
const MARK: &str = "# Written by `hookvisor libvirt install`";

/// The script for a program.
pub(super) fn text(program: &str) -> String {
    let program = format!("'{}'", program.replace('\'', r"'\''"));
    format!(
        "#!/bin/sh\n\
         {MARK}; `hookvisor libvirt uninstall` removes it.\n\
         [ -x {program} ] && exec {program} {LAUNCHED} \"$0\" \"$@\"\n\
         echo \"hookvisor is missing: no program \"{program}\". Install it again, or remove $0 to start guests without \
         hooks\" >&2\n\
         # libvirt destroys a running guest whose reconnect hook fails.\n\
         [ \"$2\" = reconnect ] || exit 126\n"
    )
}

/// Whether a file is a launcher of this version or another.
pub(super) fn is_one(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.lines().nth(1).is_some_and(|line| line.starts_with(MARK)))
}
