//! Every subcommand has `--format json`, and its output matches a schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::schemas::{SCHEMAS, line, validate};
use crate::support::Hooks;
use crate::support::program::hookvisor;

/// Every subcommand in the program's own help, such as `libvirt install`.
fn subcommands(of: &[&str]) -> Vec<String> {
    let help = hookvisor().args(of).arg("--help").output().unwrap().stdout;
    let help = String::from_utf8(help).unwrap();
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![of.join(" ")] };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.map(|line| line.split(' ').next().unwrap()).filter(|name| *name != "help");
    names.flat_map(|name| subcommands(&[of, &[name]].concat())).collect()
}

/// A module that does nothing.
const MODULE: &[u8] =
    b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

/// Calls of a subcommand with `--format json`, and the schema of each output. `CONFIG` names a configuration, `ROOT` another
/// root, `DIR` the hooks directory.
fn examples(subcommand: &str) -> &'static [(&'static str, &'static str)] {
    match subcommand {
        "run" => &[("CONFIG test web1 start", "report"), ("CONFIG test web1 stopped", "report")],
        "list" | "check" => &[("CONFIG", "inventory")],
        "exec" => &[("DIR/test.d/10-fails", "hook"), ("DIR/test.d/30-broken", "hook")],
        "explain" => &[("CONFIG test web1 start", "explanation")],
        "disable" => &[("CONFIG test.d/20 --until tomorrow --reason why", "history")],
        "enable" => &[("CONFIG test.d/20", "history")],
        "history" => &[("CONFIG", "history"), ("CONFIG --stats", "statistics")],
        "learn" => &[("DIR/test.d/10-fails test web1 start", "learned")],
        "compile" => &[("CONFIG", "compiled")],
        "new" => &[("my-hook", "project")],
        "libvirt install" => {
            &[("ROOT --dry-run", "libvirt-change"), ("ROOT", "libvirt-change"), ("ROOT --link", "libvirt-change")]
        }
        "libvirt status" => &[("ROOT", "libvirt-status")],
        "libvirt uninstall" => &[("ROOT qemu", "libvirt-change"), ("ROOT", "libvirt-change")],
        "binfmt" => &[("ROOT", "binfmt"), ("ROOT --install", "binfmt"), ("ROOT --uninstall", "binfmt")],
        new => panic!("`{new}` has no example here: add one, and a schema for its output with `--format json`"),
    }
}

/// Hooks of both kinds that succeed, fail and are broken, and a root with libvirt's directories.
fn furnished() -> Hooks {
    let hooks = Hooks::new().script("test.d/10-fails", "echo said; echo no >&2; exit 3").script("test.d/20", "exit 0");
    hooks.file("test.d/30-broken", "no interpreter", 0o755);
    hooks.file("test.d/40.wasm", MODULE, 0o755);
    hooks.file("test.d/50-broken.wasm", "\0asm", 0o755);
    hooks.file("root/etc/libvirt/hooks/qemu", "#!/bin/sh\n", 0o755);
    hooks.file("root/bin/sh", "", 0o755);
    fs::create_dir_all(hooks.path().join("root/usr/bin")).unwrap();
    hooks.file("hookvisor.toml", "hooks = '.'\ncache = '.cache'\n[history]\nfile = '.record'\n", 0o644);
    hooks
}

/// The output of a call, one document in each line.
fn output(hooks: &Hooks, subcommand: &str, call: &str) -> String {
    let directory = hooks.path().display().to_string();
    let call = call.replace("CONFIG", "--config DIR/hookvisor.toml").replace("ROOT", "--root DIR/root");
    let call = call.replace("DIR", &directory);
    let mut program = hookvisor();
    program.current_dir(hooks.path()).args(subcommand.split(' ')).args(["--format", "json"]).args(call.split(' '));
    let ran = program.write_stdin("<domain/>").output().unwrap();
    let (stdout, stderr) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.code() != Some(2) && !stdout.is_empty(), "{subcommand} {call}: {stderr}");
    if subcommand == "history" && !call.contains("--stats") { stdout } else { line(&stdout) }
}

/// Whether this can be run here.
fn can_run(subcommand: &str) -> bool {
    match subcommand {
        "learn" => crate::learn::can_watch(),
        // It enters the root to inspect the hooks there.
        subcommand if subcommand.starts_with("libvirt") => crate::support::needs_root(subcommand),
        _ => true,
    }
}

/// The list of subcommands is the program's own, so that a new one is not forgotten.
#[test]
fn every_subcommand_has_json_output_with_a_schema() {
    let hooks = furnished();
    let mut all = subcommands(&[]);
    // Last, so that the others see what the install did.
    all.sort_by_key(|subcommand| subcommand == "libvirt uninstall");
    let reference = fs::read_to_string(Path::new(SCHEMAS).join("../src/reference.md")).unwrap();
    let mut documents: BTreeMap<&str, String> = BTreeMap::new();
    for subcommand in &all {
        for (call, schema) in examples(subcommand) {
            let row = reference.lines().find(|line| line.contains(&format!("`{schema}.schema.json`")));
            let names_it = |row: &str| {
                [format!("`{subcommand}`"), format!("`{subcommand} --")].iter().any(|name| row.contains(name))
            };
            assert!(row.is_some_and(names_it), "the reference lacks {subcommand} in the row of {schema}");
            let documents = documents.entry(schema).or_default();
            if can_run(subcommand) {
                *documents += &output(&hooks, subcommand, call);
            }
        }
    }
    for (schema, documents) in &documents {
        let Some(valid) = validate(schema, documents) else { return };
        assert_eq!(valid, Ok(()), "{schema}: {documents}");
    }
    let files = fs::read_dir(SCHEMAS).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let expected = documents.keys().map(|schema| format!("{schema}.schema.json"));
    assert_eq!(files.collect::<BTreeSet<_>>(), expected.collect(), "each schema is for a subcommand");
}
