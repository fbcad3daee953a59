//! The programs, where each call is a process: the command line, and the drop-in as libvirt calls it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Case, Measured, target_directory};
use crate::{Hooks, by_std};

/// The hook's arguments.
const ARGUMENTS: [&str; 4] = ["web2", "start", "begin", "read"];
/// Where `debian/rules` builds the package's drop-in: one static file without the compiler.
const DROP_IN: &str = "x86_64-unknown-linux-musl/dropin/hookvisor";
const BUBBLEWRAP: &str = "/usr/bin/bwrap";

/// A program installed as libvirt's hook in a separate root, with these hooks.
fn installed(root: &Path, program: &Path, hooks: &Path) -> PathBuf {
    let link = root.join("etc/libvirt/hooks/qemu");
    let etc = root.join("etc/hookvisor");
    for directory in [link.parent().unwrap(), &etc] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(program, &link).unwrap();
    symlink(hooks, etc.join("hooks")).unwrap();
    link
}

pub(crate) fn measure(measured: &mut Measured, hooks: &Hooks) {
    let (wasm, dash, bash) = (hooks.wasm(), hooks.script("sh"), hooks.script("bash"));
    let ten = hooks.with("ten", &vec![b"#!/bin/sh\nexit 0\n".to_vec(); 10]);
    let full = PathBuf::from(env!("CARGO_BIN_EXE_hookvisor"));
    let drop_in = target_directory().join(DROP_IN);
    let mut links = Vec::new();
    for (name, program) in [("hookvisor", &full), ("drop-in", &drop_in)] {
        if program.exists() {
            for (what, hooks_of) in [("wasm", &wasm), ("dash", &dash), ("ten dash", &ten)] {
                let root = hooks.directory().join(format!("{name} {what}"));
                links.push((format!("{name}, {what}"), installed(&root, program, hooks_of)));
            }
        }
    }
    // Compiles the module, since a drop-in without a compiler cannot.
    for (_, link) in &links {
        let cache = link.ancestors().nth(4).unwrap().join("var/cache/hookvisor");
        let mut compile = Command::new(&full);
        compile.args(["compile", "--hooks"]).arg(&wasm).arg("--cache").arg(cache);
        assert!(compile.output().unwrap().status.success(), "the hooks are compiled");
    }
    // The cache recognizes a module by its file's times only after two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2100));

    let script = |hooks: &Path| hooks.join("qemu.d/00");
    let (bash, dash, ten) = (script(&bash), script(&dash), ten.join("qemu.d").display().to_string());
    let document = &hooks.document;
    let path = dash.display().to_string();
    let mut confined = vec!["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", path.as_str()];
    confined.extend(ARGUMENTS);
    let mut cases: Vec<Case<'_>> = vec![
        ("/bin/true", Box::new(|| by_std(Path::new("/bin/true"), &[], b""))),
        ("the hook in bash, by itself", Box::new(|| by_std(&bash, &ARGUMENTS, document))),
        ("the hook in dash, by itself", Box::new(|| by_std(&dash, &ARGUMENTS, document))),
        ("run-parts, ten dash", Box::new(|| by_std(Path::new("/bin/run-parts"), &[&ten], b""))),
    ];
    if Path::new(BUBBLEWRAP).exists() {
        cases.push(("dash in bubblewrap", Box::new(|| by_std(Path::new(BUBBLEWRAP), &confined, document))));
    }
    for (name, link) in &links {
        cases.push((name, Box::new(move || by_std(link, &ARGUMENTS, document))));
    }
    measured.in_turns(200, cases);
}
