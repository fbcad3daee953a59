//! The command line reads hookvisor.toml like libvirt's hook does, and options override it.

use std::fs;

use crate::support::Hooks;
use crate::support::program::Ran;

/// Hooks in a directory that only the configuration names.
fn configured(config: &str, subcommand: &[&str]) -> Ran {
    let hooks = Hooks::new().script("srv/qemu", "sleep 30").script("srv/network", "exit 4");
    // Not in the record of the machine.
    let file = hooks.file("hookvisor.toml", format!("{config}[history]\nfile = 'history.jsonl'\n"), 0o644);
    let (name, rest) = subcommand.split_first().unwrap();
    let mut command = hooks.command(name);
    hooks.ran(command.arg("--config").arg(file).args(rest))
}

#[test]
fn run_list_and_check_use_the_configuration() {
    let config = "hooks = 'srv'\n[limits]\ntimeout = '20s'\n[drivers.qemu]\ntimeout = '150ms'\n";
    let listed = configured(config, &["list"]);
    assert_eq!((listed.status, listed.stderr.as_str()), (0, ""));
    assert!(listed.stdout.contains("DIR/srv/network; timeout 20s"), "{}", listed.stdout);
    assert!(listed.stdout.contains("DIR/srv/qemu; timeout 0.15s"), "{}", listed.stdout);
    assert!(configured(config, &["check"]).stdout.contains("timeout 0.15s"));

    let ran = configured(config, &["run", "qemu", "web1", "start"]);
    assert_eq!(ran.status, 124);
    assert!(ran.stderr.contains("timed out after 150ms"), "{}", ran.stderr);
    let ran = configured(config, &["run", "--timeout", "160ms", "qemu", "web1", "start"]);
    assert!(ran.stderr.contains("timed out after 160ms"), "{}", ran.stderr);
    assert_eq!(configured(config, &["run", "network", "default", "start"]).status, 4);
}

#[test]
fn a_configuration_that_vetoes_everything_fails_the_check() {
    let config = "hooks = 'srv'\nhook = 'x'\n";
    let ran = configured(config, &["run", "network", "default", "start"]);
    assert_eq!(ran.status, 125);
    let why = "the configuration DIR/hookvisor.toml: line 2: unknown field `hook`";
    assert!(ran.stderr.starts_with(&format!("hookvisor: {why}")), "{}", ran.stderr);
    let hooks = Hooks::new().script("srv/network", "exit 0");
    let file = hooks.file("hookvisor.toml", config, 0o644);
    let checked = hooks.ran(hooks.command("check").arg("--config").arg(&file));
    assert_eq!(checked.status, 1);
    assert!(checked.stdout.starts_with(&format!("FAILS    every start is vetoed: {why}")), "{}", checked.stdout);
    let checked = hooks.ran(hooks.command("check").args(["--format", "json", "--config"]).arg(file));
    let json: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    assert!(json["problems"][0].as_str().unwrap().contains(why) && json["hooks"].is_array(), "{json}");
}

#[test]
fn a_hook_can_be_switched_off_or_left_out_of_operations() {
    let hooks = Hooks::new().script("qemu.d/10-off", "exit 1").script("qemu.d/20-not-stopped", "exit 2");
    fs::write(hooks.path().join("qemu.d/10-off.toml"), "enabled = false\n").unwrap();
    fs::write(hooks.path().join("qemu.d/20-not-stopped.toml"), "not_operations = ['stopped', 'release']\n").unwrap();
    assert_eq!(hooks.call(&["run", "qemu", "web1", "start"]).status, 2);
    assert_eq!(hooks.call(&["run", "qemu", "web1", "stopped"]).status, 0);
    let checked = hooks.call(&["check"]).stdout;
    assert!(checked.contains("DIR/qemu.d/10-off: `enabled = false` in DIR/qemu.d/10-off.toml\n"), "{checked}");
    assert!(checked.contains("not for operations stopped, release"), "{checked}");
}

/// With a misspelt name, the hook would run without its limits, or for the wrong events.
#[test]
fn a_misspelt_driver_or_operation_fails_the_check() {
    let checked = configured("hooks = 'srv'\n[drivers.qmeu]\ntimeout = '5s'\n", &["check"]);
    let why = "FAILS    [drivers.qmeu] in DIR/hookvisor.toml is for an unknown driver: did you mean qemu? If so, \
               correct it; otherwise add `known_drivers = [\"qmeu\"]`\n";
    assert!(checked.status == 1 && checked.stdout.starts_with(why), "{checked:?}");
    let known = "hooks = 'srv'\nknown_drivers = ['qmeu', 'qemu', 'network']\n[drivers.qmeu]\ntimeout = '5s'\n";
    assert_eq!(configured(known, &["check"]).status, 0);

    let hooks = Hooks::new().script("qemu.d/10-a", "exit 0");
    hooks.file("qemu.d/10-a.toml", "not_operations = ['stoped']\n", 0o644);
    let checked = hooks.call(&["check"]);
    let why = "`not_operations` in DIR/qemu.d/10-a.toml: driver qemu has no operation \"stoped\": its operations are ";
    assert!(checked.status == 1 && checked.stdout.contains(why), "{checked:?}");
    assert_eq!(hooks.call(&["run", "qemu", "web1", "stopped"]).status, 126);
}

/// A clone of somebody's hooks is checked before it is installed.
#[test]
fn directories_beside_libvirts_hooks_are_told_as_such_in_a_copy() {
    let hooks = Hooks::new().script("src/hooks/qemu", ". \"${0%/*}/lib/common\"").script("other/conf/x", "exit 0");
    hooks.file("src/hooks/lib/common", "#!/bin/false\n", 0o644);
    hooks.file("src/hooks/conf/rules.json", "{}\n", 0o644);
    let check = |directory: &str| hooks.ran(hooks.command("check").arg("--hooks").arg(hooks.path().join(directory)));
    let checked = check("src/hooks");
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    for name in ["conf", "lib"] {
        let line =
            format!("ignored         DIR/src/hooks/{name} is not a hook: it is a directory, which hooks may use\n");
        assert!(checked.stdout.contains(&line), "{}", checked.stdout);
    }
    // A program that a hook names is its helper. Any other was probably meant as a hook.
    let used = Hooks::new().script("qemu", "exec \"${0%/*}/vfio-teardown.sh\"; \"$0.d/run/main\"\n# not other.sh");
    let used =
        used.script("vfio-teardown.sh", "exit 0").script("qemu.d/run/main", "exit 0").script("other.sh", "exit 0");
    let checked = used.call(&["check"]).stdout;
    for line in [
        "ignored         DIR/vfio-teardown.sh is not a hook: DIR/qemu uses it\n",
        "ignored         DIR/qemu.d/run/main is not a hook: DIR/qemu uses it\n",
        "MISTAKE         DIR/other.sh is not called: hooks are named after their driver, or are in <driver>.d\n",
    ] {
        assert!(checked.contains(line), "{checked}");
    }
    // Outside libvirt's directory it looks like a misspelt `conf.d`. An event of that driver is vetoed in any case.
    assert!(check("other").stdout.starts_with("FAILS    native DIR/other/conf: it is a directory"));
    let directory = hooks.path().join("src/hooks");
    let ran = hooks.ran(hooks.command("run").arg("--hooks").arg(directory).args(["conf", "web1", "start"]));
    assert_eq!(ran.status, 126, "{ran:?}");
}

#[test]
fn a_setting_decides_who_runs_the_per_event_directories() {
    let nested = "qemu.d/web1/start/begin/10-own";
    let dispatcher = "[ ! -d \"${0%/*}/qemu.d/$1/$2\" ] || run-parts \"${0%/*}/qemu.d/$1/$2/$3\"";
    let hooks = |settings: &str| {
        let hooks = Hooks::new().script("qemu", dispatcher).script(nested, "echo own >&2; exit 5");
        hooks.file("qemu.toml", settings, 0o644);
        hooks
    };
    let checked = |settings: &str| hooks(settings).call(&["check"]).stdout;
    let by_itself = checked("");
    let why =
        "note: DIR/qemu runs the per-event directories itself, so hookvisor does not run them: its line 2 is `[ !";
    assert!(by_itself.contains(why) && !by_itself.contains("10-own"), "{by_itself}");
    assert!(checked("nested = true\n").contains("ok       native DIR/qemu.d/web1/start/begin/10-own"));
    assert!(checked("nested = false\n").contains("not run them: `nested = false` in DIR/qemu.toml\n"));
    let ran = hooks("nested = true\n").call(&["run", "--format", "json", "qemu", "web1", "start"]);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["hooks"].as_array().unwrap().len(), 2);

    let hooks = Hooks::new().script("qemu.d/10-a", "exit 0");
    hooks.file("qemu.d/10-a.toml", "nested = false\n", 0o644);
    let ran = hooks.call(&["run", "qemu", "web1", "start"]);
    assert_eq!(ran.status, 126);
    assert!(
        ran.stderr.contains("have `nested`, which only the hook named after its driver can have"),
        "{}",
        ran.stderr
    );
}

/// libvirt calls only files that are named after a driver. Each other file is listed with the reason.
#[test]
fn libvirts_own_directory_is_listed_as_libvirt_sees_it() {
    let hooks = Hooks::new()
        .script("libvirt/hooks/qemu", ". \"${0%/*}/lib/common\"")
        .script("libvirt/hooks/vfio-startup.sh", "exit 1")
        .script("libvirt/hooks/qemu.d/10-log.disabled", "exit 1");
    for (name, text, mode) in [
        ("lib/common", "#!/bin/false\n", 0o644),
        ("conf/rules.json", "{}\n", 0o644),
        ("kvm.conf", "GPU=1\n", 0o644),
        ("qemu.d/README.md", "Hooks.\n", 0o644),
        ("qemu.d/common", "#!/bin/false\n", 0o644),
        ("qemu.d/20-off", "#!/bin/sh\n", 0o644),
        ("qemu~", "#!/bin/sh\n", 0o755),
    ] {
        hooks.file(&format!("libvirt/hooks/{name}"), text, mode);
    }
    std::os::unix::fs::symlink("/no/such/hook", hooks.path().join("libvirt/hooks/gone")).unwrap();
    let directory = hooks.path().join("libvirt/hooks");
    let mut check = hooks.command("check");
    let checked = hooks.ran(check.arg("--hooks").arg(&directory));
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    insta::assert_snapshot!("libvirts_directory", checked.stdout);
    let listed = hooks.ran(hooks.command("list").arg("--hooks").arg(directory));
    assert!(listed.stdout.starts_with("qemu     native DIR/libvirt/hooks/qemu; "), "{}", listed.stdout);
}

/// Only a filter's stdout has a reader.
#[test]
fn what_a_hook_writes_to_stdout_is_noted_or_passed_on() {
    let hooks = Hooks::new().script("qemu", "echo checked; [ \"$2\" != stopped ]").script("network", "exit 0");
    let ran = hooks.call(&["run", "qemu", "web1", "stopped"]);
    let note = "\nnote: DIR/qemu wrote 8 bytes to stdout, which are dropped: use --stdout to see them\n";
    assert!(ran.stderr.ends_with(note) && ran.stdout.is_empty(), "{ran:?}");
    assert_eq!(hooks.call(&["run", "qemu", "web1", "start"]).stderr, "", "a success is silent");
    let ran = hooks.call(&["run", "--stdout", "qemu", "web1", "start"]);
    assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (0, "checked\n", ""));
    assert_eq!(hooks.call(&["run", "network", "default", "start"]).stderr, "");
    let report: serde_json::Value =
        serde_json::from_str(&hooks.call(&["run", "--format", "json", "qemu", "web1", "start"]).stdout).unwrap();
    assert_eq!(report["hooks"][0]["notes"], serde_json::json!(["wrote 8 bytes to stdout, which were dropped"]));
}

/// Every command that reads hookvisor.toml applies `[convention.NAME]`.
#[test]
fn run_explain_list_and_check_go_by_a_convention_of_the_administrator_s() {
    let hooks =
        Hooks::new().script("srv/vmm.d/10-all", "[ $2 = configure ] && echo '{\"memory\": 1024}'; [ $3 != begin ]");
    let hooks = hooks.script("srv/vmm.d/20-create", "exit 4").script("srv/vmm.d/30-crate", ":");
    hooks.file("srv/vmm.d/20-create.toml", "operations = ['create']\n", 0o644);
    hooks.file("srv/vmm.d/30-crate.toml", "operations = ['crate']\n", 0o644);
    let config = "\
        hooks = 'srv'\n\
        [convention.vmm]\n\
        closed = true\n\
        ended_by = 'delete'\n\
        after_veto = 'run-all'\n\
        [convention.vmm.operations]\n\
        create = { stage = 'start', sub_operation = 'begin' }\n\
        configure = { stage = 'start', filter = 'json' }\n\
        delete = 'shutdown'\n";
    let file = hooks.file("hookvisor.toml", config, 0o644);
    let call = |words: &[&str]| {
        let (name, rest) = words.split_first().unwrap();
        hooks.ran(hooks.command(name).arg("--config").arg(&file).args(rest))
    };
    let unknown = "driver vmm has no operation \"crate\"";
    let (listed, checked) = (call(&["list"]), call(&["check"]));
    assert!(listed.status == 0 && listed.stdout.contains("30-crate (cannot be run: "), "{}", listed.stdout);
    assert!(checked.status == 1 && checked.stdout.contains(unknown), "{}", checked.stdout);
    fs::remove_file(hooks.path().join("srv/vmm.d/30-crate")).unwrap();
    fs::remove_file(hooks.path().join("srv/vmm.d/30-crate.toml")).unwrap();
    assert_eq!(call(&["check"]).status, 0);

    let explained = call(&["explain", "vmm", "web1", "create"]).stdout;
    assert!(explained.starts_with("vmm web1 create begin -: start stage"), "{explained}");
    let explained = call(&["explain", "vmm", "web1", "delete"]).stdout;
    assert!(explained.starts_with("vmm web1 delete - -: shutdown stage"), "{explained}");
    assert!(explained.contains("not called:\n     native DIR/srv/vmm.d/20-create"), "{explained}");

    let ran = call(&["run", "vmm", "web1", "create"]);
    assert_eq!(
        (ran.status, ran.stderr.lines().count()),
        (1, 2),
        "after the first veto, the other hook runs: {}",
        ran.stderr
    );
    let ran = call(&["run", "vmm", "web1", "configure"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "{\"memory\": 1024}\n"), "{}", ran.stderr);
    let ran = call(&["run", "vmm", "web1", "crate"]);
    assert!(ran.status == 125 && ran.stderr.contains(unknown), "{} {}", ran.status, ran.stderr);
}
