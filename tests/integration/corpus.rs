//! Public layouts of libvirt hooks run unchanged, three ways: see `tests/corpus/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{needs_root, skip};

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
/// The events of a guest's life, for a layout that brings no events.
const EVENTS: &str = "qemu win10 prepare begin -\nqemu win10 start begin -\nqemu win10 started begin -\n\
                      qemu win10 stopped end -\nqemu win10 release end -\nqemu win10 reconnect begin -\n\
                      qemu web1 prepare begin -\nqemu web1 release end -\n";
const DOCUMENT: &str = "<domain type='kvm'><name>win10</name><devices><disk type='block'><source dev='/dev/vg/root'/>\
                        </disk><disk type='block'><source dev='/dev/vg/data'/></disk></devices></domain>";
/// Host programs whose calls are recorded.
const STUBS: [&str; 15] = [
    "bridge",
    "cpupower",
    "ddcutil",
    "ip",
    "iptables",
    "logger",
    "lvchange",
    "modprobe",
    "nft",
    "sysctl",
    "systemctl",
    "virsh",
    "ebtables",
    "cset",
    "mount",
];
/// The machine's directories that a root gets.
const OF_THE_MACHINE: [&str; 8] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "proc", "dev"];

macro_rules! layouts {
    ($($test:ident: $layout:literal,)*) => {
        $(#[test]
        fn $test() {
            check($layout);
        })*

        /// A layout without a test would go unnoticed.
        #[test]
        fn every_layout_of_the_corpus_works() {
            let mut found: Vec<String> = fs::read_dir(CORPUS).unwrap().map(|entry| entry.unwrap())
                .filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect();
            found.sort();
            let mut driven = vec![$($layout),*];
            driven.sort();
            assert_eq!(found, driven);
        }
    };
}

layouts! {
    controller: "controller",
    dot_d: "dot-d",
    held_lock: "held-lock",
    lvm_lock: "lvm-lock",
    makefile_set: "makefile-set",
    mixed: "mixed",
    network_hooks: "network-hooks",
    nushell: "nushell",
    opt_links: "opt-links",
    own_name: "own-name",
    perl_findbin: "perl-findbin",
    python_neighbour: "python-neighbour",
    setsid_child: "setsid-child",
    single_gpu: "single-gpu",
    tracing: "tracing",
    vfio_helper: "vfio-helper",
}

/// A root that contains a layout.
struct Root(TempDir);

/// The results of driving a layout.
struct Driven {
    calls: String,
    statuses: String,
    /// By event.
    stderr: Vec<String>,
    json: Vec<Value>,
    files: BTreeMap<PathBuf, (u32, String)>,
}

impl Root {
    fn new(layout: &str) -> Self {
        let root = Self(TempDir::with_prefix("corpus-").unwrap());
        fs::set_permissions(root.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let source = Path::new(CORPUS).join(layout);
        run(Command::new("cp").args(["-a", "--no-target-directory"]).arg(&source).arg(root.path("")));
        // A checkout with another umask or user would differ here.
        run(Command::new("chmod").args(["-R", "u+rw,go-w"]).arg(root.path("")));
        run(Command::new("chown").args(["-R", "-h", "0:0"]).arg(root.path("")));
        for directory in ["out", "run", "tmp", "stubs", "var/log/libvirt", "etc/hookvisor"] {
            fs::create_dir_all(root.path(directory)).unwrap();
        }
        fs::remove_dir(root.path("etc/hookvisor")).unwrap();
        for name in STUBS {
            fs::copy(Path::new(CORPUS).join("stub"), root.path("stubs").join(name)).unwrap();
        }
        fs::copy(Path::new(CORPUS).join("nu"), root.path("stubs/nu")).unwrap();
        for script in ["drive", "libvirt-call"] {
            fs::copy(Path::new(CORPUS).join(script), root.path(script)).unwrap();
        }
        fs::write(root.path("document"), DOCUMENT).unwrap();
        if !root.path("events").exists() {
            fs::write(root.path("events"), EVENTS).unwrap();
        }
        for name in OF_THE_MACHINE {
            let machine = Path::new("/").join(name);
            match fs::read_link(&machine) {
                Ok(target) => symlink(target, root.path(name)).unwrap(),
                Err(_) if machine.is_dir() => fs::create_dir(root.path(name)).unwrap(),
                Err(_) => {}
            }
        }
        fs::write(root.path("hookvisor"), "").unwrap();
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a script inside the root, which has the machine's programs and this build of hookvisor.
    fn inside(&self, script: &str) -> Result<(), String> {
        let mut mounts = "set -e; mount --make-rprivate /; cd \"$1\"; ".to_owned();
        for name in OF_THE_MACHINE.iter().filter(|name| !Path::new("/").join(name).is_symlink()) {
            if Path::new("/").join(name).is_dir() {
                mounts += &format!("mount --rbind /{name} {name}; ");
            }
        }
        // libvirtd finds the programs too.
        mounts += "mount --bind stubs usr/local/sbin; ";
        mounts += &format!("mount --bind '{}' hookvisor; ", env!("CARGO_BIN_EXE_hookvisor"));
        mounts += &format!("exec chroot . sh -c '{script}'");
        let ran = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", &mounts, "sh"])
            .arg(self.0.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
        if ran.status.success() { Ok(()) } else { Err(said) }
    }

    fn drive(&self, way: &str) -> Driven {
        let driven = self.inside(&format!("/drive {way}"));
        let text = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        assert!(driven.is_ok(), "{way}: {driven:?}\n{}{}", text("out/install"), text("out/uninstall"));
        let mut outputs: Vec<PathBuf> = fs::read_dir(self.path("out")).unwrap().map(|e| e.unwrap().path()).collect();
        outputs.sort();
        let read = |ending: &str| -> Vec<String> {
            let has_ending = |path: &&PathBuf| path.extension().is_some_and(|e| e == ending);
            outputs.iter().filter(has_ending).map(|path| fs::read_to_string(path).unwrap()).collect()
        };
        Driven {
            calls: text("calls"),
            statuses: text("out/statuses"),
            stderr: read("stderr"),
            json: read("json").iter().map(|json| serde_json::from_str(json).unwrap()).collect(),
            files: self.files(),
        }
    }

    /// Every file that hooks may have changed, with its mode and its content or target.
    fn files(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut files = BTreeMap::new();
        let mut directories: Vec<PathBuf> = ["etc", "opt", "run", "srv", "tmp", "var"].map(|n| self.path(n)).to_vec();
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(&directory).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                // The record of events belongs to hookvisor. A `tee` that starts late misses its reader.
                if path.ends_with("var/log/hookvisor") || path.ends_with("trace.log") {
                    continue;
                }
                let found = path.symlink_metadata().unwrap();
                let content = if found.is_dir() {
                    directories.push(path.clone());
                    String::new()
                } else if found.is_symlink() {
                    fs::read_link(&path).unwrap().display().to_string()
                } else {
                    fs::read(&path).unwrap().escape_ascii().to_string()
                };
                files.insert(path.strip_prefix(self.0.path()).unwrap().to_owned(), (found.mode(), content));
            }
        }
        files
    }
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

fn check(layout: &str) {
    if !needs_root(&format!("the layout {layout}")) {
        return;
    }
    if let Err(why) = Root::new(layout).inside("true") {
        return skip(&format!("the layout {layout}"), &format!("no mounts can be made here: {}", why.trim()));
    }
    let libvirt = Root::new(layout).drive("libvirt");
    assert!(libvirt.calls.lines().any(|line| !line.starts_with("==")) || layout == "held-lock", "nothing was called");

    let run = Root::new(layout).drive("run");
    assert_eq!(run.calls, libvirt.calls, "the programs that are called");
    assert_eq!(run.statuses, libvirt.statuses);
    let of_hooks = |report: &Value| -> String {
        report["hooks"].as_array().unwrap().iter().map(|hook| hook["stderr"].as_str().unwrap()).collect()
    };
    for (report, stderr) in run.json.iter().zip(&libvirt.stderr) {
        // hookvisor waits less long than libvirt for a background process that holds stderr.
        let notes = report["hooks"].as_array().unwrap().iter().flat_map(|hook| hook["notes"].as_array().unwrap());
        let is_whole = notes.into_iter().all(|note| note.as_str().unwrap().contains(" bytes to stdout"));
        assert!(!is_whole || of_hooks(report) == *stderr, "{report} {stderr}");
    }
    assert_eq!(run.files, libvirt.files);

    let root = Root::new(layout);
    let before = root.files();
    root.inside("/hookvisor libvirt install --program /hookvisor && /hookvisor libvirt uninstall").unwrap();
    assert_eq!(root.files(), before, "install and uninstall leave a trace");
    let installed = root.drive("installed");
    assert_eq!(installed.calls, libvirt.calls, "the programs that are called once hookvisor is installed");
    assert_eq!(installed.statuses, libvirt.statuses);
    assert_eq!(installed.files, libvirt.files, "after the uninstall");
    for (said, report) in installed.stderr.iter().zip(&run.json) {
        let failed = report["hooks"].as_array().unwrap().iter().filter(|hook| hook["exit_status"] != 0);
        let failed: Vec<&Value> = failed.collect();
        let is_silent = said.lines().all(|line| line.contains(" is skipped: it is not executable"));
        assert_eq!(is_silent, failed.is_empty(), "{said}");
        for hook in failed {
            assert!(said.contains(hook["stderr"].as_str().unwrap().trim_end()), "{said}");
            let name = Path::new(hook["path"].as_str().unwrap()).strip_prefix("/etc/libvirt/hooks").unwrap();
            let is_named = said.contains(&format!("Hook script /etc/libvirt/hookvisor/{}", name.display()))
                || said.contains(&format!("Hook script /etc/libvirt/hookvisor.d/{}", name.display()));
            assert!(is_named, "the script that failed is {}: {said}", name.display());
        }
    }
}
