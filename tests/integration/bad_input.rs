//! Bad input: each case gives one clear sentence that names the file and says what to do, and the right exit status.
//!
//! The texts of all cases are in the tables under `snapshots/`.

mod trust;
mod usage;
#[cfg(feature = "wasm")]
mod wasm;

use std::fmt::Write;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::program::Ran;
use crate::support::{DRIVER, Hooks};

/// The longest message that people still read.
const READABLE: usize = 330;
/// The longest acceptable time, on a machine that is also busy with other work.
const QUICK: Duration = Duration::from_secs(10);

/// One bad input: its name, the expected exit status, and a function that creates it.
type Case = (&'static str, i32, fn(&Path));

fn start(hooks: &Hooks) -> Ran {
    hooks.call(&["run", DRIVER, "web1", "start"])
}

/// One line of at most that length.
fn one_sentence(what: &str, text: &str) -> String {
    let line = text.strip_suffix('\n').unwrap_or_else(|| panic!("{what}: no line in {text:?}"));
    assert!(!line.contains('\n'), "{what}: more than one line in {text:?}");
    assert!(line.len() <= READABLE, "{what}: {} bytes are too many to read: {line}", line.len());
    line.to_owned()
}

/// The message of each case when its hook `file` is called. `check` predicts the same, and `exec` reports it too.
fn table(file: &str, cases: &[Case]) -> String {
    let mut table = String::new();
    for (what, status, make) in cases {
        let hooks = Hooks::new();
        let path = hooks.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        let began = Instant::now();
        let ran = start(&hooks);
        let took = began.elapsed();
        let said = one_sentence(what, &ran.stderr);
        assert_eq!((ran.status, ran.stdout.as_str()), (*status, ""), "{what}: {said}");
        assert!(took < QUICK, "{what} took {took:?}");
        let driver = if file == DRIVER { String::new() } else { format!(" {DRIVER}") };
        let start = format!("Hook script execution failed: Hook script DIR/{file}{driver} could not be run: ");
        let why = said.strip_prefix(&start).unwrap_or_else(|| panic!("{what}: {said}"));
        assert!(!why.contains("os error"), "{what}: a number that says nothing to a person: {why}");
        writeln!(table, "{what} ({status})\n    {why}").unwrap();

        let mut checked = hooks.call(&["check"]);
        // Search where services do, not in the caller's PATH.
        checked.stdout =
            checked.stdout.replace("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "/usr/bin:/bin");
        let foretold = format!(": {why}\n0 ok, 1 would fail, 0 skipped\n");
        assert!(
            checked.stdout.starts_with("FAILS ")
                && checked.stdout.contains(file)
                && checked.stdout.ends_with(&foretold),
            "{what}: {checked:?}"
        );
        assert_eq!((checked.status, checked.stderr.as_str()), (1, ""), "{what}");

        let executed = hooks.exec(file, &["web1"], "");
        let same = format!("Hook script execution failed: Hook script DIR/{file} could not be run: {why}\n");
        assert_eq!(executed, Ran { status: *status, stdout: String::new(), stderr: same }, "{what}");
    }
    table
}

fn executable(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).unwrap();
    mode(path, 0o755);
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A hook that would run if its settings were valid.
fn settings(hook: &Path, text: impl AsRef<[u8]>) {
    executable(hook, "#!/bin/sh\n");
    fs::write(settings_file(hook), text).unwrap();
}

fn settings_file(hook: &Path) -> PathBuf {
    let name = hook.file_name().unwrap().to_str().unwrap();
    hook.with_file_name(format!("{}.toml", name.trim_end_matches(".wasm")))
}

/// A sparse file of two gigabytes.
fn huge(path: &Path, beginning: &[u8]) {
    executable(path, beginning);
    File::options().write(true).open(path).unwrap().set_len(2 << 30).unwrap();
}

#[test]
fn unusable_hook_files() {
    let cases: &[Case] = &[
        ("a directory", 126, |path| fs::create_dir(path).unwrap()),
        ("a dangling link", 127, |path| symlink("/no/such", path).unwrap()),
        ("a link to itself", 126, |path| symlink(path, path).unwrap()),
        ("a link to a directory", 126, |path| symlink("/etc", path).unwrap()),
        ("a FIFO", 126, |path| mkfifo(path, Mode::from_bits_truncate(0o755)).unwrap()),
        ("a socket", 126, |path| drop(UnixListener::bind(path).unwrap())),
        ("a device", 126, |path| symlink("/dev/zero", path).unwrap()),
        ("an empty file", 126, |path| executable(path, "")),
        ("a text without #!", 126, |path| executable(path, "exit 0\n")),
        ("#! to nothing", 127, |path| executable(path, "#!/no/such -x\nexit 0\n")),
        ("#! alone", 126, |path| executable(path, "#!\nexit 0\n")),
        ("#! to a file that is not a program", 126, |path| executable(path, "#!/etc/passwd\n")),
        ("#! to a directory", 126, |path| executable(path, "#!/etc\n")),
        ("#!/usr/bin/env nosuch", 127, |path| executable(path, "#!/usr/bin/env nosuch\nexit 0\n")),
        ("#!/usr/bin/env with an argument", 127, |path| executable(path, "#!/usr/bin/env sh -e\nexit 0\n")),
        ("CRLF", 126, |path| executable(path, "#!/bin/sh\r\nexit 0\r\n")),
        ("CRLF after env", 126, |path| executable(path, "#!/usr/bin/env sh\r\nexit 0\r\n")),
        ("two gigabytes of zeros", 126, |path| huge(path, b"")),
    ];
    assert_snapshot!("native", table(DRIVER, cases));
}

/// Only the system can tell, when it runs the program.
#[test]
fn a_program_that_the_system_cannot_execute() {
    let hooks = Hooks::new();
    executable(&hooks.path().join(DRIVER), b"\x7fELF, and not even that");
    let ran = start(&hooks);
    let said = "it is damaged, or built for another kind of machine: build or copy it again";
    let entry = format!("Hook script execution failed: Hook script DIR/test could not be run: {said}\n");
    assert_eq!(ran, Ran { status: 126, stdout: String::new(), stderr: entry });
}

#[test]
fn invalid_settings() {
    let cases: &[Case] = &[
        ("an unknown key", 126, |hook| settings(hook, "timeout = \"5s\"\ntimeuot = \"5s\"\n")),
        ("a string without an end", 126, |hook| settings(hook, "timeout = \"5s\n")),
        ("a key twice", 126, |hook| settings(hook, "timeout = \"5s\"\ntimeout = \"6s\"\n")),
        ("a number as a duration", 126, |hook| settings(hook, "timeout = 5\n")),
        ("a timeout of zero", 126, |hook| settings(hook, "timeout = \"0s\"\n")),
        ("an invalid pattern", 126, |hook| settings(hook, "objects = [\"[\"]\n")),
        ("an invalid variable name", 126, |hook| settings(hook, "env = { \"A=B\" = \"\" }\n")),
        ("`memory` for a native hook", 126, |hook| settings(hook, "memory = \"64MiB\"\n")),
        ("`sha256` for a native hook", 126, |hook| settings(hook, "sha256 = \"00\"\n")),
        ("not UTF-8", 126, |hook| settings(hook, b"timeout = \"\xff\"\n")),
        ("two gigabytes", 126, |hook| {
            executable(hook, "#!/bin/sh\n");
            huge(&settings_file(hook), b"");
        }),
        ("a directory", 126, |hook| {
            executable(hook, "#!/bin/sh\n");
            fs::create_dir(settings_file(hook)).unwrap();
        }),
        ("a FIFO", 126, |hook| {
            executable(hook, "#!/bin/sh\n");
            mkfifo(&settings_file(hook), Mode::from_bits_truncate(0o644)).unwrap();
        }),
        ("a dangling link", 126, |hook| {
            executable(hook, "#!/bin/sh\n");
            symlink("/no/such.toml", settings_file(hook)).unwrap();
        }),
    ];
    assert_snapshot!("settings", table(DRIVER, cases));
}

#[cfg(not(feature = "wasm"))]
#[test]
fn modules_in_a_build_for_native_hooks_only() {
    let cases: &[Case] = &[
        ("a module", 126, |path| executable(path, b"\0asm\x01\0\0\0")),
        ("a script", 126, |path| executable(path, "#!/bin/sh\nexit 0\n")),
    ];
    assert_snapshot!(table("test.d/10-policy.wasm", cases), @r"
    a module (126)
        it is a WebAssembly module: this hookvisor was built without WebAssembly
    a script (126)
        its name ends in .wasm, but it is not WebAssembly (it does not begin with \0asm): build it again, or rename it
    ");
}

#[test]
fn unusable_hooks_directories() {
    let hooks = Hooks::new();
    let said = |what: &str, name: &str| {
        let path = hooks.path().join(name);
        let mut all = ["run", "list", "check"].map(|subcommand| {
            let event: &[&str] = if subcommand == "run" { &[DRIVER, "web1", "start"] } else { &[] };
            hooks.ran(hooks.command(subcommand).arg("--hooks").arg(&path).args(event))
        });
        all.sort_by_key(|ran| ran.stderr.clone());
        assert!(all.iter().all(|ran| *ran == all[0]), "{what}: {all:?}");
        assert_eq!((all[0].status, all[0].stdout.as_str()), (125, ""), "{what}");
        one_sentence(what, &all[0].stderr)
    };
    hooks.file("file", "", 0o644);
    mkfifo(&hooks.path().join("fifo"), Mode::from_bits_truncate(0o755)).unwrap();
    symlink("loop", hooks.path().join("loop")).unwrap();
    symlink("/no/such", hooks.path().join("dangling")).unwrap();
    let text = [
        said("not there", "none"),
        said("a dangling link", "dangling"),
        said("a file", "file"),
        said("below a file", "file/hooks"),
        said("a FIFO", "fifo"),
        said("a link to itself", "loop"),
    ];
    assert_snapshot!(text.join("\n"), @r"
    hookvisor: there is no hooks directory DIR/none: create it, or name another one
    hookvisor: there is no hooks directory DIR/dangling: create it, or name another one
    hookvisor: DIR/file is not a directory: name the directory that holds the hooks
    hookvisor: DIR/file/hooks is not a directory: name the directory that holds the hooks
    hookvisor: DIR/fifo is not a directory: name the directory that holds the hooks
    hookvisor: the hooks directory DIR/loop could not be read: Too many levels of symbolic links (os error 40)
    ");
}

#[test]
fn an_empty_hooks_directory_prints_nothing() {
    let hooks = Hooks::new();
    assert_eq!(start(&hooks), Ran { status: 0, stdout: String::new(), stderr: String::new() });
    assert_eq!(hooks.call(&["list"]), Ran { status: 0, stdout: String::new(), stderr: String::new() });
    let checked = hooks.call(&["check"]);
    assert_eq!((checked.status, checked.stdout.as_str()), (0, "no hooks in DIR\n"));
}

#[test]
fn a_hook_that_is_not_executable_is_skipped_and_reported() {
    let hooks = Hooks::new();
    hooks.file(DRIVER, "#!/bin/sh\nexit 1\n", 0o644);
    let why = "it is not executable: run `chmod +x DIR/test` to have it called";
    let skipped =
        Ran { status: 0, stdout: String::new(), stderr: format!("hookvisor: hook DIR/test is skipped: {why}\n") };
    assert_eq!(start(&hooks), skipped);
    let json = hooks.call(&["run", "--format", "json", DRIVER, "web1", "start"]).stdout;
    assert!(json.contains(&format!(r#""hooks":[],"skipped":[{{"path":"DIR/test","reason":"{why}"}}]"#)), "{json}");
    let checked = hooks.call(&["check"]);
    assert_eq!(
        (checked.status, checked.stdout),
        (0, format!("skipped  native DIR/test: {why}\n0 ok, 0 would fail, 1 skipped\n"))
    );
    // Whoever names it wants it called.
    let executed = hooks.exec(DRIVER, &[], "");
    let refused = format!("Hook script execution failed: Hook script DIR/test could not be run: {why}\n");
    assert_eq!((executed.status, executed.stderr), (126, refused));
}

#[test]
fn settings_without_a_hook_are_reported() {
    let hooks = Hooks::new().script("test.d/10-check.sh", "exit 0");
    hooks.file("test.d/10-check.toml", "timeout = \"5s\"\n", 0o644);
    let checked = hooks.call(&["check"]);
    assert_eq!(checked.status, 0);
    assert_snapshot!(checked.stdout, @r"
    ok       native DIR/test.d/10-check.sh; timeout 90s
    ignored         DIR/test.d/10-check.toml is not read: its hook does not exist; `x.toml` is for `x.wasm` or `x`, and `x.sh.toml` is for `x.sh`
    1 ok, 0 would fail, 0 skipped
    ");
}

#[test]
fn exec_of_a_missing_file() {
    let hooks = Hooks::new();
    hooks.file("file", "", 0o644);
    let said = |name: &str| {
        let ran = hooks.exec(name, &[], "");
        assert_eq!(ran.status, 127);
        one_sentence(name, &ran.stderr)
    };
    assert_snapshot!([said("none"), said("file/none")].join("\n"), @r"
    Hook script execution failed: Hook script DIR/none could not be run: there is no such file: check its name
    Hook script execution failed: Hook script DIR/file/none could not be run: there is no such file: a part of its path is not a directory
    ");
}
