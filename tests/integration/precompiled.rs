//! A build without the compiler runs only what a full build has compiled.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use crate::support::Hooks;

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hooks/qemu.d/20-policy.wasm");

/// This program, and a full build of the same version.
struct Builds {
    own: PathBuf,
    full: PathBuf,
}

/// Made once, since the full build replaces this program's file.
static BUILDS: LazyLock<Builds> = LazyLock::new(|| {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let own = temporary.join("without-compiler");
    fs::copy(env!("CARGO_BIN_EXE_hookvisor"), &own).unwrap();
    let target = temporary.parent().unwrap();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--bin", "hookvisor", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success());
    Builds { own, full: target.join("debug/hookvisor") }
});

#[test]
fn only_what_was_compiled_beforehand_runs() {
    let hooks = Hooks::new().copy("qemu.d/20-policy.wasm", Path::new(POLICY));
    let directory = tempfile::tempdir().unwrap();
    let Builds { own: built, full } = &*BUILDS;
    let own = directory.path().join("hookvisor");
    fs::copy(built, &own).unwrap();
    let cache = directory.path().join("cache");
    let called = |program: &Path, arguments: &[&str]| -> Output {
        let (subcommand, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(program);
        command.arg(subcommand).arg("--hooks").arg(hooks.path()).arg("--cache").arg(&cache).args(rest);
        command.output().unwrap()
    };
    let run = || called(&own, &["run", "qemu", "web1", "prepare"]);

    let refused = run();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(126), "{said}");
    let remedy = format!(
        "could not be run: it is not in the cache, and this hookvisor has no compiler: run `hookvisor compile --cache {}` with a full build of the same version",
        cache.display()
    );
    assert!(said.contains(&remedy), "{said}");
    let has_none = called(&own, &["compile"]);
    assert_eq!(has_none.status.code(), Some(2), "it has no such subcommand");
    let own_path = fs::canonicalize(&own).unwrap();
    let says = format!(
        "hookvisor: {} has no compiler itself, and no full program is installed with it: install the package hookvisor again\n",
        own_path.display()
    );
    assert_eq!(String::from_utf8_lossy(&has_none.stderr), says);

    let compiled = called(full, &["compile"]);
    assert!(compiled.status.success(), "{compiled:?}");
    let (ours, theirs) = (run(), called(full, &["run", "qemu", "web1", "prepare"]));
    assert_ne!(ours.status.code(), Some(126), "{ours:?}");
    assert_eq!((ours.status, ours.stderr), (theirs.status, theirs.stderr), "both run it alike");

    // Next to the full program, as in the package, this is not a veto: the full program takes over and compiles it.
    let root = directory.path().join("root");
    let (hook, link) = (root.join("etc/hookvisor/hooks/qemu.d/20-policy.wasm"), root.join("etc/libvirt/hooks/qemu"));
    for file in [&hook, &link] {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    fs::copy(POLICY, &hook).unwrap();
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    let drop_in = directory.path().join("hookvisor-hook");
    fs::rename(&own, &drop_in).unwrap();
    symlink(&drop_in, &link).unwrap();
    let document = || File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/web1.xml")).unwrap();
    let called = || Command::new(&link).args(["web1", "start", "begin", "-"]).stdin(document()).output().unwrap();
    let alone = called();
    assert_eq!(alone.status.code(), Some(126), "{alone:?}");
    fs::copy(full, directory.path().join("hookvisor")).unwrap();
    let taken_over = called();
    assert!(taken_over.status.success() && taken_over.stderr.is_empty(), "{taken_over:?}");
    fs::remove_file(directory.path().join("hookvisor")).unwrap();
    let compiled = called();
    assert!(compiled.status.success() && compiled.stderr.is_empty(), "{compiled:?}");
}

/// As in the package: what users call is this program, and the full program is elsewhere.
#[test]
fn every_command_but_run_is_the_full_programs() {
    let hooks = Hooks::new().copy("qemu.d/20-policy.wasm", Path::new(POLICY));
    let directory = tempfile::tempdir().unwrap();
    let Builds { own, full } = &*BUILDS;
    let [bin, libexec] = ["bin", "libexec/hookvisor"].map(|name| directory.path().join(name));
    for directory in [&bin, &libexec] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::copy(own, bin.join("hookvisor-hook")).unwrap();
    symlink("hookvisor-hook", bin.join("hookvisor")).unwrap();
    let called = |arguments: &[&str]| Command::new(bin.join("hookvisor")).args(arguments).output().unwrap();
    let (hooks, cache) = (hooks.path().to_str().unwrap(), directory.path().join("cache"));
    let compile = ["compile", "--hooks", hooks, "--cache", cache.to_str().unwrap()];
    assert_eq!(called(&compile).status.code(), Some(2), "alone, it does not look for itself");

    fs::copy(full, libexec.join("hookvisor")).unwrap();
    let run = ["run", "--hooks", hooks, "--cache", cache.to_str().unwrap(), "qemu", "web1", "prepare"];
    let missed = called(&run);
    assert_ne!(missed.status.code(), Some(126), "{missed:?}");
    fs::remove_dir_all(&cache).unwrap();
    assert!(called(&compile).status.success());
    fs::remove_file(libexec.join("hookvisor")).unwrap();
    let cached = called(&run);
    assert_eq!((cached.status, cached.stderr), (missed.status, missed.stderr), "it runs an event itself");
}
