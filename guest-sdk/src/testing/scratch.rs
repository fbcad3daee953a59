use std::cell::OnceCell;
use std::env;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary directory, created on first use and removed when dropped.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    root: OnceCell<PathBuf>,
}

impl Scratch {
    /// The place of a guest path in it.
    pub(super) fn place(&self, guest: &Path) -> PathBuf {
        let mut place = self.root().to_owned();
        for component in guest.components() {
            match component {
                Component::Normal(name) => place.push(name),
                // As at the root of a file system.
                Component::ParentDir if place != self.root() => {
                    place.pop();
                }
                _ => {}
            }
        }
        place
    }

    /// Writes a file, and the directories on the way to it.
    #[expect(clippy::panic, reason = "a test whose set-up fails, fails")]
    pub(super) fn write(&self, guest: &Path, content: &[u8]) {
        let place = self.place(guest);
        let directories = place.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = directories.and_then(|()| fs::write(&place, content)) {
            panic!("the harness could not write {}: {error}", place.display());
        }
    }

    /// Makes a directory.
    #[expect(clippy::panic, reason = "a test whose set-up fails, fails")]
    pub(super) fn make(&self, guest: &Path) {
        let place = self.place(guest);
        if let Err(error) = fs::create_dir_all(&place) {
            panic!("the harness could not make {}: {error}", place.display());
        }
    }

    #[expect(clippy::panic, reason = "a test whose set-up fails, fails")]
    fn root(&self) -> &Path {
        self.root.get_or_init(|| create().unwrap_or_else(|error| panic!("no temporary directory: {error}")))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(root) = self.root.get() {
            // If this fails, the system cleans up.
            let _ = fs::remove_dir_all(root);
        }
    }
}

/// A new directory that nothing else uses.
fn create() -> io::Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = env::temp_dir().join(format!("hookvisor-guest-{}-{number}", process::id()));
        match fs::create_dir(&root) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| root),
        }
    }
}
