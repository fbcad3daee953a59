//! The settings of confined hooks.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::World;
use crate::support::{Hooks, event, needs_root, start, stderr};

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
fn an_interpreter_among_the_commands_is_told() {
    let hooks = Hooks::new().script("test", "exit 0");
    hooks.file("test.toml", "confine = true\n[[command]]\nprogram = '/usr/bin/bash'\nargs = ['-c', '*']\n", 0o644);
    let inventory = hooks.runtime().inventory();
    let may = inventory.hooks[0].may.join("\n");
    assert!(may.contains("run /usr/bin/bash -c * (which can run any program, unconfined)"), "{may}");
    let warnings = inventory.hooks[0].warnings.join("\n");
    assert!(warnings.starts_with("its grant of /usr/bin/bash lets it run any program"), "{warnings}");
}

#[test]
fn what_a_confined_hook_may_do_is_told_in_the_words_of_a_sandboxed_one() {
    let hooks = Hooks::new().script("test", "exit 0");
    let may = |confine_all: bool, settings: &str| {
        hooks.file("test.toml", settings, 0o644);
        let explained = hooks.builder().confine_all(confine_all).explain(&event("web1", "start")).unwrap();
        let listed = hooks.builder().confine_all(confine_all).build().unwrap().inventory();
        assert_eq!(explained.hooks[0].hook.may, listed.hooks[0].may, "{settings}");
        listed.hooks[0].may.join(", ")
    };
    let grants = "[[dir]]\nhost = '/usr'\n[[command]]\nprogram = '/usr/bin/id'\nargs = ['-u', '*']\n\
                  [[connect]]\nto = '127.0.0.1:9090'\n";
    let granted = "read /usr, run /usr/bin/id -u *, connect to 127.0.0.1:9090, nothing else (confined)";
    assert_eq!(may(false, &format!("confine = true\n{grants}")), granted);
    assert_eq!(may(true, grants), granted);
    assert_eq!(may(true, ""), "nothing else (confined)");
    assert_eq!(may(false, ""), "");
}

#[test]
fn what_only_root_can_hold_is_refused_to_others_when_it_is_loaded() {
    if !needs_root("confined hooks of another user") {
        return;
    }
    let hooks = Hooks::new().script("qemu", "exit 0");
    for (settings, why) in [
        ("user = 'nobody'", "have `user`, which only root can give a hook"),
        ("[[command]]\nprogram = '/usr/bin/id'", "this needs the capability CAP_SYS_ADMIN"),
    ] {
        hooks.file("qemu.toml", format!("confine = true\n{settings}\n"), 0o644);
        let program = hooks.file("hookvisor", fs::read(env!("CARGO_BIN_EXE_hookvisor")).unwrap(), 0o755);
        let mut check = Command::new(program);
        check.arg("check").arg("--hooks").arg(hooks.path()).uid(65534).gid(65534).current_dir("/");
        let checked = check.output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(said.contains(why) && said.contains("FAILS"), "{said}\n{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn grants_may_be_of_the_event_a_single_file_or_for_writing_alone() {
    let world = World::new();
    let at = world.at("");
    for name in ["state/web1", "state/web2", "cpus/cpu0", "cpus/cpu1", "devices/real"] {
        std::fs::create_dir_all(at.join(name)).unwrap();
        std::fs::write(at.join(name).join("file"), name).unwrap();
    }
    std::os::unix::fs::symlink("../devices/real", at.join("cpus/cpu2")).unwrap();
    let grants = "[[dir]]\nhost = '@/state/{object}'\naccess = 'read-write'\n[[dir]]\nhost = '@/cpus/cpu*'\n\
                  [[dir]]\nhost = '@/secret'\naccess = 'write'\n[[dir]]\nhost = '@/no-such/{operation}'\n";
    let script = "#!/bin/bash\ncd $WORLD\nfor file in state/web1 state/web2 cpus/cpu0 cpus/cpu1 cpus/cpu2; do\n\
                  read -r line 2> /dev/null < $file/file; echo \"$file: $line\" >&2; line=; done 2> $WORLD/granted/said\n\
                  echo new > $WORLD/secret; read -r line < $WORLD/secret || echo unreadable >> $WORLD/granted/said\n\
                  echo more > $WORLD/state/web1/more && echo written >> $WORLD/granted/said; exit 1\n";
    let report = world.run(script, &grants.replace('@', at.display().to_string().trim_end_matches('/')));
    let said = std::fs::read_to_string(world.at("granted/said")).unwrap();
    let lines: Vec<&str> = said.lines().filter(|line| !line.contains("Permission denied")).collect();
    assert_eq!(
        lines,
        [
            "state/web1: state/web1",
            "state/web2: ",
            "cpus/cpu0: cpus/cpu0",
            "cpus/cpu1: cpus/cpu1",
            "cpus/cpu2: devices/real",
            "unreadable",
            "written"
        ],
        "{report}"
    );
    assert_eq!(std::fs::read_to_string(world.at("secret")).unwrap(), "new\n");
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
