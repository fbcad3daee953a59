//! The programs, where each call is a process: the command line, and the drop-in as libvirt calls it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::measure::{Case, Measured, target_directory};
use crate::{Hooks, PEERS, by_std};

/// The hook's arguments.
const ARGUMENTS: [&str; 4] = ["web2", "start", "begin", "read"];
/// Where `debian/rules` builds the package's drop-in: one static file without the compiler.
const DROP_IN: &str = "x86_64-unknown-linux-musl/dropin/hookvisor";
const CACHE: &str = "cache/hookvisor";
const WITHOUT_RECORD: &str = "drop-in, dash, without the record";
const BY_WASMTIME: &str = "wasmtime's command line, wasm";

/// A way to run hooks: its name, the program and its arguments.
type Way = (String, PathBuf, Vec<String>);

/// A program installed as libvirt's hook in a separate root, with these hooks.
fn installed(root: &Path, program: &Path, hooks: &Path, configuration: &str) -> PathBuf {
    let link = root.join("etc/libvirt/hooks/qemu");
    let etc = root.join("etc/hookvisor");
    for directory in [link.parent().unwrap(), &etc] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(program, &link).unwrap();
    symlink(hooks, etc.join("hooks")).unwrap();
    fs::write(etc.join("hookvisor.toml"), configuration).unwrap();
    link
}

/// All ways to run the hooks, for the full program and for the drop-in.
fn ways(measured: &mut Measured, hooks: &Hooks) -> Vec<Way> {
    let (wasm, dash) = (hooks.wasm(), hooks.script("sh"));
    let ten = ten_dash(hooks);
    let full = PathBuf::from(env!("CARGO_BIN_EXE_hookvisor"));
    let drop_in = target_directory().join(DROP_IN);
    let arguments = ARGUMENTS.map(str::to_owned).to_vec();
    let mut ways = Vec::new();
    for (name, program) in [("hookvisor", &full), ("drop-in", &drop_in)] {
        if !program.exists() {
            measured.leave_out(name, "it is not built: scripts/build-deb builds it");
            continue;
        }
        let mut install = |what: String, hooks_of: &Path, configuration: &str| {
            let link = installed(&hooks.directory().join(&what), program, hooks_of, configuration);
            ways.push((what, link, arguments.clone()));
        };
        for (what, hooks_of) in [("wasm", &wasm), ("dash", &dash), ("ten dash", &ten)] {
            install(format!("{name}, {what}"), hooks_of, "");
        }
        if name == "drop-in" {
            install(WITHOUT_RECORD.to_owned(), &dash, "[history]\nenabled = false\n");
        }
        let mut runs = vec![("ten dash", &ten)];
        if name == "drop-in" {
            // As the command `hookvisor` of the package, which is this program.
            runs.extend([("wasm", &wasm), ("dash", &dash)]);
        }
        for (what, hooks_of) in runs {
            let var = hooks.directory().join(format!("{name}, {what}")).join("var");
            let options = [("--hooks", hooks_of), ("--cache", &var.join(CACHE)), ("--record", &var.join("record"))];
            let options = options.iter().flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]);
            let words = ["run".to_owned()].into_iter().chain(options).chain(["qemu".to_owned()]);
            ways.push((format!("{name} run, {what}"), program.clone(), words.chain(arguments.clone()).collect()));
        }
    }
    // Compiles the module, since a drop-in without a compiler cannot.
    for name in ways.iter().map(|(name, ..)| name).filter(|name| name.ends_with(", wasm") && !name.contains(" run")) {
        let cache = hooks.directory().join(name).join("var").join(CACHE);
        let mut compile = Command::new(&full);
        compile.args(["compile", "--hooks"]).arg(&wasm).arg("--cache").arg(cache);
        assert!(compile.output().unwrap().status.success(), "the hooks are compiled");
    }
    ways.extend(by_wasmtime(measured, hooks, &wasm.join("qemu.d/00")));
    ways
}

fn ten_dash(hooks: &Hooks) -> PathBuf {
    hooks.with("ten", &vec![b"#!/bin/sh\nexit 0\n".to_vec(); 10])
}

/// wasmtime's own command line, with a module that it has compiled. The module's functions of hookvisor return 0.
fn by_wasmtime(measured: &mut Measured, hooks: &Hooks, module: &Path) -> Option<Way> {
    let wasmtime = target_directory().join(PEERS).join("wasmtime");
    let compiled = hooks.directory().join("guest.cwasm");
    let ran = Command::new(&wasmtime).arg("compile").arg(module).arg("-o").arg(&compiled).output();
    if !ran.is_ok_and(|ran| ran.status.success()) {
        measured.leave_out(BY_WASMTIME, "it is not installed: scripts/bench-peers installs it");
        return None;
    }
    let words = ["run", "--allow-precompiled", "-W", "unknown-imports-default=y"];
    let compiled = compiled.display().to_string();
    let words = words.into_iter().chain([compiled.as_str()]).chain(ARGUMENTS).map(str::to_owned).collect();
    Some((BY_WASMTIME.to_owned(), wasmtime, words))
}

pub(crate) fn measure(measured: &mut Measured, hooks: &Hooks) {
    let all = ["/bin/true", "by itself", "run-parts", "hookvisor", "drop-in", BY_WASMTIME];
    if !measured.only.as_ref().is_none_or(|only| all.iter().any(|name| only.starts_with(name))) {
        return;
    }
    // Every case of this group is compared with another one.
    let only = measured.only.take();
    let ways = ways(measured, hooks);
    // The cache recognizes a module by its file's times only after two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    let [bash, dash] = ["bash", "sh"].map(|shell| hooks.script(shell).join("qemu.d/00"));
    let (document, ten) = (&hooks.document, ten_dash(hooks).join("qemu.d").display().to_string());
    let mut cases: Vec<Case<'_>> = vec![
        ("/bin/true", Box::new(|| by_std(Path::new("/bin/true"), &[], b""))),
        ("the hook in bash, by itself", Box::new(|| by_std(&bash, &ARGUMENTS, document))),
        ("the hook in dash, by itself", Box::new(|| by_std(&dash, &ARGUMENTS, document))),
        ("run-parts, ten dash", Box::new(|| by_std(Path::new("/bin/run-parts"), &[&ten], b""))),
    ];
    for (name, program, words) in &ways {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        cases.push((name, Box::new(move || by_std(program, &words, document))));
    }
    measured.in_turns(200, cases);
    measured.only = only;
}
