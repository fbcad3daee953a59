//! `hookvisor libvirt`: becoming libvirt's hook, and going back without a trace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::support::program::{command, hookvisor};

/// What is to be known of a file: its mode, owner, time of change and content, or a link's target.
type Trace = (u32, u32, i64, Vec<u8>);

/// Another root, with libvirt's hooks as users have them.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::with_prefix("root-").unwrap());
        fs::set_permissions(machine.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(machine.hooks("qemu.d/win10/prepare/begin")).unwrap();
        machine
    }

    /// One whose hooks are a plain script, one that looks beside itself, a link, one that is switched off, and a file of
    /// each in `qemu.d`.
    fn with_hooks() -> Self {
        let machine = Self::new();
        machine.file("qemu", "#!/bin/sh\necho plain >&2\nexit 3\n", 0o750);
        machine.file("network", "#!/bin/sh\n. \"$(dirname \"$0\")/lib.sh\"\ndecide\n", 0o755);
        machine.file("lib.sh", "decide() { echo beside >&2; exit 4; }\n", 0o644);
        machine.file("lxc-of-mine.sh", "#!/bin/sh\necho linked >&2\nexit 5\n", 0o755);
        symlink("lxc-of-mine.sh", machine.hooks("lxc")).unwrap();
        machine.file("daemon", "#!/bin/sh\nexit 6\n", 0o640);
        machine.file("qemu.d/10-libvirts", "#!/bin/sh\nexit 0\n", 0o755);
        machine.file("qemu.d/win10/prepare/begin/bind_vfio.sh", "#!/bin/sh\nexit 0\n", 0o755);
        machine
    }

    fn hooks(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/libvirt/hooks").join(name)
    }

    fn ours(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/hookvisor/hooks").join(name)
    }

    fn file(&self, name: &str, content: &str, mode: u32) {
        fs::write(self.hooks(name), content).unwrap();
        fs::set_permissions(self.hooks(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Every file and directory, with all that is to be as before.
    fn traces(&self) -> BTreeMap<PathBuf, Trace> {
        let mut traces = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
                let found = path.symlink_metadata().unwrap();
                // Compiled hooks are no file of the user's; a call may leave some.
                if path.ends_with("var") && !path.join("lib").exists() {
                    continue;
                }
                let (content, time) = if found.is_dir() {
                    directories.push(path.clone());
                    (Vec::new(), 0)
                } else if found.is_symlink() {
                    (fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(), found.mtime_nsec())
                } else {
                    (fs::read(&path).unwrap(), found.mtime_nsec())
                };
                traces.insert(path, (found.mode(), found.uid(), time, content));
            }
        }
        traces
    }

    /// Runs `hookvisor libvirt …` for this root. What it came to, the root being `ROOT` and the program `HOOKVISOR`.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut run = hookvisor();
        run.arg("libvirt").args(arguments).arg("--root").arg(self.0.path());
        if arguments[0] == "install" {
            run.args(["--program", env!("CARGO_BIN_EXE_hookvisor")]);
        }
        let ran = run.output().unwrap();
        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        let said = said.replace(&self.0.path().display().to_string(), "ROOT");
        (ran.status.code().unwrap(), said.replace(env!("CARGO_BIN_EXE_hookvisor"), "HOOKVISOR"))
    }

    /// What libvirt's hook of a driver comes to: its exit status and the last word it says.
    fn call(&self, driver: &str) -> (i32, String) {
        let called = command(self.hooks(driver)).args(["web1", "start", "begin", "-"]).output().unwrap();
        let said = String::from_utf8_lossy(&called.stderr).trim_end().rsplit([' ', '\n']).next().unwrap().to_owned();
        (called.status.code().unwrap(), said)
    }
}

#[test]
fn scripts_run_on_after_the_install_and_are_as_before_after_the_uninstall() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    let own = ["qemu", "network", "lxc"].map(|driver| machine.call(driver));
    assert_eq!(own, [(3, "plain"), (4, "beside"), (5, "linked")].map(|(status, word)| (status, word.to_owned())));
    for _again in 0..2 {
        assert_eq!(machine.run(&["install"]).0, 0);
        assert_eq!(["qemu", "network", "lxc"].map(|driver| machine.call(driver)), own);
        assert_eq!(machine.call("daemon").0, 0, "nobody made it executable");
        assert_eq!(machine.run(&["uninstall"]).0, 0);
        assert_eq!(machine.traces(), before);
    }
}

#[test]
fn a_script_moves_and_one_that_looks_beside_itself_stays() {
    let machine = Machine::with_hooks();
    let (qemu, qemu_d) = (machine.hooks("qemu").metadata().unwrap(), machine.hooks("qemu.d").metadata().unwrap());
    let (status, said) = machine.run(&["install"]);
    assert_eq!(status, 0, "{said}");
    assert_snapshot!(said);
    let moved = machine.ours("qemu").metadata().unwrap();
    assert_eq!((moved.ino(), moved.mode()), (qemu.ino(), qemu.mode()));
    assert_eq!(machine.hooks("qemu.d").metadata().unwrap().ino(), qemu_d.ino(), "qemu.d stays libvirt's");
    for kept in ["network.before-hookvisor", "lxc.before-hookvisor"] {
        assert!(machine.hooks(kept).exists(), "{kept}");
    }
    assert_snapshot!("status", machine.run(&["status"]).1);
    assert_snapshot!("uninstall", machine.run(&["uninstall"]).1);
}

#[test]
fn nothing_is_done_twice_and_a_dry_run_does_nothing() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    let (status, would) = machine.run(&["install", "--dry-run"]);
    assert!(status == 0 && would.starts_with("would make "), "{would}");
    assert_eq!(machine.traces(), before);
    assert_eq!(machine.run(&["status"]).0, 1);
    assert_eq!(
        machine.run(&["uninstall"]),
        (0, "nothing to do: hookvisor was not installed for these drivers\n".into())
    );

    machine.run(&["install"]);
    let installed = machine.traces();
    let again = "nothing to do: hookvisor is the hook of these drivers already\n";
    assert_eq!(machine.run(&["install"]), (0, again.into()));
    let (status, would) = machine.run(&["uninstall", "--dry-run"]);
    assert!(status == 0 && would.starts_with("would move "), "{would}");
    assert_eq!(machine.traces(), installed);
    assert_eq!(machine.run(&["status"]).0, 0);
}

#[test]
fn a_driver_can_be_taken_over_and_given_back_by_itself() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    machine.run(&["install", "qemu"]);
    machine.run(&["install", "network"]);
    let is_link = |driver: &str| fs::read_link(machine.hooks(driver)).is_ok_and(|to| to.is_absolute());
    assert_eq!(["qemu", "network", "lxc", "daemon"].map(is_link), [true, true, false, false]);
    machine.run(&["uninstall", "qemu"]);
    assert_eq!(["qemu", "network"].map(is_link), [false, true]);
    machine.run(&["uninstall"]);
    assert_eq!(machine.traces(), before);
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_begun() {
    let refused = |machine: &Machine, arguments: &[&str]| {
        let before = machine.traces();
        let (status, said) = machine.run(arguments);
        assert_eq!((status, machine.traces() == before), (125, true), "{said}");
        said
    };
    let machine = Machine::with_hooks();
    fs::create_dir_all(machine.ours("")).unwrap();
    fs::write(machine.ours("qemu"), "#!/bin/sh\n").unwrap();
    assert_eq!(
        refused(&machine, &["install"]),
        "hookvisor: ROOT/etc/hookvisor/hooks/qemu is in the way: ROOT/etc/libvirt/hooks/qemu would have to go there; move \
         one of them away\n"
    );

    let machine = Machine::with_hooks();
    machine.file("qemu", "#!/no/such/shell\n", 0o755);
    let said = refused(&machine, &["install"]);
    let why = "hookvisor: ROOT/etc/libvirt/hooks/qemu would veto every start: it could not be run: ";
    assert!(said.starts_with(why) && said.contains("/no/such/shell"), "{said}");

    let machine = Machine::new();
    fs::create_dir(machine.hooks("qemu")).unwrap();
    let said = refused(&machine, &["install"]);
    assert_eq!(said, "hookvisor: ROOT/etc/libvirt/hooks/qemu is a directory, not a hook\n");

    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    fs::remove_file(machine.hooks("qemu")).unwrap();
    machine.file("qemu", "#!/bin/sh\n", 0o755);
    assert_eq!(
        refused(&machine, &["uninstall"]),
        "hookvisor: ROOT/etc/libvirt/hooks/qemu is no longer the link that install made: move it away, so that \
         ROOT/etc/hookvisor/hooks/qemu can go back there\n"
    );
    assert!(refused(&machine, &["install"]).contains("run `hookvisor libvirt uninstall` first"));
}

#[test]
fn an_install_that_was_interrupted_is_taken_back() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    machine.run(&["install"]);
    let state = machine.0.path().join("var/lib/hookvisor/libvirt.json");
    let noted = fs::read(&state).unwrap();
    machine.run(&["uninstall"]);
    assert_eq!(machine.traces(), before);
    // It had written down what it was going to do, and made one file's second name.
    fs::create_dir_all(state.parent().unwrap()).unwrap();
    fs::create_dir_all(machine.ours("")).unwrap();
    fs::write(&state, noted).unwrap();
    fs::hard_link(machine.hooks("qemu"), machine.ours("qemu")).unwrap();
    assert_eq!(machine.run(&["status"]).0, 1);
    let (status, said) = machine.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(machine.traces(), before);
}

#[test]
fn a_link_made_by_hand_is_left_alone() {
    let machine = Machine::new();
    symlink("/usr/bin/hookvisor", machine.hooks("qemu")).unwrap();
    machine.run(&["install"]);
    machine.run(&["uninstall"]);
    assert_eq!(fs::read_link(machine.hooks("qemu")).unwrap(), Path::new("/usr/bin/hookvisor"));
}

#[test]
fn a_newer_program_takes_the_place_of_the_older() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    let install = |program: &str| {
        let mut run = hookvisor();
        run.args(["libvirt", "install", "--program", program, "--root"]).arg(machine.0.path()).assert().success();
    };
    install("/usr/local/bin/hookvisor");
    install("/usr/bin/hookvisor");
    assert_eq!(fs::read_link(machine.hooks("qemu")).unwrap(), Path::new("/usr/bin/hookvisor"));
    machine.run(&["uninstall"]);
    assert_eq!(machine.traces(), before);
}
