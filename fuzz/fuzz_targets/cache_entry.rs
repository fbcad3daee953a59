//! A damaged cache entry: the runtime must compile the module again and replace the entry.
//!
//! An entry is the machine code, and a trailer: a checksum of 16 bytes and the format's name of 26 bytes.
//!
//! The first byte of the input selects the damage. With 0, the rest of the input replaces the entry. Otherwise each
//! five bytes of the rest are one change: its kind, its position in three bytes, and a byte of content. The position
//! counts from the beginning of the entry, or from its end if the kind has the bit 4. Above 127, the entry's mode changes
//! as well. With the bit 64, a runtime for a single event reads the entry, which maps the file instead of copying it.
#![no_main]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use hookvisor::{Cache, Event, Runtime};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const MODULE: &str = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1) (func (export "_start") i32.const 7 call $exit))"#;

/// The bits of the input's bytes.
const FOR_ONE_EVENT: u8 = 64;
const FROM_THE_END: u8 = 4;

/// A hook, and its cache entry.
struct World {
    runtime: Runtime,
    hooks: PathBuf,
    cache: Cache,
    entry: PathBuf,
    good: Vec<u8>,
    _directory: TempDir,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let directory = TempDir::new().expect("a directory");
    let hooks = directory.path().join("hooks");
    fs::create_dir(&hooks).expect("a hooks directory");
    fs::write(hooks.join("test"), wat::parse_str(MODULE).expect("a module")).expect("a hook");
    fs::set_permissions(hooks.join("test"), Permissions::from_mode(0o755)).expect("its mode");
    let cache = Cache::open(directory.path().join("cache")).expect("a cache");
    let runtime = Runtime::builder(&hooks).cache(cache.clone()).build().expect("a runtime");
    let entries = fs::read_dir(directory.path().join("cache")).expect("a cache");
    // The directory `stamps` is beside it.
    let mut entries = entries.map(|entry| entry.expect("its name").path()).filter(|path| path.is_file());
    let entry = entries.next().expect("an entry");
    let good = fs::read(&entry).expect("its content");
    World { runtime, hooks, cache, entry, good, _directory: directory }
});

fuzz_target!(|data: &[u8]| {
    let Some((&how, rest)) = data.split_first() else { return };
    let world = &*WORLD;
    let spoiled = if how == 0 { rest.to_vec() } else { changed(&world.good, rest) };
    let mode = if how > 127 { 0o600 | u32::from(how & 0o77) } else { 0o600 };
    if fs::read(&world.entry).ok().as_ref() != Some(&spoiled) {
        // A new file, as somebody who replaces it would create.
        fs::remove_file(&world.entry).expect("an entry");
        fs::write(&world.entry, &spoiled).expect("the spoiled one");
    }
    fs::set_permissions(&world.entry, Permissions::from_mode(mode)).expect("its mode");
    let event = Event::new("test", "web1", "start").expect("an event");
    let report = if how & FOR_ONE_EVENT == 0 {
        world.runtime.reload().expect("the hooks");
        world.runtime.run(&event)
    } else {
        let builder = Runtime::builder(&world.hooks).cache(world.cache.clone()).for_one_event();
        builder.build().expect("a runtime").run(&event)
    };
    assert_eq!(report.exit_status(), 7, "{report}");
    // If the damaged entry had been used, it would still be there.
    let found = fs::metadata(&world.entry).expect("an entry");
    assert!(fs::read(&world.entry).expect("its content") == world.good, "the entry is not as the runtime writes it");
    assert_eq!(found.permissions().mode() & 0o022, 0, "the entry is still for others to write");
});

/// The entry with changes: a byte replaced, inserted or removed, or the rest cut off.
fn changed(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut entry = good.to_vec();
    for change in changes.chunks_exact(5) {
        let position = usize::from_be_bytes([0, 0, 0, 0, 0, change[1], change[2], change[3]]) % (entry.len() + 1);
        let at = if change[0] & FROM_THE_END == 0 { position } else { entry.len() - position };
        match change[0] % 4 {
            0 if at < entry.len() => entry[at] = change[4],
            1 => entry.insert(at, change[4]),
            2 if at < entry.len() => drop(entry.remove(at)),
            3 => entry.truncate(at),
            _ => {}
        }
    }
    entry
}
