//! Bad input: each case gives one clear sentence that names the file and says what to do, and the right exit status.
//!
//! The texts of all cases are in the tables under `snapshots/`.

use std::ffi::OsString;
use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::{Duration, Instant};

use hookvisor::{Event, Exec};
use insta::assert_snapshot;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::program::{Ran, hookvisor};
use crate::support::{DRIVER, Hooks, needs_root};

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

#[cfg(feature = "wasm")]
mod wasm {
    use super::*;

    /// Long enough for more than one section.
    const FITS: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

    fn module(path: &Path, text: &str) {
        executable(path, wat::parse_str(text).unwrap());
    }

    #[test]
    fn modules_that_cannot_be_run() {
        let cases: &[Case] = &[
            ("the magic alone", 126, |path| executable(path, b"\0asm")),
            ("truncated", 126, |path| {
                let whole = wat::parse_str(FITS).unwrap();
                executable(path, &whole[..whole.len() - 3]);
            }),
            ("garbage", 126, |path| executable(path, b"\0asm\x01\0\0\0\x7f\x7f\x7f\x7fgarbage")),
            ("a component's header", 126, |path| executable(path, b"\0asm\x0d\0\x01\0")),
            ("an import from another host", 126, |path| {
                module(
                    path,
                    r#"(module (import "env" "abort" (func)) (import "env" "now" (func)) (func (export "_start")))"#,
                );
            }),
            ("an import of WASI with another signature", 126, |path| {
                let text = r#"(module (import "wasi_snapshot_preview1" "fd_close" (func)) (func (export "_start")))"#;
                module(path, text);
            }),
            ("a library", 126, |path| module(path, r#"(module (func (export "check")))"#)),
            ("_start with a parameter", 126, |path| module(path, r#"(module (func (export "_start") (param i32)))"#)),
            ("_start that is a memory", 126, |path| module(path, r#"(module (memory (export "_start") 1))"#)),
            ("more memory than the limit", 126, |path| {
                module(path, r#"(module (memory 1025) (func (export "_start")))"#);
            }),
            ("more memory than its settings allow", 126, |path| {
                module(path, r#"(module (memory 17) (func (export "_start")))"#);
                fs::write(settings_file(path), "memory = \"1MiB\"\n").unwrap();
            }),
            ("a table over the limit", 126, |path| {
                module(path, r#"(module (table 100001 funcref) (func (export "_start")))"#);
            }),
            ("another digest than its settings require", 126, |path| {
                module(path, FITS);
                fs::write(settings_file(path), format!("sha256 = \"{}\"\n", "0".repeat(64))).unwrap();
            }),
            ("the text format", 126, |path| executable(path, FITS)),
            ("an empty file", 126, |path| executable(path, "")),
            ("a script", 126, |path| executable(path, "#!/bin/sh\nexit 0\n")),
            ("two gigabytes without the magic", 126, |path| huge(path, b"")),
            ("two gigabytes with it", 126, |path| huge(path, b"\0asm\x01\0\0\0")),
        ];
        assert_snapshot!("wasm", table("test.d/10-policy.wasm", cases));
    }

    /// Without a cache, a hook only takes longer to load. Only an explicit request for a cache reports the problem.
    #[test]
    fn unusable_cache_directories() {
        let hooks = Hooks::new();
        module(&hooks.path().join(DRIVER), FITS);
        hooks.file("test.d/cache~", "", 0o644);
        let open = hooks.path().join("test.d/open~");
        fs::create_dir(&open).unwrap();
        mode(&open, 0o777);
        let with = |name: &str, arguments: &[&str]| {
            let (subcommand, rest) = arguments.split_first().unwrap();
            let mut command = hookvisor();
            command.arg(subcommand).arg("--hooks").arg(hooks.path()).arg("--cache").arg(hooks.path().join(name));
            hooks.ran(command.args(rest))
        };
        let mut said = Vec::new();
        for name in ["test.d/cache~", "test.d/cache~/below", "test.d/open~"] {
            let quiet = Ran { status: 0, stdout: String::new(), stderr: String::new() };
            assert_eq!(with(name, &["run", DRIVER, "web1", "start"]), quiet, "{name}");
            let compiled = with(name, &["compile"]);
            assert_eq!((compiled.status, compiled.stdout.as_str()), (125, ""), "{name}");
            said.push(
                one_sentence(name, &compiled.stderr).replace(&format!("user {}", nix::unistd::geteuid()), "user USER"),
            );
        }
        assert_snapshot!(said.join("\n"), @r"
        hookvisor: the cache directory DIR/test.d/cache~ cannot be used: File exists (os error 17): name another one
        hookvisor: the cache directory DIR/test.d/cache~/below cannot be used: Not a directory (os error 20): name another one
        hookvisor: the cache directory DIR/test.d/open~ cannot be trusted: it must belong to user USER, and nobody else may write to it
        ");
        assert_eq!(fs::read_dir(&open).unwrap().count(), 0);
    }

    #[test]
    fn a_module_is_recognized_by_its_magic_number() {
        let hooks = Hooks::new();
        module(&hooks.path().join(DRIVER), FITS);
        assert_eq!(start(&hooks), Ran { status: 0, stdout: String::new(), stderr: String::new() });
        assert_eq!(hooks.call(&["list"]).stdout, "test     wasm   DIR/test; timeout 90s\n");
    }
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

/// Root runs only files that only root could have written. Other users run their own files.
#[test]
fn files_that_others_could_have_written() {
    if !needs_root("files_that_others_could_have_written") {
        return;
    }
    let files: &[Case] = &[
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
    let directories: &[Case] = &[
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
    let mut text = table(DRIVER, files);
    for (what, status, make) in directories {
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

#[test]
fn arguments_that_cannot_be_passed() {
    let nul = Event::new("test", "we\0b", "start").map(drop).unwrap_err().to_string();
    assert_eq!(nul, r#"the object "we\0b" contains a NUL byte, which is not allowed in an event"#);

    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let module = hooks.path().join("module");
    executable(&module, wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    let native_only = cfg!(not(feature = "wasm"));
    for file in [hooks.path().join(DRIVER), module].into_iter().take(if native_only { 1 } else { 2 }) {
        let with = |argument| Exec::new(&file).run(&["web1", argument], "").termination;
        assert!(with("two\nlines").is_success());
        let refused = with("a\0b");
        assert_eq!(
            (refused.to_string().as_str(), refused.exit_status()),
            (r#"could not be run: the argument "a\0b" contains a NUL byte, which cannot be passed to a hook"#, 126)
        );
    }
}

#[test]
fn usage_errors() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let lines: &[&[&str]] = &[
        &["run", DRIVER, "two\nlines", "start"],
        &["run", DRIVER, "web1", "start\n"],
        &["run", DRIVER, "web1", "start", "-", "two\nlines"],
        &["run", "a/b", "web1", "start"],
        &["run", "..", "web1", "start"],
        &["run", "", "web1", "start"],
        &["run", "--timeout", "5x", DRIVER, "web1", "start"],
        &["run", "--timeout", "5", DRIVER, "web1", "start"],
        &["run", "--timeout", "0s", DRIVER, "web1", "start"],
        &["run", "--timeout", "", DRIVER, "web1", "start"],
        &["run", "--timeout=-5s", DRIVER, "web1", "start"],
        &["run", "--timeout", "99999999999999999999years", DRIVER, "web1", "start"],
        &["run", "--format", "xml", DRIVER, "web1", "start"],
        &["run"],
        &["run", DRIVER, "web1"],
        &["run", DRIVER, "web1", "start", "-", "-", "one too many"],
        &["list", DRIVER],
        &["check", "--timeout", "5s"],
    ];
    let mut text = String::new();
    let mut table = |line: &[OsString]| {
        let mut command = hookvisor();
        let ran = hooks.ran(command.args(line));
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{line:?}");
        assert!(ran.stderr.contains("\nUsage: hookvisor ") || ran.stderr.contains("try '--help'"), "{}", ran.stderr);
        let line: Vec<String> = line.iter().map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
        writeln!(text, "$ hookvisor {}\n{}", line.join(" "), ran.stderr).unwrap();
    };
    for line in lines {
        table(&line.iter().map(OsString::from).collect::<Vec<_>>());
    }
    table(&["nosuch".into()]);
    table(&["exec".into()]);
    table(&["run".into(), DRIVER.into(), OsString::from_vec(b"web\xff".to_vec()), "start".into()]);
    assert_snapshot!("usage", text);
}

#[test]
fn an_unreadable_standard_input_is_not_an_empty_document() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    hooks.file("written~", "", 0o644);
    let run = "hookvisor run --hooks \"$HOOKS\" test web1 start";
    let exec = "hookvisor exec \"$HOOKS/test\"";
    for command in [run, exec] {
        let directory = hooks.shell(&format!("{command} < /"));
        let write_only = hooks.shell(&format!("{command} 0> \"$HOOKS/written~\""));
        let said = [directory, write_only].map(|ran| (ran.status, ran.stderr));
        let why = |why| format!("hookvisor: the document could not be read from standard input: {why}\n");
        assert_eq!(said, [(125, why("Is a directory (os error 21)")), (125, why("Bad file descriptor (os error 9)"))]);
    }
    // Without a standard input there is no document, so nothing is lost.
    assert_eq!(hooks.shell(&format!("{run} <&-")).status, 0);
}

#[test]
fn a_full_standard_output_is_a_failure_and_a_closed_one_is_not() {
    let hooks = Hooks::new().script("qemu", "cat").script(DRIVER, "echo said; exit 3");
    let full = "hookvisor: standard output could not be written: No space left on device (os error 28)\n";
    for command in [
        "run --hooks \"$HOOKS\" --format json qemu web1 start",
        // A lost document would look like an unchanged one.
        "run --hooks \"$HOOKS\" qemu web1 migrate",
        "list --hooks \"$HOOKS\"",
        "check --hooks \"$HOOKS\"",
        "exec \"$HOOKS/qemu\"",
    ] {
        let ran = hooks.shell(&format!("echo '<domain/>' | hookvisor {command} > /dev/full"));
        assert_eq!((ran.status, ran.stderr.as_str()), (125, full), "{command}");
        let ran = hooks.shell(&format!("echo '<domain/>' | hookvisor {command} 1< /dev/null"));
        assert_eq!(ran.status, 125, "{command}: {}", ran.stderr);
        // A pipe whose reader is gone before the first write.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut shell = process::Command::new("sh");
        shell.args(["-c", &format!("{}hookvisor {command}", hooks.function())]).env("HOOKS", hooks.path());
        let ran = shell.stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert_eq!((ran.status.code(), String::from_utf8_lossy(&ran.stderr).as_ref()), (Some(0), ""), "{command}");
    }
    // The hook's own failure is reported even if its output cannot be written.
    let ran = hooks.shell("hookvisor exec \"$HOOKS/test\" < /dev/null > /dev/full");
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.starts_with(
        "Hook script execution failed: Hook script DIR/test failed with error code 3 and wrote nothing to stderr\n"
    ));
    let ran = hooks.shell("hookvisor run --hooks \"$HOOKS\" test web1 start < /dev/null 2> /dev/full");
    assert_eq!(ran.status, 3);
}
