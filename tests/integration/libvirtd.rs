//! hookvisor as the hook of a real libvirtd.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::guests::wasm_probe;
use crate::support::libvirt::{World, script};
use crate::support::program::tell;
use crate::support::{skip, wait_until};

/// The hook calls of a guest that starts and is destroyed.
const WHOLE_LIFE: [&str; 5] = ["prepare begin", "start begin", "started begin", "stopped end", "release end"];

#[test]
fn either_kind_of_hook_lets_a_guest_start_and_vetoes_it() {
    let Some(world) = World::with_hookvisor() else { return };
    let wasm = "qemu.d/20@stderr=Could not find required XYZZY\\n;exit=7";
    let vetoes =
        [("qemu.d/20-xyzzy", None, "echo 'Could not find required XYZZY' >&2; exit 7"), (wasm, Some(wasm_probe()), "")];
    for operation in ["prepare", "start", "started"] {
        let errors = vetoes.map(|(name, copy_of, body)| {
            let hook = match copy_of {
                Some(file) => world.copy(name, file),
                None => world.hook(name, body),
            };
            world.settings(name, &format!("operations = ['{operation}']"));
            let error = world.try_guest("web1").unwrap_err();
            assert_eq!(world.guests(), [""; 0], "{operation}: {error}");
            let vetoed = format!("{operation} begin");
            let before = WHOLE_LIFE.into_iter().take_while(|call| *call != vetoed);
            let expected: Vec<&str> = before.chain([vetoed.as_str(), "stopped end", "release end"]).collect();
            assert_eq!(world.calls(), expected, "{operation}: libvirt calls the hooks that belong together");
            world.remove(name);
            let hook = Path::new("/").join(hook.strip_prefix(world.path("")).unwrap());
            error.replace(&hook.display().to_string(), "HOOK")
        });
        assert_eq!(errors[0], errors[1], "word for word the same but for the path");
        let expected = "unexpected exit status 7: Hook script execution failed: Hook script HOOK qemu failed with error \
                        code 7: Could not find required XYZZY\n";
        assert!(errors[0].contains(expected), "{operation}: {}", errors[0]);
    }
    for (name, copy_of) in [("qemu.d/20-agrees", None), ("qemu.d/20@read;exit=0", Some(wasm_probe()))] {
        match copy_of {
            Some(file) => world.copy(name, file),
            None => world.hook(name, "exit 0"),
        };
        world.create("web1").unwrap();
        assert_eq!(world.guests(), ["web1"]);
        world.virsh(&["destroy", "web1"]);
        wait_until("the guest is released", || world.path("log/calls").exists() && calls_so_far(&world) == 5);
        assert_eq!(world.calls(), WHOLE_LIFE);
        world.remove(name);
    }
}

#[test]
fn a_veto_is_explained_by_the_record() {
    let Some(world) = World::with_hookvisor() else { return };
    world.hook("qemu.d/20-xyzzy", "[ \"$2\" != start ] || { echo 'Could not find required XYZZY' >&2; exit 7; }");
    let error = world.try_guest("web1").unwrap_err();
    let digest = world.run("sha256sum", &["/etc/hookvisor/hooks/qemu.d/20-xyzzy"]).stdout;
    let digest = String::from_utf8_lossy(&digest).split(' ').next().unwrap().to_owned();
    let last = world.hookvisor(["history", "--last"]);
    let report = "Hook script execution failed: Hook script /etc/hookvisor/hooks/qemu.d/20-xyzzy qemu failed with error \
                  code 7: Could not find required XYZZY";
    assert!(error.contains(report), "{error}");
    let lines: Vec<&str> = last.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("20"), "when: {last}");
    assert!(lines[0].contains("qemu     web1         start begin      vetoed"), "{last}");
    let failed = lines.iter().find(|line| line.starts_with("failed")).unwrap();
    assert!(failed.contains(" /etc/hookvisor/hooks/qemu.d/20-xyzzy ") && failed.ends_with(&digest), "{last}");
    assert_eq!(lines.last(), Some(&report), "{last}");
    let events = world.hookvisor(["history", "--object", "web1", "--format", "json"]);
    let operations: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["operation"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(operations, ["prepare", "start", "stopped", "release"]);
    // The same event explained: the hook with its rights, and what its failure means.
    world.settings("qemu.d/20-xyzzy", "env = { POLICY = 'strict' }\ntimeout = '5s'");
    let explained = world.hookvisor(["explain", "qemu", "web1", "start"]);
    for line in ["20-xyzzy", "may      see the variable POLICY", "20-xyzzy.toml"] {
        assert!(explained.contains(line), "{line}: {explained}");
    }
}

fn calls_so_far(world: &World) -> usize {
    std::fs::read_to_string(world.path("log/calls")).unwrap_or_default().lines().count()
}

#[test]
fn a_hook_that_fails_after_the_stop_changes_nothing_but_the_log() {
    let Some(world) = World::with_hookvisor() else { return };
    world.file("etc/hookvisor/hookvisor.toml", "[log]\nto = 'file'\nfile = '/var/log/libvirt/hookvisor.log'\n", 0o644);
    world.hook("qemu.d/20-late", "echo 'not now' >&2; exit 3");
    world.settings("qemu.d/20-late", "operations = ['stopped', 'release']");
    for _again in 0..2 {
        world.try_guest("web1").unwrap();
        assert_eq!(world.guests(), [""; 0]);
        assert_eq!(world.calls(), WHOLE_LIFE);
    }
    let log = std::fs::read_to_string(world.path("log/hookvisor.log")).unwrap();
    for operation in ["stopped", "release"] {
        let line = log.lines().find(|line| line.contains(operation) && line.contains("20-late")).unwrap();
        let (_time, rest) = line.split_once(' ').unwrap();
        let fields = format!(
            "WARN driver=qemu object=web1 operation={operation} hook=/etc/hookvisor/hooks/qemu.d/20-late status=3 duration_us="
        );
        let report = " Hook script execution failed: Hook script /etc/hookvisor/hooks/qemu.d/20-late qemu failed with \
                      error code 3: not now";
        assert!(rest.starts_with(&fields) && rest.ends_with(report), "{line}");
    }
    assert_eq!(log.lines().filter(|line| line.contains(" INFO ")).count(), 10, "{log}");
}

#[test]
fn a_restored_guest_runs_with_what_the_hooks_made_of_its_document() {
    let Some(world) = World::with_hookvisor() else { return };
    world.file("etc/web1.xml", crate::support::libvirt::guest("web1"), 0o644);
    world.virsh(&["define", "/etc/web1.xml"]);
    world.virsh(&["start", "web1"]);
    world.virsh(&["managedsave", "web1"]);
    // For any other operation, this output would not be a document.
    world.hook("qemu.d/20-shell", "sed 's/<title>before</<title>shell, before</'");
    world.copy("qemu.d/30@replace=shell, before>shell, wasm", wasm_probe());
    world.virsh(&["start", "web1"]);
    assert_eq!(world.virsh(&["desc", "--title", "web1"]).trim(), "shell, wasm");

    world.virsh(&["managedsave", "web1"]);
    world.remove("qemu.d/30@replace=shell, before>shell, wasm");
    for (name, garbage) in [("qemu.d/20-shell", None), ("qemu.d/20@stdout=no XML", Some(wasm_probe()))] {
        match garbage {
            None => world.hook(name, "echo 'no XML'"),
            Some(probe) => world.copy(name, probe),
        };
        world.settings(name, "operations = ['restore']");
        let error = world.try_virsh(&["start", "web1"]).unwrap_err();
        let refused = format!(
            "Hook script execution failed: Hook script /etc/hookvisor/hooks/{name} qemu was refused: its output is not XML: unknown token at 1:1"
        );
        assert!(error.contains(&refused), "{error}");
        assert_eq!(world.guests(), [""; 0]);
        world.remove(name);
    }
    // The saved state still exists, and the guest continues from it.
    assert!(world.virsh(&["dominfo", "--domain", "web1"]).contains("Managed save:   yes"));
    world.virsh(&["start", "web1"]);
    assert_eq!(world.virsh(&["desc", "--title", "web1"]).trim(), "shell, wasm");
}

#[test]
fn a_hook_that_hangs_is_ended_at_its_timeout() {
    let Some(world) = World::with_hookvisor() else { return };
    for (name, copy_of) in [("qemu.d/20-hangs", None), ("qemu.d/20@sleep=600000", Some(wasm_probe()))] {
        match copy_of {
            Some(file) => world.copy(name, file),
            None => world.hook(name, "sleep 600"),
        };
        world.settings(name, "operations = ['start']\ntimeout = '1s'");
        let began = Instant::now();
        let error = world.try_guest("web1").unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(error.contains("unexpected exit status 124"), "{error}");
        assert!(error.contains(&format!("hooks/{name} qemu timed out after 1s")), "{error}");
        assert_eq!(world.guests(), [""; 0], "libvirtd answers again");
        world.remove(name);
    }
    world.try_guest("web1").unwrap();
    assert_eq!(world.run("pgrep", &["sleep"]).stdout, b"", "what hung is gone");
}

#[test]
fn a_background_process_that_keeps_stderr_does_not_hold_up_a_start() {
    background_process("qemu");
}

/// libvirt runs these itself until the install takes them over.
#[test]
fn a_background_process_of_a_hook_in_qemu_d_does_not_hold_up_a_start_either() {
    background_process("qemu.d/10-in-the-background.sh");
}

fn background_process(hook: &str) {
    /// How long the background process lives, in seconds.
    const LIVES: u64 = 8;
    let Some(mut world) = World::new() else { return };
    let leaves_one = script(&format!("[ \"$2\" = prepare ] && sleep {LIVES} &\nexit 0"));
    world.file(&format!("etc/libvirt/hooks/{hook}"), &leaves_one, 0o755);
    world.start_libvirtd();
    let create = || {
        let began = Instant::now();
        world.try_guest("web1").unwrap();
        began.elapsed()
    };
    let bare = create();
    world.hookvisor(["libvirt", "install"]);
    let with_hookvisor = create();
    tell(&format!(
        "{hook} leaves `sleep {LIVES}` behind: virsh create and destroy take {bare:.1?} with libvirt alone, \
         {with_hookvisor:.1?} with hookvisor"
    ));
    assert!(bare >= Duration::from_secs(LIVES), "libvirt waits for it: {bare:?}");
    assert!(with_hookvisor < Duration::from_secs(LIVES), "hookvisor does not: {with_hookvisor:?}");
}

/// Without hookvisor, libvirt starts no guest, and destroys no running one.
#[test]
fn a_program_that_is_gone_vetoes_and_lets_running_guests_live() {
    let Some(mut world) = World::new() else { return };
    let program = world.path("etc/hookvisor-program");
    std::fs::copy(env!("CARGO_BIN_EXE_hookvisor"), &program).unwrap();
    world.hookvisor(["libvirt", "install", "--program", "/etc/hookvisor-program"]);
    world.hook("qemu", "exit 0");
    world.start_libvirtd();
    world.create("web1").unwrap();
    std::fs::remove_file(program).unwrap();
    let error = world.try_guest("web2").unwrap_err();
    assert!(error.contains("hookvisor is missing: no program /etc/hookvisor-program"), "{error}");
    world.restart_libvirtd();
    assert_eq!(world.guests(), ["web1"]);
}

#[test]
fn a_restart_of_libvirtd_leaves_running_guests_alone_unless_reconnect_is_vetoed() {
    let Some(mut world) = World::with_hookvisor() else { return };
    world.create("web1").unwrap();
    world.calls();
    // These only report. There is nothing left to prevent.
    world.hook("daemon", "echo \"daemon $2\" >> /var/log/libvirt/calls; exit 1");
    world.hook("qemu.d/20-late", "exit 1");
    world.settings("qemu.d/20-late", "operations = ['stopped', 'release']");
    world.restart_libvirtd();
    assert_eq!(world.guests(), ["web1"]);
    assert_eq!(world.calls(), ["daemon shutdown", "daemon start", "reconnect begin"]);

    // This operation exists to end a guest that may no longer run: libvirt destroys it.
    world.hook("qemu.d/30-not-here", "exit 1");
    world.settings("qemu.d/30-not-here", "operations = ['reconnect']");
    world.restart_libvirtd();
    wait_until("libvirt has destroyed the guest", || world.guests().is_empty());
    let calls = world.calls();
    assert!(calls.contains(&"reconnect begin".to_owned()) && calls.contains(&"release end".to_owned()), "{calls:?}");
}

#[test]
fn hooks_in_a_guests_own_directories_run_for_its_events_only() {
    let Some(world) = World::with_hookvisor() else { return };
    lay_out(&world, "etc/hookvisor/hooks/qemu.d");
    assert_own_hooks_run(&world);
}

/// VFIO users' dispatcher looks for the directories next to itself.
#[test]
fn a_dispatcher_finds_its_directories_after_the_install_as_before() {
    let Some(mut world) = World::new() else { return };
    lay_out(&world, "etc/libvirt/hooks/qemu.d");
    let dispatcher = script(
        "hooks=\"$(dirname \"$0\")/qemu.d/$1/$2/$3\"\n[ -d \"$hooks\" ] || exit 0\n\
         for hook in \"$hooks\"/*; do \"$hook\" \"$@\" || exit; done",
    );
    let own = world.file("etc/libvirt/hooks/qemu", &dispatcher, 0o755);
    world.start_libvirtd();
    assert_own_hooks_run(&world);
    world.hookvisor(["libvirt", "install"]);
    assert_own_hooks_run(&world);
    world.hookvisor(["libvirt", "uninstall"]);
    assert_eq!(std::fs::read_to_string(own).unwrap(), dispatcher);
    assert_own_hooks_run(&world);
}

/// Directories as in the guides for GPU passthrough.
fn lay_out(world: &World, hooks: &str) {
    let files = [
        ("win10", "prepare/begin", "alloc_hugepages.sh"),
        ("win10", "prepare/begin", "bind_vfio.sh"),
        ("win10", "release/end", "dealloc_hugepages.sh"),
        ("win10", "release/end", "unbind_vfio.sh"),
        ("macos", "started/begin", "cpu_isolate.sh"),
    ];
    for (guest, event, name) in files {
        let body = format!("echo \"$1 $2 $3 {name}\" >> /var/log/libvirt/own");
        world.file(&format!("{hooks}/{guest}/{event}/{name}"), script(&body), 0o755);
    }
}

fn assert_own_hooks_run(world: &World) {
    for guest in ["win10", "macos", "web1"] {
        world.try_guest(guest).unwrap();
    }
    let own = std::fs::read_to_string(world.path("log/own")).unwrap();
    std::fs::remove_file(world.path("log/own")).unwrap();
    assert_eq!(
        own.lines().collect::<Vec<_>>(),
        [
            "win10 prepare begin alloc_hugepages.sh",
            "win10 prepare begin bind_vfio.sh",
            "win10 release end dealloc_hugepages.sh",
            "win10 release end unbind_vfio.sh",
            "macos started begin cpu_isolate.sh",
        ]
    );
}

#[test]
fn a_network_is_vetoed_and_allowed() {
    let Some(world) = World::with_hookvisor() else { return };
    let network = "<network><name>lab</name><bridge name='hvlab'/></network>";
    world.file("etc/lab.xml", network, 0o644);
    world.virsh(&["net-define", "/etc/lab.xml"]);
    world.hook("network.d/10-record", "echo \"$1 $2 $3\" >> /var/log/libvirt/calls");
    if let Err(error) = world.try_virsh(&["net-start", "lab"]) {
        return skip("a network", &format!("this machine cannot make a bridge: {error}"));
    }
    world.virsh(&["net-destroy", "lab"]);
    assert_eq!(world.calls(), ["lab start begin", "lab started begin", "lab stopped end"]);

    let wasm = "network.d/20@stderr=no networks today;exit=9";
    world.copy(wasm, wasm_probe());
    for operation in ["start", "started"] {
        world.settings(wasm, &format!("operations = ['{operation}']"));
        let error = world.try_virsh(&["net-start", "lab"]).unwrap_err();
        let report =
            format!("Hook script /etc/hookvisor/hooks/{wasm} network failed with error code 9: no networks today");
        assert!(error.contains(&report), "{error}");
        assert_eq!(world.virsh(&["net-list", "--name"]).trim(), "");
    }
}

#[test]
fn a_container_is_vetoed() {
    let Some(world) = World::with_hookvisor() else { return };
    let container = "<domain type='lxc'><name>box</name><memory unit='MiB'>32</memory><os><type>exe</type>\
                     <init>/bin/sh</init></os><devices><console type='pty'/></devices></domain>";
    world.file("etc/box.xml", container, 0o644);
    world.hook("lxc", "[ \"$2\" != prepare ] || { echo 'no containers' >&2; exit 4; }");
    let error = world.virsh_at("lxc:///system", &["create", "/etc/box.xml"]).unwrap_err();
    if !error.contains("Hook script") {
        return skip("a container", &format!("this libvirtd runs none: {error}"));
    }
    let report = "Hook script /etc/hookvisor/hooks/lxc failed with error code 4: no containers";
    assert!(error.contains(report), "{error}");
}

#[test]
fn a_wasm_file_in_libvirts_own_directory_runs_by_itself() {
    let Some(mut world) = World::new() else { return };
    let name = "etc/libvirt/hooks/qemu.d/20@stderr=from the sandbox;exit=5;.wasm";
    // libvirt calls it by the file's name, and its settings are next to it.
    let hook = world.file(name, std::fs::read(wasm_probe()).unwrap(), 0o755);
    let settings = hook.with_extension("toml");
    std::fs::write(&settings, "timeout = '20s'\n").unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_hookvisor"), world.path("etc/hookvisor-program")).unwrap();
    world.hookvisor(["binfmt", "--install", "--program", "/etc/hookvisor-program"]);
    let register =
        "mount -t binfmt_misc none /run/binfmt && grep ^: /etc/binfmt.d/hookvisor.conf > /run/binfmt/register";
    std::fs::create_dir(world.path("run/binfmt")).unwrap();
    let registered = world.run("sh", &["-c", register]);
    if !registered.status.success() {
        let why = String::from_utf8_lossy(&registered.stderr).into_owned();
        return skip("a .wasm file run by the kernel", &format!("binfmt_misc cannot be used here: {why}"));
    }
    world.start_libvirtd();
    let error = world.try_guest("web1").unwrap_err();
    assert!(error.contains("failed with error code 5: from the sandbox"), "{error}");
    std::fs::rename(&hook, hook.with_file_name("20@exit=0;.wasm")).unwrap();
    std::fs::rename(settings, hook.with_file_name("20@exit=0;.toml")).unwrap();
    world.try_guest("web1").unwrap();
    world.hookvisor(["binfmt", "--uninstall", "--program", "/etc/hookvisor-program"]);
    assert!(!world.path("etc/binfmt.d/hookvisor.conf").exists() && !world.path("etc/hookvisor-exec").exists());
}

#[test]
fn what_hookvisor_adds_to_a_start() {
    /// Alternating starts of each kind. The median counts.
    const STARTS: usize = 9;
    let Some(mut world) = World::new() else { return };
    world.file("etc/libvirt/hooks/qemu", script("exit 0"), 0o755);
    world.start_libvirtd();
    let mut took = [const { Vec::new() }; 3];
    for _ in 0..STARTS {
        for (kind, took) in took.iter_mut().enumerate() {
            match kind {
                0 => {}
                1 => drop(world.hookvisor(["libvirt", "install", "qemu"])),
                _ => drop(world.copy("qemu.d/20@exit=0", wasm_probe())),
            }
            let began = Instant::now();
            world.create("web1").unwrap();
            took.push(began.elapsed());
            world.virsh(&["destroy", "web1"]);
        }
        world.remove("qemu.d/20@exit=0");
        world.hookvisor(["libvirt", "uninstall"]);
    }
    let [bare, script, wasm] = took.map(|mut took| {
        took.sort();
        took[STARTS / 2]
    });
    tell(&format!(
        "virsh create, three hook calls, the middle of {STARTS}: the script alone {bare:.1?}, by hookvisor {script:.1?}, \
         with a wasm hook more {wasm:.1?} (hookvisor built for {})",
        if cfg!(debug_assertions) { "debugging" } else { "release" }
    ));
}

/// The advice of install about the restart is correct.
#[test]
fn libvirt_sees_an_install_when_it_is_sent_sighup() {
    let Some(mut world) = World::new() else { return };
    world.start_libvirtd();
    world.hookvisor(["libvirt", "install"]);
    world.hook("qemu", "exit 1");
    world.try_guest("web1").unwrap();
    world.reload_libvirtd();
    wait_until("libvirt has looked for its hooks again", || world.try_guest("web1").is_err());
    assert_eq!(world.guests(), [""; 0]);
}

/// Runs the page for libvirt's users from its first command to its last.
#[test]
fn the_page_for_users_of_libvirt_is_what_happens() {
    let Some(mut world) = World::new() else { return };
    // Programs that need systemd, which a world does not have, and a hookvisor that has its link next to it.
    std::fs::create_dir(world.path("etc/bin")).unwrap();
    std::fs::copy(env!("CARGO_BIN_EXE_hookvisor"), world.path("etc/bin/hookvisor")).unwrap();
    let systemctl = "case \"$*\" in 'reload libvirtd') kill -HUP \"$(cat /run/libvirtd.pid)\" ;; \
                     'restart systemd-binfmt') ;; *) exit 1 ;; esac";
    world.file("etc/bin/systemctl", script(systemctl), 0o755);
    let own = script("exit 0");
    let theirs = world.file("etc/libvirt/hooks/qemu", &own, 0o755);
    world.start_libvirtd();
    let run = |commands: &str| {
        let script = format!("exec 2>&1; cd {}; PATH=/etc/bin:$PATH; {commands}", env!("CARGO_MANIFEST_DIR"));
        let ran = world.run("sh", &["-ec", &script]);
        (ran.status.success(), String::from_utf8(ran.stdout).unwrap())
    };
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/libvirt/README.md")).unwrap();
    for (language, block) in page.split("\n```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap()) {
        match language {
            "sh" => {
                let (succeeded, said) = run(block);
                assert!(succeeded, "{block}: {said}");
            }
            "toml" => {
                drop(world.file("etc/hookvisor/hookvisor.toml", block.replace("/var/log/", "/var/log/libvirt/"), 0o644))
            }
            "console" => {
                let (command, shown) = block.strip_prefix("$ ").unwrap().split_once('\n').unwrap();
                let (succeeded, said) = run(command);
                let (before, after) = shown.split_once('…').unwrap();
                assert!(!succeeded && said.starts_with(before) && said.trim_end().ends_with(after), "{said}");
                // The owner that the page requires.
                let owned = "sed 's/<!-- //; s/ -->//' examples/libvirt/demo.xml > /etc/owned.xml; \
                             virsh create /etc/owned.xml; virsh destroy demo";
                let (succeeded, said) = run(owned);
                assert!(succeeded, "{said}");
            }
            other => assert_eq!(other, "", "a block that nobody runs: {block}"),
        }
    }
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), own);
    assert!(!world.path("etc/bin/hookvisor-exec").exists());
}
