//! A hooks directory in whose place another comes, while it is read. Its hooks are sandboxed: such a one is what it was when
//! it was loaded, where of a native one the file may be another at each call.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hookvisor::Decision;

use super::Until;
use super::directory::builder;
use crate::support::guests::module_that_exits;
use crate::support::{Hooks, event};

/// How long the directory keeps changing.
const A_WHILE: Duration = Duration::from_secs(4);

/// Two sets of hooks, `a` and `b`. Each vetoes, and a mixture of both could let a start pass.
fn two_sets() -> Hooks {
    let hooks = Hooks::new();
    for (set, first, second) in [("a", 3, 0), ("b", 0, 4)] {
        for (name, status) in [("10", first), ("20", second)] {
            hooks.file(&format!("{set}/test.d/{name}"), module_that_exits(status), 0o755);
        }
    }
    hooks
}

/// Reloads and starts while `swap` exchanges the sets repeatedly.
fn meanwhile(hooks: &Hooks, swap: impl Fn(&Path, &str) + Sync) {
    let runtime = builder(hooks).build().unwrap();
    let (done, mut reloads, mut seen) = (AtomicBool::new(false), 0, [0; 2]);
    thread::scope(|scope| {
        scope.spawn(|| {
            for turn in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                swap(hooks.path(), ["b", "a"][turn as usize % 2]);
                // Sometimes at once, sometimes only after a reload.
                thread::sleep(Duration::from_millis((turn / 8) % 8));
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match runtime.reload() {
                    Ok(()) => reloads += 1,
                    Err(error) => {
                        let said = error.to_string();
                        let expected = ["there is no hooks directory ", "keeps changing while it is read: try again"];
                        assert!(expected.iter().any(|expected| said.contains(expected)), "{said}");
                    }
                }
            }
        });
        let _until = Until(&done);
        let began = Instant::now();
        while began.elapsed() < A_WHILE {
            let report = runtime.run(&event("web1", "start"));
            assert_eq!(report.decision, Decision::Vetoed, "{report:?}");
            match report.exit_status() {
                3 => seen[0] += 1,
                4 => seen[1] += 1,
                _ => unreachable!("{report}"),
            }
        }
    });
    assert!(reloads > 0 && seen.iter().all(|&starts| starts > 0), "{reloads} reloads, starts: {seen:?}");
    runtime.reload().unwrap();
    assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Vetoed);
}

#[test]
fn a_link_swapped_during_a_reload_leads_to_one_set_or_the_other() {
    let hooks = two_sets();
    symlink("a", hooks.path().join("hooks")).unwrap();
    meanwhile(&hooks, |path, set| {
        symlink(set, path.join("new")).unwrap();
        fs::rename(path.join("new"), path.join("hooks")).unwrap();
    });
}

#[test]
fn a_directory_that_is_replaced_during_a_reload_is_the_old_one_or_the_new_one() {
    let hooks = two_sets();
    fs::rename(hooks.path().join("a"), hooks.path().join("hooks")).unwrap();
    meanwhile(&hooks, |path, set| {
        let other = if set == "a" { "b" } else { "a" };
        // The directory is missing for a moment. The hooks that were loaded before stay.
        fs::rename(path.join("hooks"), path.join(other)).unwrap();
        fs::rename(path.join(set), path.join("hooks")).unwrap();
    });
}

#[test]
fn hooks_that_are_removed_and_written_again_during_a_reload_are_all_there_or_none() {
    // A driver without hooks does not veto. So each state has a vetoing hook, and the directory is never empty.
    let hooks = Hooks::new();
    hooks.file("hooks/test.d/10", module_that_exits(3), 0o755);
    meanwhile(&hooks, |path, set| {
        let (new, status, old) = if set == "b" { ("20", 4, "10") } else { ("10", 3, "20") };
        let at = |name: &str| path.join("hooks/test.d").join(name);
        fs::write(at("new.bak"), module_that_exits(status)).unwrap();
        fs::set_permissions(at("new.bak"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(at("new.bak"), at(new)).unwrap();
        fs::remove_file(at(old)).unwrap();
    });
}
