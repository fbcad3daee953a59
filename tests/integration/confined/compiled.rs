//! Compiled programs as confined hooks (`tests/confined`).

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookvisor::Event;
use tempfile::TempDir;

use super::{World, command};
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::{DRIVER, skip, stderr};

/// A program of `tests/confined`, or `None` where there is no compiler for it.
pub(super) fn compiled(name: &str, options: &[&str]) -> Option<(TempDir, PathBuf)> {
    let directory = TempDir::with_prefix("compiled-").unwrap();
    let program = directory.path().join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/confined").join(format!("{name}.c"));
    let mut cc = Command::new("cc");
    cc.args(["-Wall", "-Wextra", "-Werror", "-O1", "-pthread"]).args(options).arg(source).arg("-o").arg(&program);
    match cc.output() {
        Ok(compiled) if compiled.status.success() => Some((directory, program)),
        Ok(failed) => {
            skip(&format!("the confined hook {name}.c"), String::from_utf8_lossy(&failed.stderr).trim_end());
            None
        }
        Err(_) => {
            skip(&format!("the confined hook {name}.c"), "there is no C compiler (cc)");
            None
        }
    }
}

/// A hook that is this program.
pub(super) fn install(world: &World, program: &Path, grants: &str) {
    world.hook("", grants);
    world.hooks.file(DRIVER, fs::read(program).unwrap(), 0o755);
}

/// What comes of each attempt.
const ATTEMPTS: &[(&str, &str)] = &[
    ("symlink race", "held"),
    ("address race", "held"),
    ("connect the runtime's socket", "EACCES"),
    ("connect one of a pair", "EACCES"),
    ("send from one of a pair", "EISCONN"),
    ("bind one of a pair", "EPERM"),
    ("connect a TCP socket", "EACCES"),
    ("a local socket", "EPERM"),
    ("253 descriptors", "held"),
    ("streams that are only paths", "held"),
    ("open a path's descriptor", "EACCES"),
    ("openat below a path's descriptor", "EACCES"),
    ("never reads", "held"),
    ("many shims", "held"),
    ("a file without a name", "allowed"),
    ("memfd_create", "EPERM"),
    ("execveat", "EPERM"),
    ("execute a descriptor", "EACCES"),
    ("rename exchange", "EACCES"),
    ("watch a directory", "EPERM"),
    ("io_uring_setup", "EPERM"),
    ("shared memory", "EACCES"),
    ("another listener", "EBUSY"),
    ("securebits", "EPERM"),
    ("ambient capability", "EPERM"),
    #[cfg(target_arch = "x86_64")]
    ("32-bit system calls", "held"),
];

#[test]
fn no_compiled_attempt_gets_out() {
    alone("confined::compiled::no_compiled_attempt_gets_out", attempts);
}

fn attempts() {
    let Some((_directory, attacker)) = compiled("attacker", &[]) else { return };
    let world = World::new();
    let local = UnixListener::bind(world.at("granted/socket")).unwrap();
    let [granted, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let grants = command("/usr/bin/true", "[]") + &format!("[[connect]]\nto = '127.0.0.1:{}'\n", port(&granted));
    install(&world, &attacker, &grants);
    // Nobody takes the granted connections; the kernel keeps as many as it can.
    let object = format!("{} {} {}", world.directory.path().display(), port(&granted), port(&other));
    let runtime = world.hooks.runtime();
    let before = Leftovers::before();
    let accepting = granted.try_clone().unwrap();
    let taken = std::thread::spawn(move || {
        let mut taken = 0;
        while let Ok((mut connection, _)) = accepting.accept() {
            let mut last = [0; 4];
            if std::io::Read::read(&mut connection, &mut last).is_ok_and(|read| read > 0) {
                break;
            }
            taken += 1;
        }
        taken
    });
    let to: u16 = object.split(' ').nth(1).unwrap().parse().unwrap();
    let report = runtime.run(&Event::new(DRIVER, &object, "start").unwrap());
    std::io::Write::write_all(&mut std::net::TcpStream::connect(("127.0.0.1", to)).unwrap(), b"end").unwrap();
    assert!(taken.join().unwrap() > 0);
    let said = stderr(&report);
    let wrong: Vec<String> = ATTEMPTS
        .iter()
        .filter(|(name, expected)| !said.lines().any(|line| line == format!("{name}: {expected}")))
        .map(|(name, expected)| format!("{name} should be {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}\n{report}", wrong.join("\n"));
    assert_eq!(report.exit_status(), 0, "{report}");
    for listener in [local.set_nonblocking(true), other.set_nonblocking(true)] {
        listener.unwrap();
    }
    assert!(local.accept().is_err() && other.accept().is_err());
    world.assert_unchanged();
    Leftovers::assert_none_since(&before, "a hostile program");
}

#[test]
fn a_static_program_reaches_its_commands() {
    let Some((_directory, program)) = compiled("static", &["-static"]) else { return };
    let world = World::new();
    install(&world, &program, &command("/usr/bin/id", "['-u']"));
    let report = world.hooks.runtime().run(&crate::support::event("web1", "start"));
    assert_eq!((report.exit_status(), stderr(&report).as_str()), (40, "0\n"), "{report}");
}

/// Its entry point and system calls are written for each architecture.
#[test]
fn the_shim_compiles_for_each_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = TempDir::with_prefix("shim-").unwrap();
    let rustc = || Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    for target in ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"] {
        let library = rustc().args(["--print", "target-libdir", "--target", target]).output().unwrap().stdout;
        let library = String::from_utf8(library).unwrap();
        if !Path::new(library.trim()).is_dir() {
            skip(&format!("the shim for {target}"), &format!("`rustup target add {target}` was not run"));
            continue;
        }
        let options = ["--edition=2024", "--crate-type=bin", "-Cpanic=abort", "--emit=obj", "--target", target];
        let mut compile = rustc();
        compile.args(options).arg("--out-dir").arg(output.path()).arg(root.join("src/backend/native/confine/shim.rs"));
        let compiled = compile.output().unwrap();
        assert!(compiled.status.success(), "{target}: {}", String::from_utf8_lossy(&compiled.stderr));
    }
}
