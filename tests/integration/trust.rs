//! Root runs nothing that another user could have put in place. Every link and directory on the path counts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use hookvisor::Decision;

use crate::support::{Hooks, event, needs_root, skip, wait_until};

const SOMEBODY: u32 = 1234;

/// A directory of another user next to the hooks.
fn theirs(hooks: &Hooks) -> std::path::PathBuf {
    let directory = hooks.path().join(".theirs");
    fs::create_dir(&directory).unwrap();
    chown(&directory, Some(SOMEBODY), None).unwrap();
    directory
}

/// The exit status of a start, and the output of `check` about it.
fn start_and_check(hooks: &Hooks, directory: &Path) -> (Option<i32>, String) {
    let hookvisor = |arguments: &[&str]| {
        let mut command = hooks.command(arguments[0]);
        command.arg("--hooks").arg(directory).args(&arguments[1..]).output().unwrap()
    };
    let started = hookvisor(&["run", "test", "web1", "start"]);
    let checked = hookvisor(&["check"]);
    let text = [checked.stdout, checked.stderr].concat();
    (started.status.code(), String::from_utf8(text).unwrap().replace(&hooks.path().display().to_string(), "DIR"))
}

/// The group of root alone, as on systems where each user has a group.
#[test]
fn a_file_that_root_and_its_group_may_write_is_trusted() {
    if !needs_root("a_file_that_root_and_its_group_may_write_is_trusted") {
        return;
    }
    let hooks = Hooks::new().script("test", "exit 0");
    fs::set_permissions(hooks.path().join("test"), fs::Permissions::from_mode(0o775)).unwrap();
    assert_eq!(start_and_check(&hooks, hooks.path()).0, Some(0));
}

#[test]
fn every_link_of_a_chain_must_be_trusted() {
    if !needs_root("every_link_of_a_chain_must_be_trusted") {
        return;
    }
    let hooks = Hooks::new();
    let good = hooks.file(".own/good", "#!/bin/sh\nexit 0\n", 0o755);
    // test -> .theirs/link -> .own/good: root owns the last file and its directories.
    let link = theirs(&hooks).join("link");
    symlink(&good, &link).unwrap();
    symlink(&link, hooks.path().join("test")).unwrap();
    let (status, text) = start_and_check(&hooks, hooks.path());
    assert_eq!(status, Some(126), "{text}");
    assert!(text.contains("the directory DIR/.theirs is owned by user 1234, who could change it"), "{text}");
}

/// The owner of a directory can replace a link in it at any moment, also between the check and the launch.
#[test]
fn a_chain_whose_owner_keeps_switching_it_is_never_run() {
    if !needs_root("a_chain_whose_owner_keeps_switching_it_is_never_run") {
        return;
    }
    let hooks = Hooks::new();
    let good = hooks.file(".own/good", "#!/bin/sh\nexit 0\n", 0o755);
    let ran = hooks.path().join(".ran");
    hooks.file(".own/evil", format!("#!/bin/sh\n: > {}\nexit 0\n", ran.display()), 0o755);
    let theirs = hooks.path().join(".theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(&good, theirs.join("link")).unwrap();
    symlink(theirs.join("link"), hooks.path().join("test")).unwrap();
    // Everything is root's when the hooks are loaded.
    let runtime = hooks.runtime();
    let start = || runtime.run(&event("web1", "start"));
    assert_eq!(start().exit_status(), 0);

    chown(&theirs, Some(SOMEBODY), None).unwrap();
    let switches = "while :; do for file in evil good; do ln -s ../.own/$file new && mv -T new link; done; done";
    let mut owner = Command::new("/bin/sh");
    owner.args(["-c", switches]).current_dir(&theirs).uid(SOMEBODY).gid(SOMEBODY).stderr(Stdio::null());
    let mut owner = owner.spawn().unwrap();
    let leads_to = |name: &str| fs::read_link(theirs.join("link")).is_ok_and(|target| target.ends_with(name));
    for name in ["evil", "good"] {
        wait_until("the owner switches the link", || leads_to(name));
    }
    for turn in 0..200 {
        let report = start();
        let why = report.to_string();
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 126), "{why}");
        assert!(why.contains("owned by user 1234"), "{why}");
        if turn % 10 == 0 {
            runtime.reload().unwrap();
        }
    }
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(!ran.exists(), "the owner's file has run");
}

#[test]
fn a_link_that_somebody_else_owns_is_refused_even_in_a_sticky_directory() {
    if !needs_root("a_link_that_somebody_else_owns_is_refused_even_in_a_sticky_directory") {
        return;
    }
    let hooks = Hooks::new().script("test", "exit 0");
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("hooks");
    symlink(hooks.path(), &link).unwrap();
    assert_eq!(start_and_check(&hooks, &link).0, Some(0));
    lchown(&link, Some(SOMEBODY), None).unwrap();
    let (status, text) = start_and_check(&hooks, &link);
    assert_eq!(status, Some(125), "{text}");
    assert!(text.contains("is a link that is owned by user 1234"), "{text}");
}

#[test]
fn the_parents_of_the_hooks_directory_must_be_trusted() {
    if !needs_root("the_parents_of_the_hooks_directory_must_be_trusted") {
        return;
    }
    let hooks = Hooks::new();
    let below = theirs(&hooks).join("hooks");
    fs::create_dir(&below).unwrap();
    symlink("/bin/true", below.join("test")).unwrap();
    let (status, text) = start_and_check(&hooks, &below);
    assert_eq!(status, Some(125), "{text}");
    assert!(text.contains("cannot be trusted: the directory DIR/.theirs is owned by user 1234"), "{text}");
}

/// One round is enough: every fault is reported, and one command fixes them all.
#[test]
fn all_faults_are_told_at_once_with_the_command_that_mends_them() {
    if !needs_root("all_faults_are_told_at_once_with_the_command_that_mends_them") {
        return;
    }
    let hooks = Hooks::new().script("test", "exit 0").script("test.d/10 group", "exit 0");
    let real = hooks.file("opt~/theirs/real", "#!/bin/sh\n", 0o777);
    let link = hooks.path().join("test.d/30-link");
    symlink("../opt~/theirs/real", &link).unwrap();
    lchown(&link, Some(SOMEBODY), None).unwrap();
    for path in [real.as_path(), real.parent().unwrap()] {
        chown(path, Some(SOMEBODY), None).unwrap();
    }
    let mode =
        |name: &str, mode| fs::set_permissions(hooks.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("test", 0o757);
    chown(hooks.path().join("test.d/10 group"), None, Some(SOMEBODY)).unwrap();
    mode("test.d/10 group", 0o775);
    let (status, text) = start_and_check(&hooks, hooks.path());
    assert_eq!(status, Some(126), "{text}");
    insta::assert_snapshot!("faults", text);
    let mend = |text: &str| {
        let line = text.lines().rfind(|line| line.contains('`')).unwrap();
        let command = line.split('`').nth(1).unwrap().replace("DIR", &hooks.path().display().to_string());
        assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
        assert_eq!(start_and_check(&hooks, hooks.path()).0, Some(0), "after {command}");
        start_and_check(&hooks, hooks.path()).1
    };
    assert!(!mend(&text).contains("FAILS"));

    // Faults below an unread directory are reported too.
    chown(hooks.path(), Some(SOMEBODY), None).unwrap();
    chown(hooks.path().join("test.d"), Some(SOMEBODY), None).unwrap();
    mode("test", 0o757);
    let (status, text) = start_and_check(&hooks, hooks.path());
    let why = "hookvisor: the hooks directory DIR cannot be trusted: it and the directory DIR/test.d are owned by user 1234, who \
               could change them; the file DIR/test is writable by others (mode 0757): run `chmod o-w DIR/test && chown root: DIR \
               DIR/test.d` if you trust them\n";
    assert_eq!((status, text.as_str()), (Some(125), why));
    mend(&text);
}

/// One event examines a directory once, but only until its first hook: a hook can change every directory.
#[test]
fn what_a_hook_makes_writable_is_refused_to_the_next_hook_of_the_event() {
    if !needs_root("what_a_hook_makes_writable_is_refused_to_the_next_hook_of_the_event") {
        return;
    }
    let hooks = Hooks::new().script("test.d/1-opens", "chmod 777 \"${0%/*}\"").script("test.d/2-next", "exit 0");
    let ran = hooks.command("run").arg("--hooks").arg(hooks.path()).args(["test", "web1", "start"]).output().unwrap();
    let text = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(126), "{text}");
    assert!(text.contains("2-next") && text.contains("test.d is writable by others (mode 0777)"), "{text}");
}

#[test]
fn a_mask_that_somebody_else_can_lift_masks_nothing() {
    if !needs_root("a_mask_that_somebody_else_can_lift_masks_nothing") {
        return;
    }
    let hooks = Hooks::new();
    let link = theirs(&hooks).join("link");
    symlink("/dev/null", &link).unwrap();
    symlink(&link, hooks.path().join("test")).unwrap();
    assert_eq!(start_and_check(&hooks, hooks.path()).0, Some(126));
}

#[test]
fn an_access_control_list_that_lets_somebody_write_is_refused() {
    const NAME: &str = "an_access_control_list_that_lets_somebody_write_is_refused";
    if !needs_root(NAME) {
        return;
    }
    let hooks = Hooks::new().script("test", "exit 0");
    let hook = hooks.path().join("test");
    // user::rwx user:1234:rw- group::r-x mask::rwx other::r-x
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 6, SOMEBODY), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]
    {
        list.extend([tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    if let Err(error) = rustix::fs::setxattr(&hook, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty()) {
        return skip(NAME, &format!("this file system has no access control lists: {error}"));
    }
    let (status, text) = start_and_check(&hooks, hooks.path());
    assert_eq!(status, Some(126), "{text}");
    let why = "it is writable by user 1234 (an access control list): run `setfacl -b DIR/test`";
    assert!(text.contains(why), "{text}");
}

/// A program that a hook may run is code, like the hook.
#[cfg(feature = "wasm")]
#[test]
fn the_path_to_a_granted_program_and_links_to_a_granted_directory_must_be_trusted() {
    if !needs_root("the_path_to_a_granted_program_and_links_to_a_granted_directory_must_be_trusted") {
        return;
    }
    let hooks = Hooks::new().copy("test.wasm", crate::support::guests::wasm_probe());
    fs::rename(hooks.path().join("test.wasm"), hooks.path().join("test")).unwrap();
    let theirs = theirs(&hooks);
    let program = hooks.file(".theirs/tool", "#!/bin/sh\n", 0o755);
    hooks.file("test.toml", format!("[[command]]\nprogram = '{}'\n", program.display()), 0o644);
    let (status, text) = start_and_check(&hooks, hooks.path());
    assert_eq!(status, Some(126), "{text}");
    assert!(text.contains("/.theirs/tool: the directory DIR/.theirs is owned by user 1234"), "{text}");

    // The directory itself may belong to anybody, but not the links and directories that lead to it.
    hooks.file("test.toml", format!("[[dir]]\nhost = '{}'\n", theirs.display()), 0o644);
    let (_, text) = start_and_check(&hooks, hooks.path());
    assert!(text.starts_with("ok "), "{text}");
    let link = theirs.join("link");
    symlink("/etc", &link).unwrap();
    lchown(&link, Some(SOMEBODY), None).unwrap();
    hooks.file("test.toml", format!("[[dir]]\nhost = '{}'\n", link.display()), 0o644);
    let (status, text) = start_and_check(&hooks, hooks.path());
    assert_eq!(status, Some(126), "{text}");
    assert!(text.contains("DIR/.theirs/link is a link that is owned by user 1234"), "{text}");
}

/// A module and its settings from an archive are not the administrator's grant, whoever runs them.
#[cfg(feature = "wasm")]
#[test]
fn settings_that_a_user_could_have_written_grant_nothing_to_exec() {
    if !needs_root("settings_that_a_user_could_have_written_grant_nothing_to_exec") {
        return;
    }
    let hooks = Hooks::new().copy("thing.wasm", &crate::support::guests::wasm("sdk"));
    let program = hooks.path().join(".hookvisor");
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_hookvisor")).arg(&program).status().unwrap().success());
    hooks.file("thing.toml", "[[command]]\nprogram = '/bin/true'\n", 0o644);
    for name in ["thing.wasm", "thing.toml"] {
        chown(hooks.path().join(name), Some(SOMEBODY), None).unwrap();
    }
    let exec = |options: &[&str]| {
        let mut command = Command::new(&program);
        command.env("HOME", "/nonexistent").uid(SOMEBODY).gid(SOMEBODY).current_dir("/").stdin(Stdio::null());
        command.arg("exec").args(options).arg(hooks.path().join("thing.wasm")).args([
            "web1",
            "start",
            "begin",
            "run=/bin/true",
        ]);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, text) = exec(&[]);
    assert_ne!(status, Some(0), "{text}");
    assert!(text.contains("do not list this command"), "{text}");
    assert!(text.contains("are ignored, since users other than root could have written them"), "{text}");
    // The kernel runs a `.wasm` file by this name.
    let interpreter = hooks.path().join(".bin/hookvisor-exec");
    fs::create_dir(interpreter.parent().unwrap()).unwrap();
    symlink(&program, &interpreter).unwrap();
    let mut interpreted = Command::new(&interpreter);
    interpreted.env("HOME", "/nonexistent").uid(SOMEBODY).gid(SOMEBODY).current_dir("/").stdin(Stdio::null());
    let interpreted =
        interpreted.arg(hooks.path().join("thing.wasm")).args(["web1", "start", "begin", "run=/bin/true"]);
    let interpreted = interpreted.output().unwrap();
    let text = String::from_utf8([interpreted.stdout, interpreted.stderr].concat()).unwrap();
    assert_ne!(interpreted.status.code(), Some(0), "{text}");
    assert!(text.contains("do not list this command"), "{text}");
    let (_, text) = exec(&["--trust-grants"]);
    assert!(!text.contains("are ignored") && !text.contains("do not list this command"), "{text}");
}
