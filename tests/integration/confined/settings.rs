//! What the settings of confined hooks may say.

use super::World;
use crate::support::{Hooks, start, stderr};

/// Why a hook with these settings is not run.
fn refused(settings: &str) -> String {
    let hooks = Hooks::new().script("test", "exit 0");
    hooks.file("test.toml", settings, 0o644);
    let report = start(&hooks);
    assert_eq!(report.hooks[0].termination.exit_status(), 126, "{report}");
    report.to_string().replace(&hooks.path().display().to_string(), "HOOKS")
}

#[test]
fn grants_without_confinement_are_refused() {
    for key in [
        "memory = '1MiB'",
        "files = 10",
        "user = 'nobody'",
        "[[command]]\nprogram = '/bin/true'",
        "[[dir]]\nhost = '/'",
    ] {
        let why = refused(key);
        assert!(why.contains("add `confine = true`, or remove `"), "{key}: {why}");
    }
}

#[test]
fn what_cannot_be_held_is_refused() {
    for (settings, why) in [
        ("[[dir]]\nhost = '/usr'\nguest = '/other'", "which only a WebAssembly hook can see by another name"),
        ("processes = 10", "`processes` without `user`"),
        ("user = 'root'", "which is root"),
        ("user = 'no-such-user'", "there is no such user"),
        ("[[dir]]\nhost = '/no/such'", "/no/such"),
        ("[[command]]\nprogram = '/no/such'", "/no/such"),
        ("[[command]]\nprogram = '/bin/sh'\nargs = ['-c', '*']", "which executes the hook itself"),
    ] {
        let said = refused(&format!("confine = true\n{settings}"));
        assert!(said.contains(why), "{settings}: {said}");
    }
}

#[test]
fn limits_hold() {
    let world = World::new();
    let script = "#!/usr/bin/python3\nimport os, resource, sys\n\
                  print([resource.getrlimit(r)[0] for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE)], file=sys.stderr)\n\
                  print(os.getuid(), os.geteuid(), os.getgroups(), file=sys.stderr)\n\
                  try:\n    x = bytearray(1 << 30)\nexcept MemoryError:\n    print('no memory', file=sys.stderr)\nsys.exit(1)\n";
    let said = stderr(&world.run(script, "memory = '200MiB'\nfiles = 20\nprocesses = 50\nuser = 'nobody'"));
    assert_eq!(said, "[20, 50, 0]\n65534 65534 []\nno memory\n");
}
