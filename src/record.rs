//! The record: a file with one line of JSON per decided event, and its rotated files.
//!
//! Many processes append to it concurrently, and none waits for a lock, since a stopped process could hold that forever. Each line
//! is one `write` to a file opened for appending, which Linux does not interleave.

mod entry;
mod read;

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::resource::{Resource, getrlimit};
use rustix::fs::{Mode, OFlags};
use rustix::io::retry_on_intr;

pub use self::entry::{Recorded, RecordedChange, RecordedEvent, RecordedHook, RecordedSkip};
pub use self::read::Entries;
use crate::hook::trust::Trust;
use crate::report::Report;

/// The size at which the file is rotated.
const MAX_SIZE: u64 = 16 << 20;
/// How many rotated files are kept.
const KEEP: u32 = 4;
/// How the file is opened. Its last line is read, too.
const APPEND: OFlags = OFlags::RDWR
    .union(OFlags::APPEND)
    .union(OFlags::CREATE)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// A file that keeps what was decided: give it to [`RuntimeBuilder::record`](crate::RuntimeBuilder::record).
///
/// Each event is one line of JSON: the time, the event, the decision, and each hook's path, digest, end, duration and stderr. At
/// 16 MiB the file is renamed to `FILE.1`, and a new one begins; four old files are kept. Only its owner may read it. Any
/// number of processes may use one file.
///
/// A record that cannot be written never changes a decision. The failure is logged through [`tracing`], or goes to stderr if
/// nothing there takes it.
///
/// ```no_run
/// let record = hookvisor::Record::at("/var/log/mydaemon/history.jsonl").caller("mydaemon");
/// let runtime = hookvisor::Runtime::builder("/etc/mydaemon/hooks").record(record.clone()).build()?;
/// # drop(runtime);
/// for entry in record.entries() {
///     println!("{}", entry.to_json());
/// }
/// # Ok::<(), hookvisor::LoadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    path: PathBuf,
    caller: String,
    max_size: u64,
    keep: u32,
}

impl Record {
    /// A record in this file. It is created, with its directory, when the first event is written.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), caller: own_name(), max_size: MAX_SIZE, keep: KEEP }
    }

    /// Sets the name of the daemon or command that asks, for the field `caller`. The default is the program's own name.
    #[must_use]
    pub fn caller(mut self, name: impl Into<String>) -> Self {
        self.caller = name.into();
        self
    }

    /// Sets the size in bytes at which the file is rotated.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets how many rotated files are kept, at least one.
    #[must_use]
    pub fn keep(mut self, files: u32) -> Self {
        self.keep = files.max(1);
        self
    }

    /// Its file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> Entries {
        Entries::of((0..=self.keep).map(|number| self.rotated(number)).collect())
    }

    /// Records that a hook was disabled or enabled.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn change(&self, change: &RecordedChange) -> io::Result<()> {
        self.append(&entry::line(change))
    }

    /// Records the result of an event that began at this time. A failure is logged and has no other effect.
    pub(crate) fn event(&self, report: &Report, began: SystemTime) {
        let event = RecordedEvent::new(report, began, &self.caller);
        if let Err(error) = self.append(&entry::line(&event)) {
            let why = format!("the record {} could not be written: {error}", self.path.display());
            if tracing::event_enabled!(target: "hookvisor::record", tracing::Level::ERROR) {
                tracing::error!(target: "hookvisor::record", "{why}");
            } else {
                let _ = writeln!(io::stderr(), "hookvisor: {why}");
            }
        }
    }

    /// Appends a line that ends with a newline.
    fn append(&self, line: &[u8]) -> io::Result<()> {
        let (mut file, mut found) = self.open()?;
        if found.len() > 0 && found.len() + line.len() as u64 > self.max_size {
            (file, found) = self.rotate(file, found)?;
        }
        write_line(&file, found.len(), line)
    }

    /// Opens the file for appending. Refuses anything but a regular file of this user: it could block, or belong to
    /// somebody else.
    fn open(&self) -> io::Result<(File, Metadata)> {
        let open = || match retry_on_intr(|| rustix::fs::open(&self.path, APPEND, Mode::RUSR | Mode::WUSR)) {
            Ok(file) => Ok(File::from(file)),
            Err(errno) => Err(io::Error::from(errno)),
        };
        let file = match (open(), self.path.parent()) {
            (Err(error), Some(directory)) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                open()?
            }
            (opened, _) => opened?,
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let trust = Trust::of_this_process();
        trust.check(&self.path, &file, &found).map_err(io::Error::other)?;
        Ok((file, found))
    }

    /// Rotates: renames the file to `.1`, `.1` to `.2` and so on, and creates a new one. If another process is
    /// rotating, the full file gets one more line.
    fn rotate(&self, file: File, found: Metadata) -> io::Result<(File, Metadata)> {
        // Not a lock of the file: after it was replaced, two processes could rotate at once, each with its own.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(parent.unwrap_or(Path::new(".")))?;
        if directory.try_lock().is_err() {
            return Ok((file, found));
        }
        let is_current =
            fs::symlink_metadata(&self.path).is_ok_and(|now| (found.dev(), found.ino()) == (now.dev(), now.ino()));
        if is_current {
            for number in (0..self.keep).rev() {
                match fs::rename(self.rotated(number), self.rotated(number + 1)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        // Still under the lock, so that the next process finds a file that is not full.
        let new = self.open();
        drop(directory);
        new
    }

    /// The name of the nth rotated file. 0 is the file itself.
    fn rotated(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Writes a line at the end of the file in one call. The file had this size when it was opened.
fn write_line(file: &File, size: u64, line: &[u8]) -> io::Result<()> {
    // Beyond the file size limit, the system would kill the process (SIGXFSZ).
    if getrlimit(Resource::RLIMIT_FSIZE).is_ok_and(|(limit, _)| size + line.len() as u64 >= limit) {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    // A killed process or a full disk may have left part of a line.
    let mut last = [b'\n'];
    let torn = size > 0 && file.read_at(&mut last, size - 1).is_ok() && last != *b"\n";
    if !torn && write_once(file, line)? == line.len() {
        return Ok(());
    }
    let whole = [b"\n", line].concat();
    if write_once(file, &whole)? == whole.len() { Ok(()) } else { Err(io::Error::from(io::ErrorKind::StorageFull)) }
}

fn write_once(mut file: &File, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match file.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => return written,
        }
    }
}

fn own_name() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    Path::new(&called).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
