//! Files that others could have written, and files that this user may not use.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use insta::assert_snapshot;

use super::{Case, executable, mode, one_sentence, settings, settings_file, start, table};
use crate::support::{DRIVER, Hooks, needs_root};

const FILES: &[Case] = &[
    ("writable by others", 126, |path| {
        executable(path, "#!/bin/sh\n");
        mode(path, 0o777);
    }),
    ("writable by a group", 126, |path| {
        executable(path, "#!/bin/sh\n");
        chown(path, None, Some(1234)).unwrap();
        mode(path, 0o775);
    }),
    ("owned by another user", 126, |path| {
        executable(path, "#!/bin/sh\n");
        chown(path, Some(1234), None).unwrap();
    }),
    ("settings that are writable by others", 126, |path| {
        settings(path, "timeout = \"5s\"\n");
        mode(&settings_file(path), 0o666);
    }),
    ("a link to another user's directory", 126, |path| {
        executable(&another_s_directory(path).join("real"), "#!/bin/sh\n");
        symlink("theirs~/real", path).unwrap();
    }),
];

const DIRECTORIES: &[Case] = &[
    ("writable by others", 126, |path| {
        fs::create_dir(path).unwrap();
        mode(path, 0o777);
    }),
    ("owned by another user", 126, |path| {
        fs::create_dir(path).unwrap();
        chown(path, Some(1234), None).unwrap();
    }),
    ("a link through another user's directory", 126, |path| {
        let real = another_s_directory(path).join("real");
        fs::create_dir(&real).unwrap();
        executable(&real.join("10-check"), "#!/bin/sh\n");
        symlink("theirs~/real", path).unwrap();
    }),
];

/// Root runs only files that only root could have written. Other users run their own files.
#[test]
fn files_that_others_could_have_written() {
    if !needs_root("files_that_others_could_have_written") {
        return;
    }
    let mut text = table(DRIVER, FILES);
    for (what, status, make) in DIRECTORIES {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        make(&hooks.path().join("test.d"));
        let ran = start(&hooks);
        assert_eq!(ran.status, *status, "{what}");
        writeln!(text, "the directory test.d: {what} ({status})\n    {}", one_sentence(what, &ran.stderr)).unwrap();
        assert_eq!(hooks.call(&["check"]).status, 1, "{what}");
    }
    for (what, mode_of_it, owner) in [("writable by others", 0o777, 0), ("owned by another user", 0o755, 1234)] {
        let hooks = Hooks::new().script(DRIVER, "exit 0");
        mode(hooks.path(), mode_of_it);
        chown(hooks.path(), Some(owner), None).unwrap();
        let ran = start(&hooks);
        assert_eq!((ran.status, &hooks.call(&["check"])), (125, &ran), "{what}");
        writeln!(text, "the hooks directory: {what} (125)\n    {}", one_sentence(what, &ran.stderr)).unwrap();
    }
    assert_snapshot!("trust", text);
}

/// The permissions of an ordinary user. Root has to drop its privileges to test them.
#[test]
fn files_that_this_user_cannot_use() {
    if !needs_root("files_that_this_user_cannot_use") {
        return;
    }
    let hooks = Hooks::new();
    let program = hooks.path().join(".hookvisor");
    // Another process writes it: a child of another test could inherit this process's descriptor and keep the program
    // busy.
    let copied = process::Command::new("cp").arg(env!("CARGO_BIN_EXE_hookvisor")).arg(&program).status().unwrap();
    assert!(copied.success());
    hooks.file("test.d/10-for-root-to-run", "#!/bin/sh\n", 0o744);
    hooks.file("test.d/20-for-root-to-read", "#!/bin/sh\n", 0o711);
    fs::create_dir(hooks.path().join("lxc.d")).unwrap();
    mode(&hooks.path().join("lxc.d"), 0o700);
    let as_nobody = |arguments: &[&str]| {
        let mut command = process::Command::new(&program);
        command.env("HOME", "/nonexistent").uid(65534).gid(65534).current_dir("/").stdin(Stdio::null());
        let (subcommand, rest) = arguments.split_first().unwrap();
        let output = command.arg(subcommand).arg("--hooks").arg(hooks.path()).args(rest).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text.replace(&hooks.path().display().to_string(), "DIR"))
    };
    let (status, text) = as_nobody(&["check"]);
    assert_eq!(status, Some(1));
    assert_snapshot!(text, @r"
    FAILS    native DIR/lxc.d: the directory could not be read: Permission denied (os error 13)
    FAILS    native DIR/test.d/10-for-root-to-run: user 65534 may not execute it: check its permissions, and that its file system is not mounted noexec
    FAILS    native DIR/test.d/20-for-root-to-read: it could not be opened: Permission denied (os error 13)
    ignored         DIR/.hookvisor is not called: names that begin with . are ignored
    0 ok, 3 would fail, 0 skipped
    ");
    assert_eq!(as_nobody(&["run", DRIVER, "web1", "start"]).0, Some(126));
    assert_eq!(as_nobody(&["run", "lxc", "web1", "start"]).0, Some(126));
    mode(hooks.path(), 0o711);
    let unreadable = "hookvisor: the hooks directory DIR could not be read: Permission denied (os error 13)\n";
    assert_eq!(as_nobody(&["check"]), (Some(125), unreadable.to_owned()));
}

/// A directory next to `path` whose owner could put anything into it.
fn another_s_directory(path: &Path) -> PathBuf {
    let theirs = path.with_file_name("theirs~");
    fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(1234), None).unwrap();
    theirs
}
