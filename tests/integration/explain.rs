//! `explain`: which hooks an event would call and why, without running any.

use std::os::unix::fs::symlink;

use crate::support::{DRIVER, Hooks};

/// A directory with every kind of hook.
fn hooks() -> Hooks {
    let hooks = Hooks::new()
        .script("test.d/10-general", "touch \"${0%/*}/../ran\"")
        .script("test.d/20-narrow", "exit 1")
        .script("test.d/30-watching", "exit 1")
        .script("test.d/web1/start/-/50-own", "exit 0")
        .script("test.d/web-1/start/-/50-near", "exit 0")
        .script("test.d/web1/strat/-/50-slip", "exit 0")
        .script("tset.d/10-driver", "exit 0");
    hooks.file("test.d/20-narrow.toml", "operations = ['stopped']\n", 0o644);
    hooks.file("test.d/30-watching.toml", "mode = 'monitor'\ntimeout = '5s'\n", 0o644);
    hooks.file("test.d/40-not-executable", "#!/bin/sh\n", 0o644);
    hooks.file("test.d/45-broken", "no interpreter", 0o755);
    symlink("/dev/null", hooks.path().join("test.d/46-masked")).unwrap();
    hooks.file("test.d/web1/too-high", "#!/bin/sh\n", 0o755);
    hooks
}

#[test]
fn each_hook_is_explained_and_none_is_run() {
    let hooks = hooks();
    let explained = hooks.call(&["explain", DRIVER, "web1", "start"]);
    assert_eq!((explained.status, explained.stderr.as_str()), (0, ""));
    insta::assert_snapshot!("explain", explained.stdout);
    assert!(!hooks.path().join("ran").exists());
}

#[test]
fn nothing_is_compiled() {
    let hooks = Hooks::new();
    // A module by its first bytes, which does not compile.
    hooks.file("test.d/10-module.wasm", b"\0asm\x01\0\0\0 and nonsense", 0o755);
    let explained = hooks.call(&["explain", DRIVER, "web1", "start"]);
    if cfg!(feature = "wasm") {
        assert!(
            explained.stdout.contains("  1. wasm   DIR/test.d/10-module.wasm\n     why      it is a hook of test\n"),
            "{}",
            explained.stdout
        );
    }
    assert!(!hooks.path().join(".cache").exists());
}

#[test]
fn the_stage_says_what_a_failure_means() {
    let hooks = Hooks::new().script("qemu", "exit 0");
    let second = |arguments: &[&str]| hooks.call(arguments).stdout.lines().nth(1).map(str::to_owned).unwrap();
    assert_eq!(
        second(&["explain", "qemu", "web1", "prepare"]),
        "a hook that fails vetoes the event; the other hooks still run"
    );
    assert_eq!(
        second(&["explain", "qemu", "web1", "release"]),
        "a hook that fails is reported; the event has already happened, so nothing is undone"
    );
    assert_eq!(
        second(&["explain", "mydaemon", "web1", "start"]),
        "a hook that fails vetoes the event; the hooks after it are not called"
    );
    assert!(second(&["explain", "qemu", "web1", "strat"]).starts_with("the event is refused, and no hook is called: "));
    assert_eq!(hooks.call(&["explain", "not/a/driver", "web1", "start"]).status, 2);
}
