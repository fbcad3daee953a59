//! Warnings about grants that give a hook more than it needs.

use std::path::Path;

/// Programs that can run other programs or write files whatever their arguments are.
const DANGEROUS: [&str; 22] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "python",
    "python3",
    "perl",
    "ruby",
    "node",
    "awk",
    "sed",
    "env",
    "xargs",
    "find",
    "tee",
    "dd",
    "sudo",
    "systemd-run",
    "nsenter",
    "chroot",
    "ssh",
];

/// Directories of programs that the system runs.
const OF_PROGRAMS: [&str; 8] =
    ["/bin", "/sbin", "/lib", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/local/bin", "/usr/local/sbin"];

/// A warning about a granted program.
pub(super) fn of_program(program: &str) -> Option<String> {
    let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let is_dangerous = DANGEROUS.contains(&name) || DANGEROUS.contains(&base);
    is_dangerous.then(|| {
        format!("{name} can run or write more than its arguments show: grant a program made for this hook instead")
    })
}

/// A warning about a granted directory.
pub(super) fn of_directory<'a>(
    directory: &str,
    writes: bool,
    hook: &Path,
    mut programs: impl Iterator<Item = &'a str>,
) -> Option<String> {
    if ["/", "/etc", "/tmp", "/proc", "/dev"].contains(&directory) {
        return Some(format!("{directory} contains far more than this hook needs"));
    }
    if !writes {
        return None;
    }
    if hook.starts_with(directory) {
        return Some("it contains this hook, which could change itself: let it write to another directory".to_owned());
    }
    let is_or_has_one = |of: &&str| Path::new(of).starts_with(directory) || Path::new(directory).starts_with(of);
    let is_named_so = ["bin", "sbin", "libexec"].iter().any(|name| Path::new(directory).ends_with(name));
    let has_programs =
        OF_PROGRAMS.iter().any(is_or_has_one) || programs.any(|one| Path::new(one).starts_with(directory));
    (is_named_so || has_programs)
        .then(|| "it contains programs, which the hook could replace: let it write to another directory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writable_directory_of_programs_has_a_warning() {
        let warning = |directory: &str, writes| {
            let programs = ["/srv/tools/report"].into_iter();
            of_directory(directory, writes, Path::new("/hooks/qemu.d/10-a"), programs).unwrap_or_default()
        };
        for directory in ["/usr", "/usr/local/bin", "/usr/lib/systemd", "/opt/x/sbin", "/srv/tools", "/srv"] {
            assert!(warning(directory, true).starts_with("it contains programs"), "{directory}");
            assert_eq!(warning(directory, false), "", "{directory}");
        }
        assert!(warning("/hooks/qemu.d", true).starts_with("it contains this hook"));
        assert!(warning("/etc", false).contains("far more"));
        for directory in ["/var/log", "/sys/kernel/mm/hugepages", "/srv/data", "/usrlocal", "/hooks/qemu.d/10"] {
            assert_eq!(warning(directory, true), "", "{directory}");
        }
    }
}
