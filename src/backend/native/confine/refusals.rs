//! Finds the files that a confined hook was refused, for the report.
//!
//! The kernel tells only the hook. So this reads the hook's stderr, and names a file only if the hook's settings indeed do
//! not grant it.

use std::cell::LazyCell;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::reach::{May, Reach};
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Names, lines_to_grant_directory};

const NO_ACCESS: [&str; 2] = ["Permission denied", "permission denied"];
const NOT_PERMITTED: &str = "Operation not permitted";
/// Files that are named in one report.
const MOST: usize = 5;
/// Before and after a path in a message.
const QUOTES: [char; 5] = ['\'', '"', '`', '‘', '’'];

/// One call of a confined hook.
pub(super) struct Held<'a> {
    pub(super) hook: &'a Path,
    pub(super) settings: &'a Settings,
    pub(super) settings_file: &'a Path,
    pub(super) executes: &'a [PathBuf],
    /// Its own directory.
    pub(super) own: Option<&'a Path>,
    pub(super) names: Names<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Read,
    Write,
    Either,
}

impl Held<'_> {
    /// Notes on what the hook complains of. `known` are the notes that the report has already.
    pub(super) fn notes(&self, stderr: &[u8], known: &[String]) -> Vec<String> {
        let stderr = String::from_utf8_lossy(stderr);
        let mut notes = Vec::new();
        let mut unnamed = false;
        // Resolves every grant: once, whatever the number of lines.
        let reach = LazyCell::new(|| Reach::of(self.settings, self.names, self.own, self.executes));
        for line in stderr.lines().filter(|line| NO_ACCESS.iter().any(|why| line.contains(why))) {
            if notes.len() == MOST || self.is_of_a_command(line) {
                continue;
            }
            match path_in(line, self.hook) {
                Some(path) if is_known(path, known) => {}
                Some(path) => match self.refused(path, &reach) {
                    Some(note) if notes.contains(&note) => {}
                    Some(note) => notes.push(note),
                    None => unnamed = true,
                },
                None => unnamed = true,
            }
        }
        if unnamed && notes.is_empty() && known.is_empty() {
            notes.push(format!(
                "its stderr says \"Permission denied\", and it is confined: `hookvisor learn {} …` shows the settings \
                 that it needs",
                self.hook.display()
            ));
        }
        if stderr.lines().any(|line| line.contains(NOT_PERMITTED) && !self.is_of_a_command(line)) {
            notes.push(format!(
                "its stderr says {NOT_PERMITTED:?}: a confined hook cannot change modes, owners or times, mount, signal other \
                 processes or open other sockets; grant a program that does so as a [[command]]"
            ));
        }
        notes
    }

    /// A command that is granted is not confined: what it is refused has another reason.
    fn is_of_a_command(&self, line: &str) -> bool {
        let speaker = line.split_once(": ").and_then(|(speaker, _)| Path::new(speaker).file_name());
        speaker.is_some_and(|speaker| self.settings.commands.iter().any(|c| c.program.file_name() == Some(speaker)))
    }

    /// What to add for a file; or why its grant is not enough. `None` if unknown.
    fn refused(&self, path: &Path, reach: &Reach) -> Option<String> {
        let (found, wanted) = match path.canonicalize() {
            Ok(found) => (found, wanted(path)),
            // Opening a file that is missing is refused only where it would be made.
            Err(_) => (path.parent()?.canonicalize().ok()?.join(path.file_name()?), Wanted::Write),
        };
        let May { read: reads, write: writes } = reach.of_file(&found);
        let is_granted = match wanted {
            Wanted::Read => reads,
            Wanted::Write => writes,
            Wanted::Either => reads && writes,
        };
        let shown = path.display();
        if is_granted {
            return Some(format!(
                "it was refused {shown}, although its settings grant it: a confined hook has no capabilities, so the file's \
                 owner and mode hold for it even as root"
            ));
        }
        let access = match wanted {
            Wanted::Read if !writes => "\"read\"",
            Wanted::Write if !reads => "\"write\"",
            Wanted::Either if !reads && !writes => "\"read-write\" # or \"read\", if it only reads",
            Wanted::Read | Wanted::Write | Wanted::Either => "\"read-write\"",
        };
        // A file is made in its directory.
        let (host, access) =
            if found.exists() { (found.as_path(), access) } else { (found.parent()?, "\"read-write\"") };
        host.parent()?;
        let (file, lines) = (self.settings_file.display(), lines_to_grant_directory(host.to_str()?, false));
        Some(format!("it was refused {shown}; to allow it, add to {file}:{lines}\n    access = {access}"))
    }
}

/// The access that the mode of an existing file suggests.
fn wanted(path: &Path) -> Wanted {
    match path.metadata() {
        Ok(found) if found.is_dir() || found.mode() & 0o222 == 0 => Wanted::Read,
        Ok(found) if found.mode() & 0o444 == 0 => Wanted::Write,
        _ => Wanted::Either,
    }
}

/// Whether a note names a file: a program that was refused is noted by who sees it called.
fn is_known(path: &Path, notes: &[String]) -> bool {
    let found = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    let place = directory.zip(path.file_name()).map(|(directory, name)| directory.join(name));
    [Some(path.to_owned()), Some(found), place]
        .iter()
        .flatten()
        .any(|path| notes.iter().any(|note| note.contains(&format!("\"{}\"", path.display()))))
}

/// The file that an error message is about: the last absolute path in it that is not the hook's own.
fn path_in<'a>(line: &'a str, hook: &Path) -> Option<&'a Path> {
    let says_why = |piece: &str| NO_ACCESS.iter().any(|why| piece.contains(why));
    let pieces = line.split(": ").filter(|piece| !says_why(piece));
    pieces.filter_map(path_of_piece).filter(|&path| path != hook).last()
}

fn path_of_piece(piece: &str) -> Option<&Path> {
    let begins = |&(at, _): &(usize, &str)| {
        piece.get(..at).is_some_and(|before| before.is_empty() || before.ends_with(' ') || before.ends_with(QUOTES))
    };
    let (at, _) = piece.match_indices('/').find(begins)?;
    let (before, path) = piece.split_at_checked(at)?;
    let end = if before.ends_with(QUOTES) { path.find(QUOTES) } else { None };
    Some(Path::new(path.get(..end.unwrap_or(path.len()))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_message_is_found_as_shells_and_interpreters_write_it() {
        for (line, path) in [
            ("/h/10-x: line 3: /sys/a b: Permission denied", Some("/sys/a b")),
            ("/h/10-x: 3: cannot create /sys/a: Permission denied", Some("/sys/a")),
            ("PermissionError: [Errno 13] Permission denied: '/sys/a'", Some("/sys/a")),
            ("cannot open '/sys/a': Permission denied", Some("/sys/a")),
            ("Can't open /sys/a: Permission denied at /h/10-x line 2.", Some("/sys/a")),
            ("open ‘/sys/a’ failed: permission denied", Some("/sys/a")),
            ("/h/10-x: line 3: a/b: Permission denied", None),
            ("Permission denied", None),
        ] {
            assert_eq!(path_in(line, Path::new("/h/10-x")), path.map(Path::new), "{line}");
        }
    }
}
