//! WebAssembly that cannot be run, and caches that cannot be used.

use std::fs;
use std::path::Path;

use insta::assert_snapshot;

use super::{Case, executable, huge, mode, one_sentence, settings_file, start, table};
use crate::support::program::{Ran, hookvisor};
use crate::support::{DRIVER, Hooks};

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
fn a_relative_cache_directory_is_used() {
    let hooks = Hooks::new();
    module(&hooks.path().join(DRIVER), FITS);
    let mut command = hookvisor();
    command.current_dir(hooks.path()).args(["compile", "--hooks", ".", "--cache", "cache.bak"]);
    let ran = hooks.ran(&mut command);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{ran:?}");
    assert_ne!(fs::read_dir(hooks.path().join("cache.bak")).unwrap().count(), 0);
}

#[test]
fn a_module_is_recognized_by_its_magic_number() {
    let hooks = Hooks::new();
    module(&hooks.path().join(DRIVER), FITS);
    assert_eq!(start(&hooks), Ran { status: 0, stdout: String::new(), stderr: String::new() });
    assert_eq!(hooks.call(&["list"]).stdout, "test     wasm   DIR/test; timeout 90s\n");
}
