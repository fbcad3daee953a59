//! A running guest is never destroyed because of a failure of hookvisor. libvirt destroys it if its hook fails when
//! libvirtd restarts.

use std::fs;

use hookvisor::{Cancel, Decision, Event};

use crate::support::libvirt::World;
use crate::support::{Hooks, impatient, skip, wait_until};

const CONFIG: &str = "etc/hookvisor/hookvisor.toml";

/// A fault on the host when libvirtd restarts.
type Fault = (&'static str, fn(&World));

const FAULTS: [Fault; 6] = [
    ("the log's directory is gone", |world| {
        world.file(CONFIG, "[log]\nto = 'file'\nfile = '/var/log/libvirt/hooks/log'\n", 0o644);
    }),
    ("the journal cannot be reached", |world| {
        world.file(CONFIG, "[log]\nto = 'journal'\n", 0o644);
    }),
    ("a mistake in hookvisor.toml", |world| {
        world.file(CONFIG, "hook = '/srv'\n", 0o644);
    }),
    ("a mistake in a hook's settings", |world| {
        world.hook("qemu.d/50-broken", "exit 0");
        world.settings("qemu.d/50-broken", "operatoins = ['start']");
    }),
    ("a hook that others may write", |world| {
        world.file("etc/hookvisor/hooks/qemu.d/50-broken", "#!/bin/sh\n", 0o777);
    }),
    ("a hooks directory that others may write", |world| {
        world.hook("qemu.d/50-broken", "exit 0");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(world.path("etc/hookvisor/hooks"), mode).unwrap();
    }),
];

#[test]
fn no_failure_of_hookvisor_ends_a_running_guest() {
    let Some(mut world) = World::with_hookvisor() else { return };
    // No journal of the machine may take the log.
    if world.path("run/systemd/journal/socket").exists() {
        skip("reconnect: the journal cannot be reached", "there is a journal in this world");
    }
    for (fault, make) in FAULTS {
        world.create("web1").unwrap_or_else(|error| unreachable!("{fault}: {error}"));
        make(&world);
        world.restart_libvirtd();
        // libvirt destroys a vetoed guest before it answers, or soon after.
        world.virsh(&["dominfo", "web1"]);
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert_eq!(world.guests(), ["web1"], "{fault}: {}", world.libvirtd_log());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(world.path("etc/hookvisor/hooks"), mode).unwrap();
        let _ = fs::remove_file(world.path(CONFIG));
        let _ = fs::remove_file(world.path("etc/hookvisor/hooks/qemu.d/50-broken"));
        let _ = fs::remove_file(world.path("etc/hookvisor/hooks/qemu.d/50-broken.toml"));
        world.virsh(&["destroy", "web1"]);
        wait_until("the guest is gone", || world.guests().is_empty());
    }
}

/// A log that cannot be written has no effect on the hooks.
#[test]
fn without_its_log_hookvisor_still_asks_and_tells_the_hooks() {
    let Some(world) = World::with_hookvisor() else { return };
    world.file(CONFIG, "[log]\nto = 'file'\nfile = '/var/log/libvirt/hooks/log'\n", 0o644);
    world.try_guest("web1").unwrap();
    wait_until("the guest is released", || {
        fs::read_to_string(world.path("log/calls")).is_ok_and(|calls| calls.contains("release end"))
    });
    assert_eq!(world.calls(), ["prepare begin", "start begin", "started begin", "stopped end", "release end"]);
}

#[test]
fn only_a_hook_that_exits_with_another_status_than_0_vetoes_a_reconnect() {
    let reconnect = Event::new("qemu", "web1", "reconnect").unwrap();
    let report_of = |hooks: &Hooks| hooks.builder().limits(impatient()).build().unwrap().run(&reconnect);
    let hooks = Hooks::new().script("qemu", "kill -9 $$").script("qemu.d/10-slow", "sleep 60");
    hooks.file("qemu.d/20-open", "#!/bin/sh\n", 0o777);
    hooks.file("qemu.d/30-no-interpreter", "#!/no/such\n", 0o755);
    let report = report_of(&hooks);
    assert_eq!((report.decision, report.exit_status()), (Decision::Proceed, 0), "{report}");
    assert!(report.failures().count() >= 3, "all of them are reported: {report}");

    let report = report_of(&hooks.script("qemu.d/40-vetoes", "exit 3"));
    assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 3), "{report}");

    let cancel = Cancel::new();
    cancel.cancel();
    let hooks = Hooks::new().script("qemu", "exit 1");
    let report = hooks.builder().cancel(&cancel).build().unwrap().run(&reconnect);
    assert_eq!((report.decision, report.exit_status()), (Decision::Proceed, 0), "{report}");
}
