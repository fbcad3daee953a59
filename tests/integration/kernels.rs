//! Hooks on older kernels: runs this test program in a virtual machine with a Debian kernel (`scripts/test-kernel`).

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::confined::NO_LANDLOCK;
use crate::support::alone::EMULATED;
use crate::support::guests::native_probe;
use crate::support::skip;

/// The filters of the tests that run there. [`PROGRAMS`] must list the programs that they start. WebAssembly hooks are
/// excluded: compiling one takes minutes there.
const TESTS: &[&str] = &[
    "native::",
    "guard::",
    "faults::children::",
    "faults::stopped::",
    "kernels::the_machine_runs",
    "confined::a_shell_is_held",
    "confined::udp::a_shell_sends",
    "confined::files_are_reached_as_granted",
    "confined::settings::grants_may_be",
    "confined::without_user_notification",
];
/// The tests that a kernel without Landlock runs.
const WITHOUT_LANDLOCK: &[&str] = &["kernels::the_machine_runs", "confined::without_landlock"];
/// The excluded tests: they need a compiler for guests, hundreds of hooks, a fast search through /proc, or a shell that
/// starts within 300 ms.
const NOT_THERE: &[&str] = &[
    "backend::native",
    "guard::a_command_of_a_sandboxed_hook",
    "guard::a_guardian_that_has_ended",
    "guard::hooks_of_many_threads",
    "guard::without_a_guardian",
    "native::a_background_process_that_keeps_stderr",
    "native::a_group_keeps_its_grace",
    "native::many_threads",
    "native::times_beyond",
];
/// The host's programs that the tests' hooks use.
const PROGRAMS: &[&str] = &["sh", "bash", "cat", "env", "grep", "head", "ls", "mkdir", "rm", "setsid", "sleep", "yes"];
/// The machine is emulated. It needs seconds to start, and each test takes many times longer.
const PATIENCE_SECONDS: u32 = 900;

#[test]
fn linux_6_1() {
    run_on("6.1", TESTS, Landlock::On);
}

#[test]
fn linux_6_1_without_landlock() {
    run_on("6.1", WITHOUT_LANDLOCK, Landlock::Off);
}

#[test]
fn linux_6_12() {
    run_on("6.12", TESTS, Landlock::On);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Landlock {
    On,
    Off,
}

/// Set inside the machine to its expected release.
const RELEASE: &str = "HOOKVISOR_TEST_RELEASE";

/// Runs only inside the machine.
#[test]
fn the_machine_runs_the_requested_kernel() {
    if let Ok(release) = std::env::var(RELEASE) {
        let running = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert!(running.starts_with(&format!("{release}.")), "{running}");
    }
}

fn run_on(release: &str, tests: &[&str], landlock: Landlock) {
    if std::env::var_os("HOOKVISOR_SLOW_TESTS").is_none() {
        return skip(&format!("Linux {release}"), "HOOKVISOR_SLOW_TESTS=1 is not set");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/test-kernel");
    let fetched = Command::new(&script).args(["fetch", release]).output().unwrap();
    if !fetched.status.success() {
        return skip(&format!("Linux {release}"), String::from_utf8_lossy(&fetched.stderr).trim_end());
    }
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return skip(&format!("Linux {release}"), "qemu-system-x86_64 is missing: scripts/install-test-tools libvirt");
    }
    let root = root(release, tests, landlock);
    let shown = format!("console-of-linux-{release}-landlock-{landlock:?}").to_lowercase();
    let shown = Path::new(env!("CARGO_TARGET_TMPDIR")).join(shown);
    let mut machine = Command::new(&script);
    machine.args(["run", release]).arg(root.path()).arg(PATIENCE_SECONDS.to_string());
    if landlock == Landlock::Off {
        machine.arg("lsm=capability");
    }
    let ran = machine.stdout(File::create(&shown).unwrap()).output().unwrap();
    let console = String::from_utf8_lossy(&fs::read(&shown).unwrap()).into_owned();
    // A hook or test cannot crash a kernel, but an old emulator may fail.
    if console.contains("Kernel panic") {
        return skip(&format!("Linux {release}"), "this emulator does not run that kernel");
    }
    let last: Vec<&str> = console.lines().rev().take(60).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    assert!(
        console.contains("tests ended with 0\r\n"),
        "Linux {release}, all of it in {}:\n{}\n{}",
        shown.display(),
        last.join("\n"),
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// A root directory with this program, what its tests use, and an `init` that runs them and switches the machine off.
fn root(release: &str, tests: &[&str], landlock: Landlock) -> TempDir {
    let root = TempDir::with_prefix("kernel-").unwrap();
    let at = |path: &Path| root.path().join(path.strip_prefix("/").unwrap());
    for directory in ["/dev", "/proc", "/sys", "/tmp", "/etc", env!("CARGO_TARGET_TMPDIR")] {
        fs::create_dir_all(at(Path::new(directory))).unwrap();
    }
    let test = std::env::current_exe().unwrap();
    let own = [test.as_path(), Path::new(env!("CARGO_BIN_EXE_hookvisor")), native_probe()];
    for program in own.into_iter().map(Path::to_owned).chain(PROGRAMS.iter().map(|name| found(name))) {
        copy(&program, &at(&program));
        for library in libraries(&program) {
            copy(Path::new(&library), &at(Path::new(&library)));
        }
    }
    for program in PROGRAMS {
        let link = at(&Path::new("/bin").join(program));
        if !link.exists() {
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(found(program), link).unwrap();
        }
    }
    let busybox = concat!(env!("CARGO_MANIFEST_DIR"), "/target/kernels/busybox/bin/busybox");
    copy(Path::new(busybox), &at(Path::new("/bin/busybox")));
    fs::write(at(Path::new("/etc/passwd")), "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
        .unwrap();
    let skips: String = NOT_THERE.iter().map(|test| format!(" --skip {test}")).collect();
    let without = if landlock == Landlock::Off { format!(" {NO_LANDLOCK}=1") } else { String::new() };
    let init = format!(
        "#!/bin/busybox sh\n\
         /bin/busybox chown -R 0:0 /\n\
         /bin/busybox mount -t proc proc /proc\n\
         /bin/busybox mount -t sysfs sysfs /sys\n\
         /bin/busybox mount -t devtmpfs devtmpfs /dev\n\
         /bin/busybox chmod 1777 /tmp\n\
         /bin/busybox ifconfig lo 127.0.0.1 up\n\
         export PATH=/usr/bin:/bin {RELEASE}={release} {EMULATED}=1{without}\n\
         {} --test-threads=2 {}{skips} 2>&1\n\
         echo \"tests ended with $?\"\n\
         /bin/busybox poweroff -f\n",
        test.display(),
        tests.join(" "),
    );
    let path = at(Path::new("/init"));
    fs::write(&path, init).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    root
}

/// The path of a program on the host, by its installed name.
fn found(name: &str) -> std::path::PathBuf {
    let path =
        ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(name)).into_iter().find(|path| path.exists());
    fs::canonicalize(path.unwrap_or_else(|| panic!("{name} is missing"))).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    // Without debug information, since the machine keeps the whole file in memory.
    let stripped = Command::new("strip").arg("--strip-debug").arg(from).arg("-o").arg(to).output();
    if !stripped.is_ok_and(|strip| strip.status.success()) {
        fs::copy(from, to).unwrap();
    }
}

/// The shared libraries of a program, and its loader.
fn libraries(program: &Path) -> Vec<String> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let words = String::from_utf8(listed.stdout).unwrap();
    words.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}
