//! `state = true`: a hook's own directory, for both kinds of hooks.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tempfile::TempDir;

use super::World;
use crate::support::guests::{wasm_component_probe, wasm_probe};
use crate::support::{DRIVER, Hooks, event, stderr};

/// A directory for the state of hooks, which other users may pass through.
fn root() -> TempDir {
    let root = TempDir::with_prefix("state-").unwrap();
    fs::set_permissions(root.path(), Permissions::from_mode(0o755)).unwrap();
    root
}

fn only_entry(root: &TempDir) -> std::path::PathBuf {
    let mut entries = fs::read_dir(root.path().join("state")).unwrap();
    let entry = entries.next().unwrap().unwrap().path();
    assert!(entries.next().is_none());
    entry
}

#[test]
fn a_confined_hook_keeps_files_of_its_own() {
    let script = "#!/bin/bash\nread -r n < $HOOKVISOR_STATE/count; echo $((n + 1)) > $HOOKVISOR_STATE/count\n\
                  echo \"n: $n\" >&2; : < $HOOKVISOR_STATE/../other/count; : > $HOOKVISOR_STATE/../new; exit 1\n";
    for (settings, owner) in [("state = true", 0), ("state = true\nuser = 'nobody'", 65534)] {
        let (world, root) = (World::new(), root());
        world.hook(script, settings);
        let runtime = world.hooks.builder().state_directory(root.path().join("state")).build().unwrap();
        assert!(!root.path().join("state").exists(), "nothing is made before the first call");
        let first = stderr(&runtime.run(&event("web1", "start")));
        assert!(first.contains("\nn: \n"), "{first}");
        let own = only_entry(&root);
        let found = fs::metadata(&own).unwrap();
        assert_eq!((found.uid(), found.mode() & 0o777), (owner, 0o700), "{settings}");
        fs::create_dir(root.path().join("state/other")).unwrap();
        fs::write(root.path().join("state/other/count"), "9").unwrap();
        let second = stderr(&runtime.run(&event("web1", "start")));
        assert!(second.starts_with("n: 1\n"), "{second}");
        assert_eq!(second.matches("Permission denied").count(), 2, "{second}");
        assert_eq!(fs::read_to_string(own.join("count")).unwrap(), "2\n");
    }
}

#[test]
fn a_wasm_hook_keeps_files_of_its_own() {
    for probe in [wasm_probe(), wasm_component_probe()] {
        let (hooks, root) = (Hooks::new().copy(DRIVER, probe), root());
        hooks.file("test.toml", "state = true", 0o644);
        let runtime = hooks.builder().state_directory(root.path().join("state")).build().unwrap();
        let run = |steps: &str| runtime.run(&event(steps, "start"));
        let said = stderr(&run("variables;exit=1"));
        let own = only_entry(&root);
        assert_eq!(said, format!("HOOKVISOR_STATE={}\n", own.display()));
        assert_eq!(run(&format!("write={}/count:1", own.display())).exit_status(), 0);
        assert_eq!(stderr(&run(&format!("show={}/count;exit=1", own.display()))), "1");
        let above = stderr(&run(&format!("write={}/../new:1", own.display())));
        assert!(!above.is_empty() && !root.path().join("state/new").exists(), "{above}");
    }
}

#[test]
fn a_directory_that_others_may_use_keeps_the_hook_from_running() {
    let (world, root) = (World::new(), root());
    world.hook("#!/bin/bash\nexit 0\n", "state = true");
    let runtime = world.hooks.builder().state_directory(root.path().join("state")).build().unwrap();
    assert_eq!(runtime.run(&event("web1", "start")).exit_status(), 0);
    fs::set_permissions(only_entry(&root), Permissions::from_mode(0o755)).unwrap();
    let report = runtime.run(&event("web1", "start"));
    assert_eq!(report.exit_status(), 126, "{report}");
    assert!(report.to_string().contains("other users can access it (mode 0755): run `chmod 700 "), "{report}");
    let may = runtime.inventory().hooks[0].may.join("\n");
    assert!(may.contains("keep files in its own directory (HOOKVISOR_STATE)"), "{may}");
}
