//! The daemon's knowledge about its guests, kept on disk in case it is killed.
//!
//! A guest is in the state file from before its process is created until its hooks have been told that it has ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use nix::sys::signal::{self, Signal};
use nix::unistd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// The variable that identifies a guest's processes.
const MARK: &str = "DAEMON_EXAMPLE_GUEST";

/// A guest's process, by a descriptor that never refers to another process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: unistd::Pid,
    descriptor: OwnedFd,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let number = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = pidfd_open(number, PidfdFlags::empty())?;
        Ok(Self { pid: unistd::Pid::from_raw(pid), descriptor })
    }

    /// Returns when it has ended.
    pub(crate) fn wait(&self) {
        let ended = PollFlags::IN;
        while poll(&mut [PollFd::new(&self.descriptor.as_fd(), ended)], None).is_err() {}
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) program: Vec<String>,
    /// `None` while it is being created.
    process: Option<Identity>,
}

/// A process number, and the start time that distinguishes it from a later process with that number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    pid: i32,
    /// In clock ticks since the system started (proc(5)).
    started: u64,
    boot: String,
}

impl Identity {
    fn now(pid: i32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name in parentheses before it may contain any character.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let started = fields.clone().nth(19).and_then(|field| field.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { pid, started, boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned() })
    }

    /// Whether the process has ended and its parent has not waited for it.
    fn is_zombie(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|fields| fields.trim_start().starts_with('Z'))
    }
}

impl Entry {
    pub(crate) fn new(program: &[&str]) -> Self {
        Self { program: program.iter().map(|&word| word.to_owned()).collect(), process: None }
    }

    pub(crate) fn runs_as(&mut self, pid: unistd::Pid) -> io::Result<()> {
        self.process = Some(Identity::now(pid.as_raw())?);
        Ok(())
    }

    /// Its process, if it still runs.
    pub(crate) fn process(&self) -> Option<Process> {
        let identity = self.process.as_ref()?;
        let process = Process::of(identity.pid).ok()?;
        // Compare after the descriptor is open.
        let is_same = Identity::now(identity.pid).ok().as_ref() == Some(identity);
        (is_same && !identity.is_zombie()).then_some(process)
    }
}

pub(crate) struct StateFile {
    path: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl StateFile {
    /// Reads the file, if it exists.
    pub(crate) fn open(path: PathBuf) -> anyhow::Result<Self> {
        let entries = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| {
                format!("the state file {} cannot be read: remove it if no guest runs", path.display())
            })?,
            Err(why) if why.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(why) => return Err(why).with_context(|| format!("the state file {} cannot be read", path.display())),
        };
        Ok(Self { path, entries: Mutex::new(entries) })
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Entry> {
        self.entries().clone()
    }

    pub(crate) fn put(&self, name: &str, entry: Entry) -> anyhow::Result<()> {
        let mut entries = self.entries();
        entries.insert(name.to_owned(), entry);
        self.write(&entries)
    }

    pub(crate) fn remove(&self, name: &str) {
        let mut entries = self.entries();
        if entries.remove(name).is_some()
            && let Err(why) = self.write(&entries)
        {
            tracing::error!("{why:#}");
        }
    }

    /// The variable for a guest's processes: the guest's name and its daemon.
    pub(crate) fn mark(&self, name: &str) -> (&'static str, String) {
        (MARK, format!("{}:{name}", self.path.display()))
    }

    /// Kills the remaining processes of a guest. Its process number may belong to another process by now; the variable
    /// does not.
    pub(crate) fn kill_marked(&self, name: &str) {
        let (variable, value) = self.mark(name);
        let mark = format!("{variable}={value}");
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|variable| variable == mark.as_bytes()) {
                let _already_gone = signal::kill(unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// After a crash during the write, either the old or the new file is there.
    fn write(&self, entries: &BTreeMap<String, Entry>) -> anyhow::Result<()> {
        let new = self.path.with_added_extension("new");
        let write = |path: &Path| -> io::Result<()> {
            fs::write(path, serde_json::to_vec(entries)?)?;
            fs::rename(path, &self.path)
        };
        write(&new).with_context(|| format!("the state file {} cannot be written", self.path.display()))
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
