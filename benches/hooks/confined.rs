//! Confined hooks, each beside the same hook unconfined, and beside bubblewrap.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use hookvisor::Runtime;

use crate::measure::{Case, Measured};
use crate::{Hooks, by_std};

const BUBBLEWRAP: &str = "/usr/bin/bwrap";
/// Like a confined hook, it can read the host's files and reach nothing else.
const NAMESPACES: [&str; 8] = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"];
const BY_BUBBLEWRAP: &str = "bash in bubblewrap";
const UNCONFINED: [&str; 2] = ["bash by hookvisor", "bash by hookvisor, one command"];
const CONFINED: [&str; 2] = ["bash, confined", "bash, confined, one command"];
const COMMANDS: [&str; 2] = ["a command, direct", "a command, brokered"];

/// A script, and the same with a command. The shell forks for it, since it is not the last.
const SCRIPTS: [&[u8]; 2] = [
    b"#!/bin/bash\necho 'guest web2 has no owner' >&2\nexit 1\n",
    b"#!/bin/bash\n/usr/bin/true\necho 'guest web2 has no owner' >&2\nexit 1\n",
];
const SETTINGS: [&str; 2] = ["confine = true\n", "confine = true\n[[command]]\nprogram = \"/usr/bin/true\"\n"];

pub(crate) fn measure(measured: &mut Measured, hooks: &Hooks) {
    if !measured.wants(&[UNCONFINED, CONFINED, COMMANDS, [BY_BUBBLEWRAP; 2]].concat()) {
        return;
    }
    // Every case of this group is compared with another one.
    let only = measured.only.take();
    let event = hooks.event("read");
    let open = |name: &str, script: &[u8], settings: Option<&str>| {
        let hooks = hooks.with(name, &[script.to_vec()]);
        if let Some(settings) = settings {
            fs::write(hooks.join("qemu.d/00.toml"), settings).unwrap();
        }
        Runtime::open(hooks).unwrap()
    };
    let unconfined = [0, 1].map(|at| open(UNCONFINED[at], SCRIPTS[at], None));
    let confined = [0, 1].map(|at| open(CONFINED[at], SCRIPTS[at], Some(SETTINGS[at])));
    let script = hooks.directory().join(UNCONFINED[0]).join("qemu.d/00").display().to_string();
    let arguments: Vec<&str> =
        NAMESPACES.into_iter().chain([script.as_str(), "web2", "start", "begin", "read"]).collect();
    let mut cases: Vec<Case<'_>> = Vec::new();
    for (name, runtime) in UNCONFINED.into_iter().zip(&unconfined) {
        cases.push((name, Box::new(|| drop(black_box(runtime.run(&event))))));
    }
    for (name, runtime) in CONFINED.into_iter().zip(&confined) {
        let report = runtime.run(&event);
        // A hook that cannot be confined does not run, and a refused command is noted.
        if report.exit_status() == 1 && report.hooks.iter().all(|hook| hook.notes.is_empty()) {
            cases.push((name, Box::new(|| drop(black_box(runtime.run(&event))))));
        } else {
            measured.leave_out(name, &format!("this system cannot confine it: {report}"));
        }
    }
    if Path::new(BUBBLEWRAP).exists() {
        cases.push((BY_BUBBLEWRAP, Box::new(|| by_std(Path::new(BUBBLEWRAP), &arguments, &hooks.document))));
    } else {
        measured.leave_out(BY_BUBBLEWRAP, "bubblewrap is not installed");
    }
    measured.in_turns(500, cases);
    measured.difference(COMMANDS[0], UNCONFINED[1], UNCONFINED[0]);
    measured.difference(COMMANDS[1], CONFINED[1], CONFINED[0]);
    measured.only = only;
}
