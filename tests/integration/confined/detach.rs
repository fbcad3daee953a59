//! Commands that are started and left (`detach = true`), for both kinds of hooks.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hookvisor::{Event, Limits, Report};

use super::World;
use crate::support::alone::alone;
use crate::support::guests::wasm_for;
use crate::support::leftovers::Leftovers;
use crate::support::{Hooks, event, stderr, wait_until};

fn grant(time: &str) -> String {
    format!("[[command]]\nprogram = '/usr/bin/sh'\nargs = ['-c', '*']\ndetach = true\ntimeout = '{time}'\n")
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.grace = Duration::from_millis(200);
    limits
}

/// Whether a process runs that has this among its arguments.
fn runs(argument: &str) -> bool {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let mut lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.any(|line| String::from_utf8_lossy(&line).split('\0').any(|found| found == argument))
}

/// What a shell does that is left by a confined hook and by a WebAssembly hook.
fn both(time: &str, command: impl Fn(&Path) -> String) -> Vec<(World, Report)> {
    let confined = World::new();
    let script = "#!/bin/bash\nread -r -d '' command < $WORLD/read/command\nsh -c \"$command\"; echo \"status $?\" >&2; exit 1\n";
    confined.hook(script, &grant(time));
    fs::write(confined.at("read/command"), command(confined.directory.path())).unwrap();
    let report = confined.hooks.builder().limits(limits()).build().unwrap().run(&event("web1", "start"));
    assert_eq!(stderr(&report), "status 0\n", "{report}");
    let mut reports = vec![(confined, report)];
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let mut world = World::new();
        world.hooks = Hooks::new().copy("qemu.d/10-sdk.wasm", &wasm_for("sdk", target));
        world.hooks.file("qemu.d/10-sdk.toml", grant(time), 0o644);
        let words = command(world.directory.path()).replace(' ', "_");
        let event = Event::new("qemu", "web1", "start").unwrap();
        let event = event.with_extra(&format!("run=/usr/bin/sh -c {words}")).unwrap();
        let report = world.hooks.builder().limits(limits()).build().unwrap().run(&event);
        assert_eq!(stderr(&report), "it exited with 0, wrote 0 bytes and said \"\"\n", "{report}");
        reports.push((world, report));
    }
    reports
}

#[test]
fn a_command_that_is_left_is_noted_and_holds_nothing_of_the_hook() {
    let command = |world: &Path| format!("sleep 0.5; pwd > {}/granted/done", world.display());
    for (world, report) in both("10min", command) {
        assert_eq!(report.hooks[0].notes, ["it left /usr/bin/sh running for up to 10m (`detach`)"], "{report}");
        wait_until("the command is done", || fs::read_to_string(world.at("granted/done")).is_ok_and(|t| t == "/\n"));
    }
}

#[test]
fn a_command_that_is_left_ends_in_its_time_with_all_that_it_has_started() {
    alone("confined::detach::a_command_that_is_left_ends_in_its_time_with_all_that_it_has_started", || {
        let before = Leftovers::before();
        let command = |world: &Path| {
            format!(
                "trap '' TERM; setsid sleep 73101 & sleep 73102 & : > {}/granted/begun; wait; sleep 73103",
                world.display()
            )
        };
        for (world, _) in both("2s", command) {
            wait_until("the command has begun", || world.at("granted/begun").exists());
        }
        wait_until("all has ended", || !["73101", "73102", "73103"].into_iter().any(runs));
        Leftovers::assert_none_since(&before, "commands that were left");
    });
}

#[test]
fn a_command_that_cannot_be_left_says_why() {
    let world = World::new();
    let program = world.hooks.file("data/program", "#!/no/such/interpreter\n", 0o755);
    let grants = format!(
        "[[command]]\nprogram = '{}'\ndetach = true\ntimeout = '1min'\n[[command]]\nprogram = '/usr/bin/true'\n\
         detach = true\ntimeout = '1min'\n",
        program.display()
    );
    let script = format!(
        "#!/bin/bash\n{} 2> /dev/null; echo $? >&2\nfor i in {{1..18}}; do true; /usr/bin/true 2> /dev/null || echo $i $? >&2; done\nexit 1\n",
        program.display()
    );
    let report = world.run(&script, &grants);
    assert_eq!(stderr(&report), "127\n16 126\n17 126\n18 126\n", "{report}");
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains("/data/program could not be run: ") && notes.contains("/no/such/interpreter"), "{notes}");
    assert!(notes.contains("it asked for more than 16 detached commands"), "{notes}");
}
