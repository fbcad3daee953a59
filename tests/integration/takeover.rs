//! `hookvisor libvirt`: install, status, and an uninstall that leaves no trace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use insta::assert_snapshot;
use tempfile::TempDir;

use crate::support::needs_root;
use crate::support::program::{command, hookvisor};

/// What must be unchanged in a file: its mode, owner, time of change and content, or a link's target.
type Trace = (u32, u32, i64, Vec<u8>);

/// Another root with typical libvirt hooks.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(TempDir::with_prefix("root-").unwrap());
        fs::set_permissions(machine.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(machine.hooks("qemu.d/win10/prepare/begin")).unwrap();
        // The interpreter is looked up in the root.
        machine.program("bin/sh");
        machine.program(env!("CARGO_BIN_EXE_hookvisor").trim_start_matches('/'));
        machine
    }

    /// A root whose hooks are a plain script, one that uses its neighbours, a link, a disabled one, and one of each
    /// kind in `qemu.d`.
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

    /// Where a former hook of libvirt is now.
    fn kept(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/libvirt/hookvisor").join(name)
    }

    fn kept_d(&self, name: &str) -> PathBuf {
        self.0.path().join("etc/libvirt/hookvisor.d").join(name)
    }

    /// A program below the root.
    fn program(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy("/bin/true", &path).unwrap();
        path
    }

    fn file(&self, name: &str, content: &str, mode: u32) {
        fs::write(self.hooks(name), content).unwrap();
        fs::set_permissions(self.hooks(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Every file and directory, with everything that must be unchanged.
    fn traces(&self) -> BTreeMap<PathBuf, Trace> {
        let mut traces = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
                let found = path.symlink_metadata().unwrap();
                // Compiled hooks are not files of the user. A call may create some.
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

    /// Runs `hookvisor libvirt …` for this root. Returns the status and output, with `ROOT` for the root and
    /// `HOOKVISOR` for the program.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let mut run = hookvisor();
        run.arg("libvirt").args(arguments).arg("--root").arg(self.0.path());
        if arguments[0] == "install" && !arguments.contains(&"--program") {
            run.args(["--program", env!("CARGO_BIN_EXE_hookvisor")]);
        }
        let ran = run.output().unwrap();
        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        let said = said.replace(&self.0.path().display().to_string(), "ROOT");
        (ran.status.code().unwrap(), said.replace(env!("CARGO_BIN_EXE_hookvisor"), "HOOKVISOR"))
    }

    /// The exit status of a driver's hook, and its last message.
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
    for arguments in
        [["install"].as_slice(), &["install", "--link"], &["install", "--all"], &["install", "--only-scripts"]]
    {
        let (status, said) = machine.run(arguments);
        assert_eq!(status, 0, "{said}");
        assert_eq!(["qemu", "network", "lxc"].map(|driver| machine.call(driver)), own);
        assert_eq!(machine.call("daemon").0, 0, "nobody made it executable");
        assert_eq!(machine.run(&["uninstall"]).0, 0);
        assert_eq!(machine.traces(), before);
    }
}

#[test]
fn every_hook_keeps_its_name_and_finds_what_was_beside_it() {
    let machine = Machine::with_hooks();
    let (qemu, qemu_d) = (machine.hooks("qemu").metadata().unwrap(), machine.hooks("qemu.d").metadata().unwrap());
    let (status, said) = machine.run(&["install"]);
    assert_eq!(status, 0, "{said}");
    assert_snapshot!("install", said);
    let moved = machine.kept("qemu").metadata().unwrap();
    assert_eq!((moved.ino(), moved.mode()), (qemu.ino(), qemu.mode()));
    assert_eq!(machine.hooks("qemu.d").metadata().unwrap().ino(), qemu_d.ino());
    assert_eq!(fs::read(machine.kept("lib.sh")).unwrap(), fs::read(machine.hooks("lib.sh")).unwrap());
    assert!(machine.kept_d("qemu.d/10-libvirts").exists() && !machine.hooks("qemu.d/10-libvirts").exists());
    // A dispatcher also finds a guest's directory that is created later.
    fs::create_dir(machine.hooks("qemu.d/win11")).unwrap();
    assert!(machine.kept("qemu.d/win11").is_dir());
    assert_snapshot!("status", machine.run(&["status"]).1);
    assert_snapshot!("uninstall", machine.run(&["uninstall"]).1);
}

#[test]
fn the_report_names_the_script_that_failed() {
    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    let called = command(machine.hooks("network")).args(["web1", "start", "begin", "-"]).output().unwrap();
    let said = String::from_utf8_lossy(&called.stderr).replace(&machine.0.path().display().to_string(), "ROOT");
    assert!(said.contains("Hook script ROOT/etc/libvirt/hookvisor/network "), "{said}");
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
    let (status, said) = machine.run(&["install"]);
    assert!(status == 0 && said.starts_with("nothing to do: hookvisor is the hook of these drivers\n"), "{said}");
    let (status, would) = machine.run(&["uninstall", "--dry-run"]);
    assert!(status == 0 && would.starts_with("would move "), "{would}");
    assert_eq!(machine.traces(), installed);
}

#[test]
fn a_driver_can_be_taken_over_and_given_back_by_itself() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    machine.run(&["install", "qemu"]);
    machine.run(&["install", "network"]);
    let is_ours =
        |driver: &str| fs::read_to_string(machine.hooks(driver)).unwrap().contains("hookvisor libvirt install");
    assert_eq!(["qemu", "network", "lxc", "daemon"].map(is_ours), [true, true, false, false]);
    assert_eq!(machine.call("network"), (4, "beside".to_owned()));
    machine.run(&["uninstall", "qemu"]);
    assert_eq!(["qemu", "network"].map(is_ours), [false, true]);
    assert_eq!(
        fs::read(machine.kept("qemu")).unwrap(),
        fs::read(machine.hooks("qemu")).unwrap(),
        "it is beside network"
    );
    assert_eq!(machine.call("network"), (4, "beside".to_owned()));
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
    fs::create_dir_all(machine.kept("")).unwrap();
    fs::write(machine.kept("qemu"), "#!/bin/sh\n").unwrap();
    assert_eq!(
        refused(&machine, &["install"]),
        "hookvisor: ROOT/etc/libvirt/hookvisor/qemu is in the way: ROOT/etc/libvirt/hooks/qemu would be moved there. Move \
         ROOT/etc/libvirt/hookvisor/qemu away\n"
    );

    let machine = Machine::with_hooks();
    machine.file("qemu", "#!/no/such/shell\n", 0o755);
    let said = refused(&machine, &["install"]);
    let why = "hookvisor: ROOT/etc/libvirt/hooks/qemu would veto every start, so nothing was changed: ";
    assert!(said.starts_with(why) && said.contains("/no/such/shell"), "{said}");

    let machine = Machine::new();
    fs::create_dir(machine.hooks("qemu")).unwrap();
    let said = refused(&machine, &["install"]);
    assert!(said.starts_with("hookvisor: ROOT/etc/libvirt/hooks/qemu is a directory: "), "{said}");

    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    fs::remove_file(machine.hooks("qemu")).unwrap();
    machine.file("qemu", "#!/bin/sh\n", 0o755);
    assert_eq!(
        refused(&machine, &["uninstall"]),
        "hookvisor: ROOT/etc/libvirt/hooks/qemu is not what install put there: move it away, so that \
         ROOT/etc/libvirt/hookvisor/qemu can be restored\n"
    );
    assert!(refused(&machine, &["install"]).contains("run `hookvisor libvirt uninstall qemu` first"));
}

#[test]
fn an_install_that_was_interrupted_is_undone() {
    let machine = Machine::with_hooks();
    let before = machine.traces();
    machine.run(&["install"]);
    let state = machine.0.path().join("var/lib/hookvisor/libvirt.json");
    let noted = fs::read(&state).unwrap();
    machine.run(&["uninstall"]);
    assert_eq!(machine.traces(), before);
    // It had recorded its plan, given one file a second name, and copied another.
    for directory in [state.parent().unwrap(), &machine.ours(""), &machine.kept(""), &machine.kept_d("qemu.d")] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(&state, noted).unwrap();
    fs::hard_link(machine.hooks("qemu"), machine.kept("qemu")).unwrap();
    fs::copy(machine.hooks("network"), machine.kept("network")).unwrap();
    assert_eq!(machine.run(&["status"]).0, 1);
    let (status, said) = machine.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    let without_time = |traces: BTreeMap<PathBuf, Trace>| -> Vec<(PathBuf, u32, Vec<u8>)> {
        traces.into_iter().map(|(path, (mode, _, _, content))| (path, mode, content)).collect()
    };
    assert_eq!(without_time(machine.traces()), without_time(before));
}

#[test]
fn what_is_partly_gone_is_uninstalled_all_the_same() {
    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    fs::remove_file(machine.kept("qemu")).unwrap();
    fs::remove_file(machine.hooks("network")).unwrap();
    fs::remove_file(machine.hooks("libxl")).unwrap();
    fs::remove_file(machine.kept("lib.sh")).unwrap();
    assert_eq!(machine.run(&["status"]).0, 1);
    let (status, said) = machine.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    let note = "note: ROOT/etc/libvirt/hookvisor/qemu is gone, so ROOT/etc/libvirt/hooks/qemu cannot be restored\n";
    assert!(said.contains(note) && said.contains("note: ROOT/etc/libvirt/hooks/libxl was already gone\n"), "{said}");
    assert!(!machine.hooks("qemu").exists() && machine.hooks("network").exists() && machine.hooks("lib.sh").exists());
    assert!(!machine.kept("").exists() && !machine.kept_d("").exists());
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
    machine.run(&["install", "--program", "/usr/local/bin/hookvisor"]);
    machine.run(&["install", "--program", "/etc/alternatives/hookvisor"]);
    assert!(
        fs::read_to_string(machine.hooks("qemu")).unwrap().contains("exec '/etc/alternatives/hookvisor' libvirt-hook")
    );
    machine.run(&["uninstall"]);
    assert_eq!(machine.traces(), before);
}

/// A missing program vetoes a start, but must not destroy a running guest.
#[test]
fn a_program_that_is_gone_vetoes() {
    let machine = Machine::with_hooks();
    let program = machine.program("usr/bin/hookvisor");
    machine.run(&["install", "--program", program.to_str().unwrap()]);
    let call = |operation| command(machine.hooks("qemu")).args(["web1", operation, "begin", "-"]).output().unwrap();
    assert_eq!(call("start").status.code(), Some(0), "/bin/true stands for it");
    fs::remove_file(&program).unwrap();
    let called = call("start");
    assert_eq!(called.status.code(), Some(126));
    let said = String::from_utf8_lossy(&called.stderr).replace(&machine.0.path().display().to_string(), "ROOT");
    assert_eq!(
        said,
        "hookvisor is missing: no program ROOT/usr/bin/hookvisor. Install it again, or remove ROOT/etc/libvirt/hooks/qemu to \
         start guests without hooks\n"
    );
    assert_eq!(call("reconnect").status.code(), Some(0));
}

/// Problems on the way from libvirt to hookvisor are reported before they veto a start.
#[test]
fn status_looks_at_the_program_and_the_configuration() {
    let machine = Machine::new();
    let program = machine.program("usr/bin/hookvisor");
    machine.run(&["install", "--program", "/usr/bin/hookvisor"]);
    assert_eq!(machine.run(&["status"]).0, 0);
    let problem = || {
        let (status, said) = machine.run(&["status"]);
        let problems: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("PROBLEM  ")).collect();
        assert_eq!((status, problems.len()), (1, 1), "{said}");
        problems[0].to_owned()
    };
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(
            problem(),
            "libvirt runs /usr/bin/hookvisor as root, but it is writable by others (mode 0777): run `chmod o-w \
             ROOT/usr/bin/hookvisor`"
        );
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(problem().contains("/usr/bin/hookvisor as root, but it is not executable: run `chmod +x "));
    fs::remove_file(&program).unwrap();
    assert!(problem().starts_with("every start is vetoed, since /usr/bin/hookvisor is missing: "));
    machine.program("usr/bin/hookvisor");
    fs::write(machine.ours("../hookvisor.toml"), "hook = 'x'\n").unwrap();
    assert!(problem().starts_with("every start is vetoed: the configuration ROOT/etc/hookvisor/"));
}

/// A driver's hook that links to another's would lead to hookvisor, and from there back to the link.
#[test]
fn a_link_to_another_drivers_hook_leads_to_the_script() {
    let machine = Machine::new();
    machine.file("qemu", "#!/bin/sh\necho \"as ${0##*/}\" >&2\nexit 9\n", 0o755);
    symlink("qemu", machine.hooks("network")).unwrap();
    symlink("network", machine.hooks("lxc")).unwrap();
    symlink("../qemu", machine.hooks("qemu.d/10-again")).unwrap();
    let before = machine.traces();
    let own = ["qemu", "network", "lxc"].map(|driver| machine.call(driver));
    assert_eq!(own, ["qemu", "network", "lxc"].map(|driver| (9, driver.to_owned())));
    for arguments in [["install", "--all"], ["install", "--only-scripts"]] {
        let (status, said) = machine.run(&arguments);
        assert_eq!(status, 0, "{said}");
        assert_eq!(["network", "lxc"].map(|driver| machine.call(driver)), [own[1].clone(), own[2].clone()]);
        assert_eq!(machine.run(&["uninstall"]).0, 0);
        assert_eq!(machine.traces(), before);
    }
}

/// Files that a hook leaves next to itself end up where they would have been without the install.
#[test]
fn what_a_hook_writes_beside_itself_is_there_after_the_uninstall() {
    let machine = Machine::new();
    machine.file("qemu", "#!/bin/sh\necho \"$2\" >> \"${0%/*}/qemu.log\"\nexit 0\n", 0o755);
    machine.run(&["install"]);
    assert_eq!(machine.call("qemu").0, 0);
    let (status, said) = machine.run(&["uninstall"]);
    assert_eq!(status, 0, "{said}");
    assert_eq!(fs::read_to_string(machine.hooks("qemu.log")).unwrap(), "start\n");
}

#[test]
fn files_that_come_later_are_told_and_linked_by_the_next_install() {
    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    machine.file("new.sh", "later=1\n", 0o644);
    machine.file("qemu.d/20-new", "#!/bin/sh\nexit 0\n", 0o755);
    let (status, said) = machine.run(&["status"]);
    assert_eq!(status, 1);
    assert!(said.contains("PROBLEM  ROOT/etc/libvirt/hooks/new.sh is newer than the install"), "{said}");
    assert!(said.contains("note     libvirt runs 1 hook in ROOT/etc/libvirt/hooks/qemu.d itself"), "{said}");
    let (status, said) = machine.run(&["install"]);
    assert_eq!(status, 0, "{said}");
    assert!(machine.kept("new.sh").exists() && machine.kept_d("qemu.d/20-new").exists());
    assert_eq!(machine.run(&["status"]).0, 0);
}

/// libvirt runs the hook, and hookvisor would not, so it is not taken over without `--all`.
#[test]
fn a_directory_whose_results_would_change_stays_libvirts() {
    let machine = Machine::with_hooks();
    machine.file("qemu.d/20-x.bak", "#!/bin/sh\nexit 0\n", 0o755);
    let (status, said) = machine.run(&["install"]);
    assert_eq!(status, 0, "{said}");
    let note = "note: libvirt keeps running the 2 hooks in ROOT/etc/libvirt/hooks/qemu.d itself, without a timeout: libvirt \
                runs ROOT/etc/libvirt/hooks/qemu.d/20-x.bak, but hookvisor ignores files with such names; --all takes \
                them over\n";
    assert!(said.contains(note), "{said}");
    assert!(machine.hooks("qemu.d/10-libvirts").exists());
    machine.run(&["install", "--all"]);
    assert!(!machine.hooks("qemu.d/10-libvirts").exists() && machine.kept_d("qemu.d/20-x.bak").exists());
}

#[test]
fn hooks_that_nobody_calls_are_named() {
    let machine = Machine::with_hooks();
    let (_, said) = machine.run(&["install"]);
    assert!(
        said.contains("note: nobody calls ROOT/etc/libvirt/hooks/qemu.d/win10/prepare/begin/bind_vfio.sh: "),
        "{said}"
    );
}

#[test]
fn results_can_be_read_by_a_program() {
    let machine = Machine::with_hooks();
    let json = |arguments: &[&str]| -> serde_json::Value {
        let (_, said) = machine.run(&[arguments, &["--format", "json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };
    let fields = |arguments: &[&str]| {
        let result = json(arguments);
        (result["changed"].clone(), result["would_change"].clone(), result["steps"].as_array().unwrap().is_empty())
    };
    assert_eq!(fields(&["install", "--dry-run"]), (false.into(), true.into(), false));
    assert_eq!(json(&["status"])["in_order"], false);
    assert_eq!(fields(&["install"]), (true.into(), true.into(), false));
    assert_eq!(fields(&["install"]), (false.into(), false.into(), true));
    let status = json(&["status"]);
    assert_eq!((&status["in_order"], &status["drivers"][1]["driver"]), (&true.into(), &"qemu".into()), "{status}");
    assert_eq!(status["drivers"][1]["runs_first"][0], "ROOT/etc/libvirt/hookvisor/qemu");
    assert_eq!(fields(&["uninstall"]), (true.into(), true.into(), false));
    assert_eq!(fields(&["uninstall"]), (false.into(), false.into(), true));
}

/// libvirt's drivers are separate modules. One that is not installed on this host is not reported as missing.
#[test]
fn status_counts_the_drivers_of_the_host() {
    let machine = Machine::new();
    machine.program("usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so");
    assert_eq!(machine.run(&["install", "daemon", "qemu"]).0, 0);
    let (status, said) = machine.run(&["status"]);
    assert_eq!((status, said.lines().count()), (0, 2), "{said}");
    machine.program("usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_network.so");
    assert_eq!(machine.run(&["status"]).0, 1);
}

#[test]
fn advice_is_for_what_is_there_and_never_names_the_root() {
    let machine = Machine::new();
    let advice = |machine: &Machine, program: &str| {
        let (status, said) = machine.run(&["install", "--format", "json", "--dry-run", "--program", program]);
        assert_eq!(status, 0, "{said}");
        let result: serde_json::Value = serde_json::from_str(&said).unwrap();
        result["advice"]
            .as_array()
            .unwrap()
            .iter()
            .map(|advice| advice.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(advice(&machine, "/opt/bin/hookvisor").len(), 1, "neither SELinux nor AppArmor is there");
    for (file, text) in
        [("etc/selinux/config", "SELINUX=enforcing\n"), ("etc/apparmor.d/usr.sbin.libvirtd", "profile\n")]
    {
        let path = machine.0.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let said = advice(&machine, "/opt/bin/hookvisor");
    assert!(said[1].contains("\n  semanage fcontext -a -t virt_hook_t '/etc/libvirt/hookvisor(/.*)?'\n"), "{said:?}");
    assert!(said[2].contains("\n  /opt/bin/hookvisor PUx,\n"), "{said:?}");
    assert!(!said.concat().contains("ROOT"), "{said:?}");
    assert_eq!(advice(&machine, "/usr/bin/hookvisor").len(), 2, "AppArmor lets libvirtd run it");
}

/// hookvisor's own directory may be on another file system than libvirt's.
#[test]
fn install_copies_across_file_systems() {
    if !needs_root("an install across file systems") {
        return;
    }
    let machine = Machine::with_hooks();
    let before = machine.traces();
    let script = format!(
        "set -e; mount --make-rprivate /; cd {}; mkdir -p etc/libvirt/hookvisor; \
         mount -t tmpfs none etc/libvirt/hookvisor; chmod 755 etc/libvirt/hookvisor; \
         {program} libvirt install --root . --program {program} qemu network; \
         ! $PWD/etc/libvirt/hooks/network web1 start begin - 2>said; grep -q beside said; rm said; \
         {program} libvirt uninstall --root .; umount etc/libvirt/hookvisor; rmdir etc/libvirt/hookvisor",
        machine.0.path().display(),
        program = env!("CARGO_BIN_EXE_hookvisor"),
    );
    let ran = command("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(machine.traces(), before);
}

#[test]
fn hooks_that_libvirt_no_longer_gets_to_are_named() {
    let machine = Machine::with_hooks();
    machine.run(&["install"]);
    fs::create_dir_all(machine.ours("qemu.d")).unwrap();
    fs::write(machine.ours("qemu.d/20-own"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(machine.ours("qemu.d/20-own"), fs::Permissions::from_mode(0o755)).unwrap();
    let (_, said) = machine.run(&["uninstall"]);
    assert!(said.contains("note: no longer run for qemu: ROOT/etc/hookvisor/hooks/qemu.d/20-own\n"), "{said}");
}
