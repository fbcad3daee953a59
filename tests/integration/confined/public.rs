//! Hooks as people have them (`tests/public-hooks`), unchanged: confined, they have the effects that they have unconfined.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::needs_root;

const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/public-hooks");
/// Programs of a host whose calls are written down.
const STUBS: [&str; 5] = ["iptables", "logger", "modprobe", "systemctl", "virsh"];
const STUB: &str = "#!/bin/sh\necho \"${0##*/} $*\" >>/calls\n[ \"$1\" != is-active ]\n";
/// The directories of the machine that a root has. They come before what is put over them.
const OF_THE_MACHINE: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "proc", "dev"];
const DOCUMENT: &str = "<domain type='kvm'>\n  <name>win10</name>\n  <memory unit='KiB'>2097152</memory>\n</domain>\n";
/// A screen.
const MOST_LINES: usize = 50;

/// A hook, and the files that it finds.
struct Public {
    name: &'static str,
    /// A name that ends with `/` is a directory; a content of `-> x` is a link.
    files: &'static [(&'static str, &'static str)],
    events: &'static [&'static str],
}

/// What its events came to.
#[derive(Debug, PartialEq, Eq)]
struct Effects {
    /// Status and stderr of each event.
    ended: Vec<(i64, String)>,
    calls: String,
    files: BTreeMap<PathBuf, String>,
}

impl Public {
    /// Runs the events in a root of its own. Returns the effects, and the notes of all reports.
    fn run(&self, confined: bool) -> (Effects, Vec<String>) {
        let root = TempDir::with_prefix("public-").unwrap();
        let at = |name: &str| root.path().join(name.trim_start_matches('/'));
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["etc/libvirt/hooks/qemu.d", "out", "stubs", "vm", "var/log/libvirt", "tmp"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        for name in STUBS {
            executable(&at("stubs").join(name), STUB);
        }
        for (name, content) in self.files {
            fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, at(name)).unwrap(),
                None if name.ends_with('/') => fs::create_dir_all(at(name)).unwrap(),
                None => fs::write(at(name), content).unwrap(),
            }
        }
        let hook = at("etc/libvirt/hooks/qemu.d").join(self.name);
        executable(&hook, &self.source(""));
        if confined {
            fs::write(hook.with_extension("toml"), self.settings()).unwrap();
        }
        fs::write(at("document"), DOCUMENT).unwrap();
        fs::write(at("hookvisor"), "").unwrap();
        self.drive(root.path());
        let (mut ended, mut notes) = (Vec::new(), Vec::new());
        for number in 0..self.events.len() {
            let report = fs::read_to_string(at(&format!("out/{number}"))).unwrap();
            let report: Value = serde_json::from_str(&report).unwrap();
            let hook = &report["hooks"][0];
            ended.push((
                report["exit_status"].as_i64().unwrap(),
                hook["stderr"].as_str().unwrap_or_default().to_owned(),
            ));
            notes.extend(hook["notes"].as_array().into_iter().flatten().map(ToString::to_string));
        }
        let mut files = BTreeMap::new();
        for top in ["sys", "vm", "var"] {
            collect(root.path(), &at(top), &mut files);
        }
        (Effects { ended, calls: fs::read_to_string(at("calls")).unwrap_or_default(), files }, notes)
    }

    fn source(&self, ending: &str) -> String {
        fs::read_to_string(Path::new(HOOKS).join(format!("{}{ending}", self.name))).unwrap()
    }

    /// Its settings, with the stand-ins' place for the programs that they stand for.
    fn settings(&self) -> String {
        let settings = self.source(".toml");
        assert!(settings.lines().count() <= MOST_LINES, "{}", self.name);
        STUBS.iter().fold(settings, |settings, stub| {
            let place = format!("\"/usr/local/sbin/{stub}\"");
            settings.replace(&format!("\"/usr/bin/{stub}\""), &place).replace(&format!("\"/usr/sbin/{stub}\""), &place)
        })
    }

    fn drive(&self, root: &Path) {
        // The root is not a mount point, as in a plain chroot. Mounts are shared, so one that leaves the hook's namespace is seen.
        let mut script = "set -e; mount --make-rprivate /; mount --make-rshared /; cd \"$1\"; ".to_owned();
        for name in OF_THE_MACHINE {
            let machine = Path::new("/").join(name);
            match fs::read_link(&machine) {
                Ok(target) => symlink(target, root.join(name)).unwrap(),
                Err(_) if machine.is_dir() => {
                    fs::create_dir(root.join(name)).unwrap();
                    script += &format!("mount --rbind /{name} {name}; ");
                }
                Err(_) => {}
            }
        }
        script += "mount --bind stubs usr/local/sbin; mount --bind vm proc/sys/vm; ";
        script += &format!("mount --bind '{}' hookvisor; ", env!("CARGO_BIN_EXE_hookvisor"));
        script += "exec chroot . sh -c '";
        for (number, event) in self.events.iter().enumerate() {
            let run = "/hookvisor run --hooks /etc/libvirt/hooks --format json";
            script += &format!("{run} qemu {event} </document >/out/{number}; ");
        }
        script += "if grep shim /proc/self/mountinfo; then exit 9; fi'";
        let ran = Command::new("unshare").args(["--mount", "sh", "-c", &script, "sh"]).arg(root).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
    }

    /// The effects, which are the same confined.
    fn effects(&self) -> Option<Effects> {
        if !needs_root(&format!("the public hook {}, confined", self.name)) {
            return None;
        }
        let (unconfined, _) = self.run(false);
        let (confined, notes) = self.run(true);
        assert_eq!(confined, unconfined, "{}: {notes:?}", self.name);
        assert!(notes.is_empty(), "{}: {notes:?}", self.name);
        Some(confined)
    }
}

fn executable(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The files below a directory, by their place in the root.
fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        // hookvisor's own record of events is no effect of a hook.
        if path.is_symlink() || path.ends_with("var/log/hookvisor") {
            continue;
        } else if path.is_dir() {
            collect(root, &path, files);
        } else {
            let content = fs::read_to_string(&path).unwrap();
            files.insert(Path::new("/").join(path.strip_prefix(root).unwrap()), content);
        }
    }
}

impl Effects {
    fn statuses(&self) -> Vec<i64> {
        self.ended.iter().map(|(status, _)| *status).collect()
    }

    fn file(&self, path: &str) -> &str {
        &self.files[Path::new(path)]
    }
}

#[test]
fn huge_pages() {
    let hook = Public {
        name: "hugepages",
        files: &[("vm/nr_hugepages", "0\n"), ("vm/compact_memory", "")],
        events: &["win10 prepare begin", "win10 release end", "win10 prepare begin"],
    };
    let Some(effects) = hook.effects() else { return };
    assert_eq!(effects.statuses(), [0, 0, 0]);
    assert_eq!(effects.file("/vm/nr_hugepages"), "1024\n");
    let log = "win10: Allocating hugepages: 1024\nwin10: Freeing hugepages\nwin10: Allocating hugepages: 1024\n";
    assert_eq!(effects.file("/var/log/libvirt/hooks.log"), log);
}

#[test]
fn a_device_for_vfio() {
    let hook = Public {
        name: "vfio-bind",
        files: &[
            ("sys/devices/pci0000:00/0000:01:00.0/vendor", "0x10de\n"),
            ("sys/devices/pci0000:00/0000:01:00.0/device", "0x1b80\n"),
            ("sys/devices/pci0000:00/0000:01:00.0/driver_override", "(null)\n"),
            ("sys/devices/pci0000:00/0000:01:00.0/driver", "-> /sys/bus/pci/drivers/nvidia"),
            ("sys/devices/pci0000:00/0000:01:00.1/vendor", "0x10de\n"),
            ("sys/devices/pci0000:00/0000:01:00.1/device", "0x10f0\n"),
            ("sys/devices/pci0000:00/0000:01:00.1/driver_override", "(null)\n"),
            ("sys/bus/pci/devices/0000:01:00.0", "-> ../../../devices/pci0000:00/0000:01:00.0"),
            ("sys/bus/pci/devices/0000:01:00.1", "-> ../../../devices/pci0000:00/0000:01:00.1"),
            ("sys/bus/pci/drivers/nvidia/unbind", ""),
            ("sys/bus/pci/drivers/vfio-pci/unbind", ""),
            ("sys/bus/pci/drivers/vfio-pci/new_id", ""),
            ("sys/bus/pci/drivers_probe", ""),
        ],
        events: &["win10 prepare begin", "win10 start begin", "win10 release end"],
    };
    let Some(effects) = hook.effects() else { return };
    assert_eq!(effects.statuses(), [0, 0, 0]);
    assert_eq!(effects.calls, "modprobe vfio-pci\nmodprobe -r vfio-pci\n");
    assert_eq!(effects.file("/sys/bus/pci/drivers/nvidia/unbind"), "0000:01:00.0\n");
    assert_eq!(effects.file("/sys/bus/pci/drivers/vfio-pci/unbind"), "0000:01:00.1\n");
    assert_eq!(effects.file("/sys/bus/pci/drivers/vfio-pci/new_id"), "0x10de 0x10f0\n");
}

#[test]
fn the_governor_of_the_processors() {
    let hook = Public {
        name: "cpu-governor",
        files: &[
            ("etc/default/governor", "saved=powersave\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "schedutil\n"),
            ("sys/devices/system/cpu/online", "0-1\n"),
        ],
        events: &["win10 prepare begin", "win10 release end"],
    };
    let Some(effects) = hook.effects() else { return };
    assert_eq!(effects.statuses(), [0, 0]);
    for cpu in ["cpu0", "cpu1"] {
        let file = format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
        assert_eq!(effects.file(&file), "powersave\n");
    }
}

#[test]
fn the_display_for_a_guest() {
    let hook = Public {
        name: "display-switch",
        files: &[
            ("sys/class/vtconsole/vtcon0/bind", "1\n"),
            ("sys/devices/virtual/vtconsole/vtcon1/bind", "1\n"),
            ("sys/class/vtconsole/vtcon1", "-> ../../devices/virtual/vtconsole/vtcon1"),
            ("sys/bus/platform/drivers/efi-framebuffer/unbind", ""),
        ],
        events: &["win10 prepare begin"],
    };
    let Some(effects) = hook.effects() else { return };
    assert_eq!(effects.statuses(), [0]);
    let calls = "systemctl stop display-manager.service\nsystemctl is-active --quiet display-manager.service\n\
                 modprobe -r nvidia_drm\nmodprobe -r nvidia_modeset\nmodprobe -r nvidia\n\
                 virsh nodedev-detach pci_0000_01_00_0\nlogger -t vfio win10 has the display\n";
    assert_eq!(effects.calls, calls);
    assert_eq!(effects.file("/sys/class/vtconsole/vtcon0/bind"), "0\n");
    assert_eq!(effects.file("/sys/devices/virtual/vtconsole/vtcon1/bind"), "0\n");
    let given_back = Public { events: &["win10 prepare begin", "win10 release end"], ..hook };
    let Some(effects) = given_back.effects() else { return };
    assert_eq!(effects.file("/sys/class/vtconsole/vtcon0/bind"), "1\n");
    assert!(effects.calls.ends_with("modprobe nvidia\nsystemctl start display-manager.service\n"), "{}", effects.calls);
}

#[test]
fn ports_forwarded_to_a_guest() {
    let hook = Public {
        name: "port-forward",
        files: &[(
            "etc/libvirt/hooks/qemu.d/qemu.json",
            "{\"win10\": {\"private_ip\": \"192.168.122.10\", \"port_map\": {\"tcp\": [[3389, 3389], [8080, 80]]}}}",
        )],
        events: &["win10 start begin", "web1 start begin", "win10 stopped end"],
    };
    let Some(effects) = hook.effects() else { return };
    assert_eq!(effects.statuses(), [0, 0, 0]);
    assert_eq!(effects.calls.lines().count(), 8);
    let first = "iptables -t nat -I PREROUTING -p tcp --dport 3389 -j DNAT --to 192.168.122.10:3389\n";
    assert!(effects.calls.starts_with(first), "{}", effects.calls);
}
