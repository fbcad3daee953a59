//! Reads the record while other processes write and rotate it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::entry::Recorded;

/// The beginning of every entry. It cannot occur inside one, since quotation marks are escaped there.
const BEGINNING: &[u8] = b"{\"time\":\"";
/// Longer than any written line. Anything longer is not a record.
const LONGEST: u64 = 32 << 20;

/// The entries of a [`Record`](crate::Record), oldest first.
///
/// After `None`, the iterator can be asked again and returns new entries. Lines cut short by a killed process or a full
/// disk are skipped and counted.
#[derive(Debug)]
pub struct Entries {
    /// The names of the files, newest first.
    names: Vec<PathBuf>,
    /// The files that are still to be read, oldest first.
    files: VecDeque<File>,
    current: Option<BufReader<File>>,
    /// The files that were read, and the current one. They stay open, so that no other file gets their inode numbers.
    read: Vec<File>,
    line: Vec<u8>,
    torn: u64,
    error: Option<io::Error>,
}

impl Entries {
    /// Reads the files with these names, newest first.
    pub(super) fn of(names: Vec<PathBuf>) -> Self {
        let mut entries = Self {
            names,
            files: VecDeque::new(),
            current: None,
            read: Vec::new(),
            line: Vec::new(),
            torn: 0,
            error: None,
        };
        entries.look_for_files();
        entries
    }

    /// The number of incomplete lines that were skipped.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// Why a file could not be read, if so. A missing record is empty.
    pub fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// Opens the unread files. The newest is opened first, so that a rotation in between hides none.
    fn look_for_files(&mut self) {
        let mut found = Vec::new();
        for name in &self.names {
            match open(name) {
                Ok(file) => found.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.error = Some(error),
            }
        }
        for file in found {
            if !self.read.iter().chain(&self.files).any(|known| is_same(known, &file)) {
                self.files.push_front(file);
            }
        }
    }

    /// Reads to the end of a line; `false` at the end of the file.
    fn read_line(&mut self) -> bool {
        let Some(current) = &mut self.current else { return false };
        loop {
            let room = LONGEST.saturating_sub(self.line.len() as u64);
            match current.take(room).read_until(b'\n', &mut self.line) {
                Ok(_) if self.line.ends_with(b"\n") => return true,
                Ok(_) if self.line.len() as u64 >= LONGEST => self.line.truncate(1),
                Ok(_) => return false,
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            }
        }
    }

    fn parse(&mut self) -> Option<Recorded> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii();
        if line.is_empty() {
            return None;
        }
        if let Ok(entry) = serde_json::from_slice(line) {
            return Some(entry);
        }
        self.torn += 1;
        // The next line may follow the rest of a torn one.
        let last = line.windows(BEGINNING.len()).rposition(|part| part == BEGINNING)?;
        serde_json::from_slice(&line[last..]).ok()
    }
}

impl Iterator for Entries {
    type Item = Recorded;

    fn next(&mut self) -> Option<Recorded> {
        let mut looked = false;
        loop {
            while self.read_line() {
                if let Some(entry) = self.parse() {
                    return Some(entry);
                }
            }
            if self.files.is_empty() {
                if looked {
                    return None;
                }
                looked = true;
                self.look_for_files();
                // Lines that were written to the old file before the new one existed.
                continue;
            }
            if !self.line.is_empty() {
                self.torn += 1;
                self.line.clear();
            }
            self.current = self.files.pop_front().map(BufReader::new);
            let opened = self.current.as_ref().and_then(|current| current.get_ref().try_clone().ok());
            self.read.extend(opened);
            let surplus = self.read.len().saturating_sub(self.names.len());
            self.read.drain(..surplus);
        }
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

fn open(name: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(name)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}
