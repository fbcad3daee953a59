//! A libvirtd for one test, in a machine that shares only programs with the real one.
//!
//! libvirt's hooks directory is compiled in. So each world is a set of namespaces (users, processes, mounts, network)
//! with its own /etc, /run and libvirt. It cannot affect the machine, and ends with its first process, which ends with
//! the test.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

use super::{skip, wait_until};

/// What a world needs from the machine.
const PROGRAMS: [&str; 6] = ["libvirtd", "virsh", "qemu-system-x86_64", "unshare", "nsenter", "ip"];
/// The initial content of its /etc, if the machine has it.
const ETC: [&str; 9] =
    ["passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "alternatives", "hosts", "services", "protocols"];
/// Its own directories, and their paths in the test's directory.
const OWN: [(&str, &str); 6] = [
    ("etc", "/etc"),
    ("run", "/run"),
    ("lib", "/var/lib"),
    ("logs", "/var/log"),
    ("log", "/var/log/libvirt"),
    ("cache", "/var/cache"),
];
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The world's recording hook, which writes each event: `<operation> <sub-operation>`.
const RECORDER: &str = "echo \"$2 $3\" >> /var/log/libvirt/calls";

/// A machine with libvirt on it.
pub(crate) struct World {
    directory: TempDir,
    init: Child,
    /// The first process of the namespaces, with its number on this machine.
    first: u32,
    libvirtd: Option<Child>,
}

impl World {
    /// A world without a running libvirtd; `None`, with the reason on standard error, if it is impossible here.
    pub(crate) fn new() -> Option<Self> {
        Self::of(Path::new("/"))
    }

    /// A world with the programs of another root.
    pub(crate) fn of(programs: &Path) -> Option<Self> {
        Self::with_programs(programs, None)
    }

    /// A world with hookvisor's package, unpacked in this directory.
    pub(crate) fn with_package(unpacked: &Path) -> Option<Self> {
        Self::with_programs(Path::new("/"), Some(unpacked))
    }

    fn with_programs(programs: &Path, package: Option<&Path>) -> Option<Self> {
        if let Some(reason) = why_not(programs) {
            skip("a test against a real libvirtd", &reason);
            return None;
        }
        let directory = TempDir::with_prefix("world-").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        for (own, _) in OWN {
            fs::create_dir(directory.path().join(own)).unwrap();
        }
        fs::create_dir(directory.path().join("logs/libvirt")).unwrap();
        let etc = directory.path().join("etc");
        for file in ETC.map(|name| programs.join("etc").join(name)).iter().filter(|file| file.exists()) {
            assert!(Command::new("cp").arg("-r").arg(file).arg(&etc).status().unwrap().success());
        }
        let (init, first) = begin(directory.path(), programs, package);
        let world = Self { directory, init, first, libvirtd: None };
        // libvirt does not migrate a guest to a host with the same UUID.
        let host = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
        let settings = format!("listen_tls = 0\nauth_unix_rw = \"none\"\nhost_uuid = \"{}\"\n", host.trim());
        world.file("etc/libvirt/libvirtd.conf", settings, 0o644);
        let qemu = "user = \"root\"\ngroup = \"root\"\nsecurity_driver = \"none\"\nstdio_handler = \"file\"\n\
                    cgroup_controllers = [ ]\nnamespaces = [ ]\nremember_owner = 0\n";
        world.file("etc/libvirt/qemu.conf", qemu, 0o644);
        fs::create_dir(world.path("etc/libvirt/hooks")).unwrap();
        Some(world)
    }

    /// A world with hookvisor, a recording hook, and a running libvirtd.
    pub(crate) fn with_hookvisor() -> Option<Self> {
        Self::with_hookvisor_of(Path::new("/"))
    }

    /// The same with the programs of another root.
    pub(crate) fn with_hookvisor_of(programs: &Path) -> Option<Self> {
        let mut world = Self::of(programs)?;
        world.hookvisor(["libvirt", "install"]);
        world.hook("qemu.d/00-calls", RECORDER);
        world.start_libvirtd();
        Some(world)
    }

    /// The path of a file of the world: `etc/…`, `run/…`, or `log/…` for libvirt's log directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A shell hook for hookvisor.
    pub(crate) fn hook(&self, name: &str, body: &str) -> PathBuf {
        self.file(&format!("etc/hookvisor/hooks/{name}"), script(body), 0o755)
    }

    /// A copy of an executable file as a hook for hookvisor.
    pub(crate) fn copy(&self, name: &str, of: &Path) -> PathBuf {
        self.file(&format!("etc/hookvisor/hooks/{name}"), fs::read(of).unwrap(), 0o755)
    }

    /// The settings of a hook.
    pub(crate) fn settings(&self, name: &str, text: &str) {
        self.file(&format!("etc/hookvisor/hooks/{name}.toml"), text, 0o644);
    }

    /// Removes a hook and its settings.
    pub(crate) fn remove(&self, name: &str) {
        let hook = self.path("etc/hookvisor/hooks").join(name);
        fs::remove_file(&hook).unwrap();
        let _ = fs::remove_file(hook.with_file_name(format!("{}.toml", hook.file_name().unwrap().display())));
    }

    /// The recorded events since the last call.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("log/calls")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log/calls"));
        calls.lines().map(str::to_owned).collect()
    }

    /// Runs a program in the world.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.command(program).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--user",
            "--net",
            "--mount",
            "--pid",
            "--uts",
            "--target",
            &self.first.to_string(),
            "--",
            program,
        ]);
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C").current_dir("/");
        command
    }

    /// Runs hookvisor in the world, and returns its output.
    pub(crate) fn hookvisor<const N: usize>(&self, arguments: [&str; N]) -> String {
        let ran = self.run(env!("CARGO_BIN_EXE_hookvisor"), &arguments);
        assert!(ran.status.success(), "hookvisor {arguments:?}: {}", text(&ran.stderr));
        text(&ran.stdout)
    }

    /// Starts libvirtd, and waits until it answers.
    pub(crate) fn start_libvirtd(&mut self) {
        let log = fs::File::create(self.path("log/libvirtd.log")).unwrap();
        let libvirtd = self.command("libvirtd").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.libvirtd = Some(libvirtd);
        let socket = self.path("run/libvirt/libvirt-sock");
        wait_until("libvirtd listens", || UnixStream::connect(&socket).is_ok());
        self.virsh(&["list"]);
    }

    /// Makes libvirtd read its configuration and look for hooks again.
    pub(crate) fn reload_libvirtd(&self) {
        self.signal_libvirtd("-HUP");
    }

    fn signal_libvirtd(&self, signal: &str) {
        let pid = fs::read_to_string(self.path("run/libvirtd.pid")).unwrap();
        assert!(self.run("kill", &[signal, pid.trim()]).status.success());
    }

    /// Restarts libvirtd, as a package update does.
    pub(crate) fn restart_libvirtd(&mut self) {
        self.signal_libvirtd("-TERM");
        let mut libvirtd = self.libvirtd.take().unwrap();
        libvirtd.wait().unwrap();
        self.start_libvirtd();
    }

    /// libvirtd's log.
    pub(crate) fn libvirtd_log(&self) -> String {
        fs::read_to_string(self.path("log/libvirtd.log")).unwrap()
    }

    /// Runs virsh, which must succeed.
    pub(crate) fn virsh(&self, arguments: &[&str]) -> String {
        let done = self.try_virsh(arguments);
        assert!(done.is_ok(), "virsh {arguments:?}: {done:?}\nlibvirtd: {}", self.libvirtd_log());
        done.unwrap()
    }

    /// Runs virsh. The error is its output.
    pub(crate) fn try_virsh(&self, arguments: &[&str]) -> Result<String, String> {
        self.virsh_at("qemu:///system", arguments)
    }

    /// The same for another driver than qemu.
    pub(crate) fn virsh_at(&self, uri: &str, arguments: &[&str]) -> Result<String, String> {
        let ran = self.run("virsh", &[&["--quiet", "--connect", uri], arguments].concat());
        if ran.status.success() { Ok(text(&ran.stdout)) } else { Err(text(&ran.stderr)) }
    }

    /// Creates a guest, and destroys it if it started.
    pub(crate) fn try_guest(&self, name: &str) -> Result<(), String> {
        self.create(name)?;
        self.virsh(&["destroy", name]);
        Ok(())
    }

    /// Creates a guest.
    pub(crate) fn create(&self, name: &str) -> Result<(), String> {
        let xml = self.file(&format!("etc/{name}.xml"), guest(name), 0o644);
        let created = self.try_virsh(&["create", &format!("/etc/{}", xml.file_name().unwrap().display())]);
        created.map(drop)
    }

    /// The running guests.
    pub(crate) fn guests(&self) -> Vec<String> {
        self.virsh(&["list", "--name"]).split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // The end of its standard input ends it, and with it every process of its namespace.
        drop(self.init.stdin.take());
        let _ = self.init.wait();
        if let Some(mut libvirtd) = self.libvirtd.take() {
            let _ = libvirtd.wait();
        }
    }
}

/// A guest with only a processor and 32 MiB. It runs without KVM.
pub(crate) fn guest(name: &str) -> String {
    format!(
        "<domain type='qemu'><name>{name}</name><title>before</title><memory unit='MiB'>32</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"
    )
}

pub(crate) fn script(body: &str) -> String {
    format!("#!/bin/sh\n{body}\n")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn why_not(programs: &Path) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let is_there = |directory: &str, name: &str| programs.join(directory.trim_start_matches('/')).join(name).exists();
    let missing = |name: &&&str| !PATH.split(':').any(|directory| is_there(directory, name));
    if let Some(missing) = PROGRAMS.iter().find(missing) {
        return Some(format!("{missing} is not installed (scripts/install-test-tools installs it on Debian)"));
    }
    let tried = Command::new("unshare")
        .args(["--user", "--net", "--mount", "--pid", "--uts", "--fork", "true"])
        .output()
        .unwrap();
    (!tried.status.success()).then(|| format!("there are no namespaces here: {}", text(&tried.stderr).trim_end()))
}

/// Starts the world's first process after the mounts. The number is this machine's.
fn begin(directory: &Path, programs: &Path, package: Option<&Path>) -> (Child, u32) {
    let mut script = "set -e; read -r _mapped; mount --make-rprivate /; ip link set lo up; ".to_owned();
    // Nor to one with the same name.
    let _ = write!(script, "echo '{}' > /proc/sys/kernel/hostname; ", directory.file_name().unwrap().display());
    for (own, place) in OWN {
        let _ = write!(script, "mount --bind '{}' {place}; ", directory.join(own).display());
    }
    if programs != Path::new("/") {
        // All programs and libraries of Debian are below /usr.
        let _ = write!(script, "mount --rbind '{}' /usr; ", programs.join("usr").display());
    }
    if let Some(package) = package {
        let _ = write!(script, "mount -t overlay -o lowerdir='{}:/usr' overlay /usr; ", package.join("usr").display());
    }
    // The shell stays to reap orphans: libvirt waits for a guest until its process number is free.
    script += "echo ready; cat; exit";
    let unshare = "exec unshare --user --net --mount --pid --uts --fork --mount-proc --kill-child sh -c \"$0\"";
    // util-linux needs a set-uid helper to map all users, so the map is written here, and the script waits for it.
    let mut init =
        Command::new("sh").args(["-c", unshare, &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let id = init.id();
    wait_until("the namespaces are there", || {
        let user = |id: &str| fs::read_link(format!("/proc/{id}/ns/user")).ok();
        user(&id.to_string()).is_some_and(|theirs| Some(theirs) != user("self"))
    });
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{id}/{map}"), "0 0 65536").unwrap();
    }
    init.stdin.as_mut().unwrap().write_all(b"mapped\n").unwrap();
    let mut ready = String::new();
    BufReader::new(init.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "the world's mounts could not be made");
    let first = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    (init, first.trim().parse().unwrap())
}
