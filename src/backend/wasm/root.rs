//! What a guest asks for below `/`, beyond its granted directories.
//!
//! A guest's libc refuses a path outside of its directories by itself, and the report could not name it. So every guest has a
//! directory `/` too: an empty one in which nothing can be opened. A guest that is learnt from has the host's.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use crate::needs::{self, Watch};

/// A directory of the kernel's that is always empty.
const EMPTY: &str = "/proc/tty/ldisc";
const ROOT: &str = "/";
/// The first descriptor after the three streams.
const FIRST: usize = 3;
/// `errno`: no such file or directory.
pub(super) const NO_ENTRY: i32 = 44;

/// A guest's directory `/`.
pub(super) struct Root {
    /// A module's descriptor, until it may be another's.
    pub(super) descriptor: Option<u32>,
    /// The host's directory, and its device and inode once they are needed.
    host: &'static str,
    identity: OnceLock<Option<(u64, u64)>>,
    /// The last directory that the guest wanted to use, and whether it wanted to change something there.
    wanted: Option<(String, bool)>,
    learning: Option<Learning>,
}

struct Learning {
    watch: Watch,
    /// The paths of the directories that were opened, by their descriptors.
    opened: HashMap<u32, String>,
}

impl Root {
    /// Adds the directory to those of the guest, which are so many. `None` if the system has no such directory.
    pub(super) fn add(wasi: &mut WasiCtxBuilder, others: usize, watch: Option<&Watch>) -> Option<Self> {
        let (host, rights) = match watch {
            Some(_) => (ROOT, FsPerms::ReadWrite),
            None => (EMPTY, FsPerms::ReadOnly),
        };
        wasi.preopened_dir(host, ROOT, rights).ok()?;
        Some(Self {
            descriptor: u32::try_from(FIRST + others).ok(),
            host,
            identity: OnceLock::new(),
            wanted: None,
            learning: watch.map(|watch| Learning { watch: watch.clone(), opened: HashMap::new() }),
        })
    }

    /// Whether a component's open directory is this one.
    pub(super) fn is(&self, directory: &File) -> bool {
        let identity = |found: Metadata| (found.dev(), found.ino());
        let own = self.identity.get_or_init(|| fs::metadata(self.host).ok().map(identity));
        own.is_some() && directory.metadata().ok().map(identity) == *own
    }

    /// Whether a path below this directory is refused.
    pub(super) fn refuses(&mut self, path: &str, writes: bool) -> bool {
        if self.learning.is_some() {
            return false;
        }
        self.wanted = Some((directory_of(path), writes));
        true
    }

    /// Whether what the guest uses is collected.
    pub(super) fn learns(&self) -> bool {
        self.learning.is_some()
    }

    /// Collects a path that was used. `directory` is the descriptor that it starts at, `None` for this one; `opened` is what the
    /// path is known by from now on.
    pub(super) fn used(&mut self, directory: Option<u32>, path: &str, writes: bool, opened: Option<u32>) {
        let Some(learning) = &mut self.learning else { return };
        let start = match directory {
            None => "",
            Some(descriptor) => match learning.opened.get(&descriptor) {
                Some(start) => start.trim_end_matches('/'),
                // It starts at a directory that the hook's settings grant.
                None => return,
            },
        };
        let path = format!("{start}/{}", path.trim_matches('/'));
        let path = path.trim_end_matches("/.").to_owned();
        let path = if path.is_empty() { ROOT.to_owned() } else { path };
        let is_directory = !writes && Path::new(&path).is_dir();
        if let Some(descriptor) = opened {
            learning.opened.insert(descriptor, path.clone());
            // What is opened in it shows what it is needed for; listing it does so too.
            if is_directory && path == ROOT {
                return;
            }
        }
        learning.watch.add(|needs| needs.file(path, writes, is_directory));
    }

    /// The last directory that the guest lacked, and whether it wanted to change something there.
    pub(super) fn into_wanted(self) -> Option<(String, bool)> {
        self.wanted
    }
}

/// The directory that would have to be granted for this path below the root.
fn directory_of(path: &str) -> String {
    let path = format!("/{}", path.trim_matches('/'));
    match needs::directory_of(&path) {
        "/" => path,
        parent => parent.to_owned(),
    }
}
