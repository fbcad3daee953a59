//! A hook's needs, as lines of its settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use hookvisor::{Event, Needs};

use super::warnings;

/// After an address that is used by UDP ([`Needs::connections`]).
const UDP: &str = " (UDP)";

/// How a directory is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Access {
    #[default]
    Read,
    ReadWrite,
}

/// A directory, and the reasons for its grant.
#[derive(Debug, Default, PartialEq, Eq)]
struct Directory {
    access: Access,
    reasons: BTreeSet<String>,
}

/// Everything that has to be granted.
#[derive(Debug, Default)]
pub(super) struct Learned {
    hook: PathBuf,
    directories: BTreeMap<String, Directory>,
    /// Program and arguments, and what asked for them.
    commands: BTreeMap<(String, Vec<String>), BTreeSet<String>>,
    connections: BTreeSet<String>,
    /// Grants of an earlier file that say more than a run can show, by their keys.
    kept: BTreeSet<(&'static str, String)>,
    /// What no grant allows, and what to do instead.
    not_grantable: BTreeSet<String>,
    /// Settings of an earlier file that are no grants.
    others: toml::Table,
}

impl Learned {
    /// Nothing yet, for this hook.
    pub(super) fn of(hook: PathBuf) -> Self {
        Self { hook, ..Self::default() }
    }

    /// Adds what a hook used in one run. The event's names take the place of the words that are equal to them.
    pub(super) fn add(&mut self, needs: &Needs, event: &Event) {
        for (path, used) in &needs.files {
            let directory = with_object(used.directory(path), event.object());
            let directory = self.directories.entry(directory).or_default();
            let (access, verb) = if used.writes { (Access::ReadWrite, "writes") } else { (Access::Read, "reads") };
            directory.access = directory.access.max(access);
            directory.reasons.insert(format!("{verb} {path}"));
        }
        let at = format!("at {} {}", event.driver(), event.arguments().join(" "));
        for (program, arguments) in &needs.commands {
            let generalised = arguments.iter().map(|argument| match argument {
                argument if event.object().len() > 1 && argument.contains(event.object()) => {
                    argument.replace(event.object(), "{object}")
                }
                argument if argument == event.operation() => "{operation}".to_owned(),
                argument => argument.clone(),
            });
            let command = (program.clone(), generalised.collect());
            self.commands.entry(command).or_default().insert(at.clone());
        }
        self.connections.extend(needs.connections.iter().cloned());
        self.not_grantable.extend(needs.not_grantable.iter().cloned());
    }

    /// Adds what an earlier run printed, or an administrator wrote.
    pub(super) fn merge(&mut self, text: &str) -> anyhow::Result<()> {
        let mut table: toml::Table = toml::from_str(text).context("the file to merge is not TOML")?;
        let comments = comments(text);
        for key in ["dir", "command", "connect"] {
            let Some(grants) = table.remove(key) else { continue };
            let grants = grants.as_array().with_context(|| format!("`{key}` is not written as [[{key}]]"))?.clone();
            for (number, grant) in grants.iter().enumerate() {
                let reasons = comments.get(&(key.to_owned(), number)).cloned().unwrap_or_default();
                if !self.merge_grant(key, grant, &reasons) {
                    self.kept.insert((key, kept(key, grant, &reasons)?));
                }
            }
        }
        let notes = text.lines().filter_map(|line| line.strip_prefix("# not granted: ").map(str::to_owned));
        self.not_grantable.extend(notes);
        table.remove("confine");
        self.others = table;
        Ok(())
    }

    /// Adds a grant, if it has no more in it than a run can show.
    fn merge_grant(&mut self, key: &str, grant: &toml::Value, reasons: &BTreeSet<String>) -> bool {
        let Some(table) = grant.as_table() else { return false };
        let word = |key: &str| table.get(key).and_then(toml::Value::as_str);
        let has_only = |keys: &[&str]| table.keys().all(|key| keys.contains(&key.as_str()));
        match key {
            "dir" if has_only(&["host", "access"]) => {
                let access = match word("access") {
                    None | Some("read") => Access::Read,
                    Some("read-write") => Access::ReadWrite,
                    Some(_) => return false,
                };
                let Some(host) = word("host") else { return false };
                let directory = self.directories.entry(host.to_owned()).or_default();
                directory.access = directory.access.max(access);
                directory.reasons.extend(reasons.iter().cloned());
            }
            "command" if has_only(&["program", "args"]) => {
                let arguments = table.get("args").map_or(Some(&[][..]), |args| args.as_array().map(Vec::as_slice));
                let texts = arguments.and_then(|list| {
                    list.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
                });
                let (Some(program), Some(texts)) = (word("program"), texts) else { return false };
                self.commands.entry((program.to_owned(), texts)).or_default().extend(reasons.iter().cloned());
            }
            "connect" if has_only(&["to", "protocol"]) => {
                let suffix = match word("protocol") {
                    None => "",
                    Some("udp") => UDP,
                    Some(_) => return false,
                };
                let Some(to) = word("to") else { return false };
                self.connections.insert(format!("{to}{suffix}"));
            }
            _ => return false,
        }
        true
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
            let writes = directory.access == Access::ReadWrite;
            let programs = self.commands.keys().map(|(program, _)| program.as_str());
            if let Some(warning) = warnings::of_directory(host, writes, &self.hook, programs) {
                let _ = writeln!(text, "# warning: {warning}");
            }
            let _ = writeln!(text, "[[dir]]\nhost = {}", quoted(host));
            if writes {
                text += "access = \"read-write\"\n";
            }
        }
        for ((program, arguments), reasons) in &self.commands {
            text.push('\n');
            comment(&mut text, reasons);
            if let Some(warning) = warnings::of_program(program) {
                let _ = writeln!(text, "# warning: {warning}");
            }
            if arguments.iter().any(|argument| changes(argument)) {
                text += "# an argument may be another next time: replace it with { regex = \"…\" } or \"*\"\n";
            }
            let arguments: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
            let _ = writeln!(text, "[[command]]\nprogram = {}\nargs = [{}]", quoted(program), arguments.join(", "));
        }
        for to in &self.connections {
            let (address, protocol) = match to.strip_suffix(UDP) {
                Some(address) => (address, "protocol = \"udp\"\n"),
                None => (to.as_str(), ""),
            };
            let _ = write!(text, "\n[[connect]]\nto = {}\n{protocol}", quoted(address));
        }
        for (_, grant) in &self.kept {
            text.push('\n');
            text += grant;
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

/// A grant as it was written, with its comments.
fn kept(key: &str, grant: &toml::Value, reasons: &BTreeSet<String>) -> anyhow::Result<String> {
    let mut text = String::new();
    comment(&mut text, reasons);
    let table = toml::Table::from_iter([(key.to_owned(), toml::Value::Array(vec![grant.clone()]))]);
    Ok(text + &toml::to_string(&table)?)
}

/// A path with `{object}` in place of each component that equals the event's object.
fn with_object(path: &str, object: &str) -> String {
    let named = |component| if component == object && object.len() > 1 { "{object}" } else { component };
    path.split('/').map(named).collect::<Vec<_>>().join("/")
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
        learned.directory("/sys/kernel/mm/hugepages", Access::ReadWrite, "writes /sys/kernel/mm/hugepages/nr");
        learned.directory("/sys/kernel/mm/hugepages/sub", Access::Read, "reads /sys/kernel/mm/hugepages/sub/nr");
        learned.command("/bin/sh", &["-c", "echo {object} 0000:01:00.0"]);
        learned.command("/usr/bin/logger", &["{operation}"]);
        learned.connections.extend(["127.0.0.1:9090", "127.0.0.1:53 (UDP)"].map(str::to_owned));
        learned.not_grantable.insert("mount: run a command that does it".to_owned());
        learned
    }

    impl Learned {
        fn directory(&mut self, path: &str, access: Access, reason: &str) {
            self.directories.insert(path.to_owned(), Directory { access, reasons: [reason.to_owned()].into() });
        }

        fn command(&mut self, program: &str, arguments: &[&str]) {
            let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
            self.commands.insert((program.to_owned(), arguments), ["at qemu web1 start".to_owned()].into());
        }
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
to = "127.0.0.1:53"
protocol = "udp"

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
        more.directory("/sys/kernel/mm/hugepages", Access::Read, "reads /sys/kernel/mm/hugepages/nr");
        more.command("/usr/bin/logger", &["released"]);
        more.merge(&format!("timeout = \"5s\"\n{}", learned().to_toml(true)))?;
        let text = more.to_toml(true);
        assert!(text.starts_with("timeout = \"5s\"\nconfine = true\n"), "{text}");
        assert_eq!(text.matches("[[dir]]").count(), 1, "{text}");
        assert!(text.contains("access = \"read-write\"") && text.contains("released"), "{text}");
        Ok(())
    }

    #[test]
    fn what_a_run_cannot_show_is_kept_as_it_was_written() -> anyhow::Result<()> {
        let mut learned = Learned::default();
        let written = "# by hand\n[[command]]\nprogram = \"/bin/a\"\nargs = [{ regex = \"x\" }]\n\n\
                       [[dir]]\nhost = \"/srv\"\nguest = \"/data\"\n";
        learned.merge(written)?;
        let once = learned.to_toml(false);
        assert!(once.contains("# by hand\n[[command]]\n") && once.contains("regex = \"x\""), "{once}");
        assert!(once.contains("guest = \"/data\""), "{once}");
        learned.merge(&once)?;
        assert_eq!(learned.to_toml(false), once);
        assert!(learned.merge("command = 1").is_err());
        Ok(())
    }

    #[test]
    fn the_object_is_a_whole_component_of_a_path() {
        assert_eq!(with_object("/run/web1/web10", "web1"), "/run/{object}/web10");
        assert_eq!(with_object("/run/-", "-"), "/run/-");
    }
}
