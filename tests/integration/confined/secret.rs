//! `[[secret]]`: files that a hook may read and nobody else, for both kinds of hooks.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::World;
use crate::support::guests::{wasm_component_probe, wasm_probe};
use crate::support::{DRIVER, Hooks, event, start, stderr};

const SECRET: &str = "a secret of the host";

/// A world whose secret only its owner may read, and the grant of it.
fn world() -> (World, String) {
    let world = World::new();
    fs::set_permissions(world.at("secret"), Permissions::from_mode(0o600)).unwrap();
    let grant = format!("[[secret]]\nfile = '{}'\nvariable = 'TOKEN'\n", world.at("secret").display());
    (world, grant)
}

#[test]
fn a_confined_hook_reads_its_secret_and_cannot_write_it() {
    let (world, grant) = world();
    let script = "#!/bin/bash\nread -r -d '' line < $TOKEN; echo \"$line\" >&2; : > $TOKEN; exit 1\n";
    let report = world.run(script, &grant);
    let said = stderr(&report);
    assert!(said.starts_with(&format!("{SECRET}\n")) && said.contains("Permission denied"), "{report}");
    world.assert_unchanged();
    let may = world.hooks.runtime().inventory().hooks[0].may.join("\n");
    assert!(may.contains(&format!("read the secret {} (TOKEN)", world.at("secret").display())), "{may}");
    assert!(!may.contains(SECRET));
}

#[test]
fn a_wasm_hook_reads_its_secret_and_cannot_write_it() {
    let (world, grant) = world();
    for probe in [wasm_probe(), wasm_component_probe()] {
        let hooks = Hooks::new().copy(DRIVER, probe);
        hooks.file("test.toml", &grant, 0o644);
        let runtime = hooks.runtime();
        let run = |steps: &str| runtime.run(&event(steps, "start"));
        assert_eq!(stderr(&run("variables;exit=1")), "TOKEN=/run/hookvisor/secrets/TOKEN\n");
        assert_eq!(stderr(&run("show=/run/hookvisor/secrets/TOKEN;exit=1")), SECRET);
        assert_ne!(run("write=/run/hookvisor/secrets/TOKEN:new").exit_status(), 0);
        assert_ne!(run("write=/run/hookvisor/secrets/OTHER:new").exit_status(), 0);
    }
    world.assert_unchanged();
}

#[test]
fn a_secret_that_others_may_read_keeps_the_hook_from_running() {
    let (world, grant) = world();
    fs::set_permissions(world.at("secret"), Permissions::from_mode(0o640)).unwrap();
    world.hook("#!/bin/bash\nexit 0\n", &grant);
    let wasm = Hooks::new().copy(DRIVER, wasm_probe());
    wasm.file("test.toml", &grant, 0o644);
    for report in [start(&world.hooks), start(&wasm)] {
        assert_eq!(report.exit_status(), 126, "{report}");
        assert!(report.to_string().contains("other users can access it (mode 0640): run `chmod 600 "), "{report}");
    }
}
