//! A hook's needs, as lines of its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

/// The files that every confined hook may read.
const ALWAYS_READABLE: [&str; 15] = [
    "/usr/lib",
    "/usr/lib64",
    "/lib",
    "/lib64",
    "/usr/share/locale",
    "/usr/share/zoneinfo",
    "/etc/ld.so.cache",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/proc/self",
    "/proc/filesystems",
    "/proc/meminfo",
    "/dev/tty",
];
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

/// How a directory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Access {
    #[default]
    Read,
    ReadWrite,
}

/// A directory, and the reasons for its grant.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) access: Access,
    reasons: BTreeSet<String>,
}

/// Everything that a hook did and that needs a grant.
#[derive(Debug, Default)]
pub(super) struct Learned {
    pub(super) directories: BTreeMap<String, Directory>,
    /// Program and arguments, and the reasons for the grant.
    pub(super) commands: BTreeMap<(String, Vec<String>), BTreeSet<String>>,
    pub(super) connections: BTreeSet<String>,
    /// Actions that no grant allows, and what to do instead.
    pub(super) not_grantable: BTreeSet<String>,
    /// Settings in an earlier file that are not grants.
    others: toml::Table,
}

impl Learned {
    /// A file that the hook used. Its directory is granted.
    pub(super) fn file(&mut self, path: &str, access: Access, is_directory: bool) {
        if path == "/dev/null" {
            return;
        }
        let is_readable = ALWAYS_READABLE.iter().any(|directory| Path::new(path).starts_with(directory));
        if access == Access::Read && is_readable {
            return;
        }
        let parent = Path::new(path).parent().filter(|_| !is_directory).and_then(Path::to_str);
        let directory = self.directories.entry(parent.unwrap_or(path).to_owned()).or_default();
        directory.access = directory.access.max(access);
        let verb = if access == Access::Read { "reads" } else { "writes" };
        directory.reasons.insert(format!("{verb} {path}"));
    }

    pub(super) fn command(&mut self, program: &str, arguments: &[String]) {
        self.commands.entry((program.to_owned(), arguments.to_vec())).or_default();
    }

    /// Replaces words that are equal to the event's names by placeholders.
    pub(super) fn generalise(&mut self, object: &str, operation: &str, event: &str) {
        let commands = std::mem::take(&mut self.commands);
        for ((program, mut arguments), mut reasons) in commands {
            for argument in &mut arguments {
                if object.len() > 1 && argument.contains(object) {
                    *argument = argument.replace(object, "{object}");
                } else if argument == operation {
                    "{operation}".clone_into(argument);
                }
            }
            reasons.insert(format!("at {event}"));
            self.commands.entry((program, arguments)).or_default().extend(reasons);
        }
    }

    /// Adds the output of an earlier run.
    pub(super) fn merge(&mut self, text: &str) -> anyhow::Result<()> {
        let mut table: toml::Table = toml::from_str(text).context("the file to merge is not TOML")?;
        let comments = comments(text);
        let tables = |table: &mut toml::Table, key: &str| match table.remove(key) {
            Some(toml::Value::Array(tables)) => tables,
            _ => Vec::new(),
        };
        let word = |table: &toml::Value, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
        let why = |key: &str, number: usize| comments.get(&(key.to_owned(), number)).cloned().unwrap_or_default();
        for (number, grant) in tables(&mut table, "dir").iter().enumerate() {
            let host = word(grant, "host").context("a [[dir]] without `host`")?;
            let directory = self.directories.entry(host).or_default();
            if word(grant, "access").is_some_and(|access| access != "read") {
                directory.access = Access::ReadWrite;
            }
            directory.reasons.extend(why("dir", number));
        }
        for (number, grant) in tables(&mut table, "command").iter().enumerate() {
            let program = word(grant, "program").context("a [[command]] without `program`")?;
            let arguments = grant.get("args").and_then(toml::Value::as_array).cloned().unwrap_or_default();
            let texts: Option<Vec<String>> =
                arguments.iter().map(|argument| argument.as_str().map(str::to_owned)).collect();
            let texts = texts.with_context(|| {
                format!("the arguments of {program} have a pattern: merge this [[command]] by hand")
            })?;
            self.commands.entry((program, texts)).or_default().extend(why("command", number));
        }
        self.connections.extend(tables(&mut table, "connect").iter().filter_map(|grant| word(grant, "to")));
        let notes = text.lines().filter_map(|line| line.strip_prefix("# not granted: ").map(str::to_owned));
        self.not_grantable.extend(notes);
        table.remove("confine");
        self.others = table;
        Ok(())
    }

    /// The settings.
    pub(super) fn to_toml(&self, confine: bool) -> String {
        let mut text = self.others.to_string();
        if confine {
            text += "confine = true\n";
        }
        for (host, directory) in &self.directories {
            let covered = Path::new(host)
                .ancestors()
                .skip(1)
                .filter_map(Path::to_str)
                .any(|above| self.directories.get(above).is_some_and(|above| above.access >= directory.access));
            if covered {
                continue;
            }
            text.push('\n');
            comment(&mut text, &directory.reasons);
            if host == "/" || host == "/etc" || host == "/tmp" || host == "/proc" || host == "/dev" {
                let _ = writeln!(text, "# warning: {host} contains far more than this hook needs");
            }
            let _ = writeln!(text, "[[dir]]\nhost = {}", quoted(host));
            if directory.access == Access::ReadWrite {
                text += "access = \"read-write\"\n";
            }
        }
        for ((program, arguments), reasons) in &self.commands {
            text.push('\n');
            comment(&mut text, reasons);
            let name = Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
            if DANGEROUS.contains(&name) || DANGEROUS.contains(&base) {
                let _ = writeln!(
                    text,
                    "# warning: {name} can run or write more than its arguments show: grant a program made for this hook instead"
                );
            }
            if arguments.iter().any(|argument| changes(argument)) {
                text += "# an argument may be another next time: replace it with { regex = \"…\" } or \"*\"\n";
            }
            let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
            let _ = writeln!(text, "[[command]]\nprogram = {}\nargs = [{}]", quoted(program), arguments.join(", "));
        }
        for to in &self.connections {
            let _ = write!(text, "\n[[connect]]\nto = {}\n", quoted(to));
        }
        if !self.not_grantable.is_empty() {
            text.push('\n');
        }
        for what in &self.not_grantable {
            let _ = writeln!(text, "# not granted: {what}");
        }
        text
    }
}

/// The comments above each table, by its key and number.
fn comments(text: &str) -> BTreeMap<(String, usize), BTreeSet<String>> {
    let mut found = BTreeMap::new();
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut pending = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if let Some(key) = line.strip_prefix("[[").and_then(|rest| rest.strip_suffix("]]")) {
            let number = numbers.entry(key.to_owned()).or_default();
            found.insert((key.to_owned(), *number), std::mem::take(&mut pending));
            *number += 1;
        } else if let Some(comment) = line.strip_prefix("# ") {
            if !comment.starts_with("warning:") && !comment.starts_with("an argument may be") {
                pending.insert(comment.to_owned());
            }
        } else if line.is_empty() {
            pending.clear();
        }
    }
    found
}

/// The first reasons, one per line.
fn comment(text: &mut String, reasons: &BTreeSet<String>) {
    const SHOWN: usize = 4;
    for reason in reasons.iter().take(SHOWN) {
        let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let _ = writeln!(text, "# {reason}");
    }
    if reasons.len() > SHOWN {
        let _ = writeln!(text, "# and {} more", reasons.len() - SHOWN);
    }
}

/// Whether the system chooses this argument: a PCI address, a process number, a temporary file.
fn changes(argument: &str) -> bool {
    let is_number = argument.len() > 1 && argument.chars().all(|c| c.is_ascii_digit());
    let is_pci = argument
        .as_bytes()
        .windows(7)
        .any(|w| w[2] == b':' && w[5] == b'.' && [0, 1, 3, 4, 6].iter().all(|&at| w[at].is_ascii_hexdigit()));
    is_number || is_pci || argument.contains("/tmp.") || argument.starts_with("/proc/")
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned() -> Learned {
        let mut learned = Learned::default();
        learned.file("/sys/kernel/mm/hugepages/nr", Access::ReadWrite, false);
        learned.file("/sys/kernel/mm/hugepages/sub/nr", Access::Read, false);
        learned.file("/usr/lib/libc.so.6", Access::Read, false);
        learned.command("/bin/sh", &["-c".to_owned(), "echo web1 0000:01:00.0".to_owned()]);
        learned.command("/usr/bin/logger", &["start".to_owned()]);
        learned.connections.insert("127.0.0.1:9090".to_owned());
        learned.not_grantable.insert("mount: run a command that does it".to_owned());
        learned.generalise("web1", "start", "qemu web1 start");
        learned
    }

    #[test]
    fn the_settings_say_what_asked_for_each_grant() {
        let expected = r#"confine = true

# writes /sys/kernel/mm/hugepages/nr
[[dir]]
host = "/sys/kernel/mm/hugepages"
access = "read-write"

# at qemu web1 start
# warning: sh can run or write more than its arguments show: grant a program made for this hook instead
# an argument may be another next time: replace it with { regex = "…" } or "*"
[[command]]
program = "/bin/sh"
args = ["-c", "echo {object} 0000:01:00.0"]

# at qemu web1 start
[[command]]
program = "/usr/bin/logger"
args = ["{operation}"]

[[connect]]
to = "127.0.0.1:9090"

# not granted: mount: run a command that does it
"#;
        assert_eq!(learned().to_toml(true), expected);
    }

    #[test]
    fn merging_keeps_old_grants_and_adds_new_ones() -> anyhow::Result<()> {
        let mut twice = learned();
        twice.merge(&learned().to_toml(true))?;
        assert_eq!(twice.to_toml(true), learned().to_toml(true));
        let mut more = Learned::default();
        more.file("/sys/kernel/mm/hugepages/nr", Access::Read, false);
        more.command("/usr/bin/logger", &["released".to_owned()]);
        more.merge(&format!("timeout = \"5s\"\n{}", learned().to_toml(true)))?;
        let text = more.to_toml(true);
        assert!(text.starts_with("timeout = \"5s\"\nconfine = true\n"), "{text}");
        assert_eq!(text.matches("[[dir]]").count(), 1, "{text}");
        assert!(text.contains("access = \"read-write\"") && text.contains("released"), "{text}");
        assert!(more.merge("[[command]]\nprogram = '/bin/a'\nargs = [{ regex = 'x' }]").is_err());
        Ok(())
    }
}
