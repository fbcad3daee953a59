//! Detects whether a driver's script runs the per-event directories itself, as the VFIO helper does.
//!
//! Such a script builds a path from its directory's name, the object and the operation:
//! `"$base/qemu.d/$guest/$operation/$state"`. The search skips comments and knows the notations of shells, Perl,
//! Python, Ruby, Go, JavaScript and nushell.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::file;
use super::settings::Settings;
use super::trust::Trust;

/// Larger than any script.
const MAX_SIZE: u64 = 1 << 20;

/// The evidence that a driver's own hook runs the per-event directories; `None` if hookvisor runs them.
pub(super) fn reason(general: &Path, driver: &str, trust: Trust) -> Option<String> {
    let (file, found) = file::open_trusted(general, trust).ok()?;
    if found.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let name = general.display();
    let runs = format!("{name} runs the per-event directories itself, so hookvisor does not run them");
    // Settings that cannot be read are a veto anyway.
    match Settings::of_hook(general, trust).ok()?.nested {
        Some(true) => return None,
        Some(false) => {
            return Some(format!("{runs}: `nested = false` in {}", super::settings::file_name(general).display()));
        }
        None => {}
    }
    let mut text = Vec::new();
    file.take(MAX_SIZE).read_to_end(&mut text).ok()?;
    let evidence = evidence(std::str::from_utf8(&text).ok().filter(|text| text.starts_with("#!"))?, driver)?;
    let settings = super::settings::file_name(general);
    Some(format!(
        "{runs}: its line {} is `{}`. To have hookvisor run them, set `nested = true` in {}",
        evidence.line,
        evidence.text,
        settings.display()
    ))
}

/// The line that shows that a script is a dispatcher.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Evidence {
    /// Counted from 1.
    line: usize,
    text: String,
}

/// How a script writes its own name, which is the driver's.
const OWN_NAME: [&str; 8] = [
    "${0##*/}",
    "$0",
    "${0}",
    "$(basename \"$0\")",
    "$(basename $0)",
    "$__base",
    "${BASH_SOURCE##*/}",
    "${BASH_SOURCE}",
];
/// The object and the operation. A pattern may follow them.
const PARTS: usize = 2;
/// The operations that scripts spell out.
const OPERATIONS: [&str; 8] = ["prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect"];

/// Finds the line that makes a script a dispatcher for `<driver>.d`.
fn evidence(text: &str, driver: &str) -> Option<Evidence> {
    let lines: Vec<(usize, &str)> =
        text.lines().map(str::trim).enumerate().filter(|(_, line)| !is_comment(line)).collect();
    let found = |index: usize, line: &str| Evidence { line: index + 1, text: shortened(line) };
    for (at, (index, line)) in lines.iter().enumerate() {
        for rest in after_directory(line, driver) {
            let parts = variable_parts(line, rest);
            if parts >= PARTS {
                return Some(found(*index, line));
            }
            // The directory may be assigned to a variable that a later line uses.
            let Some(name) = assigned(line) else { continue };
            let goes_on = |line: &str| uses(line, name).any(|rest| parts + variable_parts(line, rest) >= PARTS);
            if let Some((index, line)) = lines[at + 1..].iter().find(|(_, line)| goes_on(line)) {
                return Some(found(*index, line));
            }
        }
    }
    None
}

fn is_comment(line: &str) -> bool {
    line.starts_with('#') || line.starts_with("//")
}

/// The rest of the line after each occurrence of the directory's name.
fn after_directory<'a>(line: &'a str, driver: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(".d").filter_map(move |(at, _)| {
        let (before, rest) = (&line[..at], &line[at + 2..]);
        let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let named = before.strip_suffix(driver).is_some_and(|b| !b.ends_with(|c: char| c.is_alphanumeric()));
        (ends && (named || OWN_NAME.iter().any(|name| before.ends_with(name)))).then_some(rest)
    })
}

/// How many parts of the path that continues here are variables or spelled-out operations.
fn variable_parts(line: &str, rest: &str) -> usize {
    let word = rest.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default();
    let is_variable = |part: &&str| {
        let part = part.trim_matches(['"', '\'', '`', '}', ')']);
        part.contains(['$', '{']) || part.contains("%s") || OPERATIONS.contains(&part)
    };
    let in_word = word.strip_prefix('/').map_or(0, |path| path.split('/').filter(is_variable).count());
    in_word.max(joined_parts(line, rest))
}

/// The same, where an operator or a function joins the parts: `"qemu.d", guest, operation)`.
fn joined_parts(line: &str, rest: &str) -> usize {
    let rest = rest.trim_start_matches('/');
    let Some(rest) = rest.strip_prefix(['"', '\'']).or_else(|| (!rest.starts_with('$')).then_some(rest)) else {
        return 0;
    };
    let by_space = line.contains("path join");
    let rest = rest.split([';', '|', '{']).next().unwrap_or_default();
    let rest = if by_space { rest.split(')').next().unwrap_or_default() } else { rest };
    if !by_space && !rest.trim_start().starts_with([',', '+', '/']) {
        return 0;
    }
    let is_variable = |part: &&str| {
        let part = part.trim();
        let first = part.chars().next();
        first.is_some_and(|c| c.is_alphabetic() || matches!(c, '$' | '_')) && (!by_space || first == Some('$'))
    };
    if by_space {
        rest.split_whitespace().filter(is_variable).count()
    } else {
        rest.split([',', '+', '/']).filter(is_variable).count()
    }
}

/// The name that a line assigns a value to.
fn assigned(line: &str) -> Option<&str> {
    let (name, _) = line.split_once('=')?;
    let name = name.trim().rsplit([' ', '$']).next()?.trim_end_matches(':');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then_some(name)
}

/// The rest of the line after each use of a variable.
fn uses<'a>(line: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(name).filter_map(move |(at, _)| {
        let (before, rest) = (&line[..at], &line[at + name.len()..]);
        let begins = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = rest.strip_prefix('}').unwrap_or(rest);
        (begins && !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
            .then(|| rest.strip_prefix('"').unwrap_or(rest))
    })
}

fn shortened(line: &str) -> String {
    const LONGEST: usize = 80;
    let short: String = line.chars().take(LONGEST).collect();
    if short.len() < line.len() { short + "…" } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line_of(text: &str) -> Option<usize> {
        evidence(text, "qemu").map(|evidence| evidence.line)
    }

    #[test]
    fn a_script_that_joins_its_directory_with_the_event_is_a_dispatcher() {
        for text in [
            "path=\"$base/qemu.d/$guest/$hook/$state\"",
            "for f in \"$(dirname \"$0\")/qemu.d/$1/$2/$3\"/*; do",
            "HOOKS=/etc/libvirt/hooks/qemu.d/${1}/${2}/${3}",
            "run-parts \"${0##*/}.d/$1/$2\"",
            "run-parts \"$0.d/$1/$2/$3\"",
            "dir=$(dirname \"$0\")/$(basename \"$0\").d/$1/$2",
            "[ -d \"$hooks/qemu.d/$1/prepare/begin\" ] && run",
            "hooks = os.path.join(here, \"qemu.d\", guest, operation, state)",
            "hooks = Path(__file__).parent / 'qemu.d' / guest / operation",
            "hooks = f\"{here}/qemu.d/{guest}/{operation}/{state}\"",
            "my $hooks = \"$dir/qemu.d/$guest/$operation\";",
            "hooks := filepath.Join(dir, \"qemu.d\", os.Args[1], os.Args[2])",
            "const hooks = dir + \"/qemu.d/\" + guest + \"/\" + operation;",
            "let dir = ($env.FILE_PWD | path join \"qemu.d\" $guest $operation $state)",
        ] {
            assert_eq!(line_of(text), Some(1), "{text}");
        }
        assert_eq!(line_of("#!/bin/sh\ndir=$(dirname $0)/qemu.d\n# …\nrun \"$dir/$1/$2/$3\"\n"), Some(4));
        assert_eq!(line_of("DIR = os.path.join(here, 'qemu.d')\nrun(os.path.join(DIR, guest, operation))\n"), Some(2));
        assert_eq!(line_of("G=\"$base/qemu.d/$1\"\n[ -d $G/$2 ] || exit 0\n"), Some(2));
    }

    #[test]
    fn a_script_that_only_names_the_directory_is_not() {
        for text in [
            "# runs qemu.d/$guest/$operation/$state",
            "source \"$(dirname $0)/qemu.d/$1.conf\"",
            "source /etc/libvirt/hooks/qemu.d/lib.sh \"$1\" \"$2\"",
            "exec \"./${0##*/}.d/run/main\" \"$@\"",
            "ls \"$base/qemu.d\" $1 $2",
            "[ -d \"$base/qemu.d\" ] || exit 0",
            "echo $base/lxc.d/$1/$2",
            "cp $base/qemu.do/$1/$2 /",
            "config = json.load(open(os.path.join(here, \"qemu.d\", \"hooks.json\")))",
            "dir=$base/qemu.d\nfor f in $dir/*.sh; do $f \"$1\" \"$2\"; done",
            "run $base/$1/$2/$3",
        ] {
            assert_eq!(line_of(text), None, "{text}");
        }
    }
}
