//! Other hosts with libvirt: two between which a guest migrates, one with the newer libvirt of Debian 13, one with hookvisor's
//! package.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::libvirt::World;
use crate::support::{skip, wait_until};

/// The exit status of `scripts/libvirt-root` if it cannot create a root.
const SKIPPED: i32 = 77;

#[test]
fn a_guest_migrates_through_the_filter_hook_of_its_new_host() {
    migrates(Path::new("/"));
}

#[test]
fn libvirt_11_calls_hooks_and_reports_vetoes_as_libvirt_9_does() {
    let Some(root) = debian_13() else { return };
    let Some(world) = World::with_hookvisor_of(&root) else { return };
    let version = world.run("libvirtd", &["--version"]);
    assert!(String::from_utf8_lossy(&version.stdout).contains("libvirt) 11."), "{version:?}");
    world.try_guest("web1").unwrap();
    assert_eq!(world.calls(), ["prepare begin", "start begin", "started begin", "stopped end", "release end"]);
    for operation in ["prepare", "start", "started"] {
        world.hook("qemu.d/20-xyzzy", "echo 'Could not find required XYZZY' >&2; exit 7");
        world.settings("qemu.d/20-xyzzy", &format!("operations = ['{operation}']"));
        let error = world.try_guest("web1").unwrap_err();
        let report = "unexpected exit status 7: Hook script execution failed: Hook script \
                      /etc/hookvisor/hooks/qemu.d/20-xyzzy qemu failed with error code 7: Could not find required XYZZY\n";
        assert!(error.contains(report), "{operation}: {error}");
        assert_eq!(world.guests(), [""; 0], "{operation}");
        world.remove("qemu.d/20-xyzzy");
    }
    world.file("etc/web1.xml", crate::support::libvirt::guest("web1"), 0o644);
    world.virsh(&["define", "/etc/web1.xml"]);
    world.virsh(&["start", "web1"]);
    world.virsh(&["managedsave", "web1"]);
    world.hook("qemu.d/20-title", "sed 's/<title>before</<title>restored</'");
    world.virsh(&["start", "web1"]);
    assert_eq!(world.virsh(&["desc", "--title", "web1"]).trim(), "restored");
    migrates(&root);
}

/// The hooks of the new host get `migrate` first. They may rewrite the document, and may refuse the guest.
fn migrates(programs: &Path) {
    let (Some(from), Some(to)) = (World::with_hookvisor_of(programs), World::with_hookvisor_of(programs)) else {
        return;
    };
    to.hook("qemu.d/20-title", "[ \"$2\" != migrate ] || sed 's/<title>before</<title>moved</'");
    let migrate = |guest: &str| {
        let destination = format!("qemu+unix:///system?socket={}", to.path("run/libvirt/libvirt-sock").display());
        let memory = format!("unix://{}", to.path("migration").display());
        from.try_virsh(&["migrate", "--live", guest, "--desturi", &destination, "--migrateuri", &memory])
    };
    from.create("web1").unwrap();
    assert_eq!(migrate("web1").map(drop), Ok(()), "{}{}", from.libvirtd_log(), to.libvirtd_log());
    assert_eq!((from.guests(), to.guests()), (vec![], vec!["web1".to_owned()]));
    assert_eq!(to.virsh(&["desc", "--title", "web1"]).trim(), "moved");
    assert_eq!(to.calls(), ["migrate begin", "prepare begin", "start begin", "started begin"]);
    wait_until("the guest is released by its old host", || {
        fs::read_to_string(from.path("log/calls")).is_ok_and(|calls| calls.contains("release end"))
    });
    assert_eq!(from.calls(), ["prepare begin", "start begin", "started begin", "stopped end", "release end"]);

    to.hook("qemu.d/30-full", "[ \"$2\" != migrate ] || { echo 'this host is full' >&2; exit 7; }");
    from.create("web2").unwrap();
    let error = migrate("web2").unwrap_err();
    let report = "Hook script execution failed: Hook script /etc/hookvisor/hooks/qemu.d/30-full qemu failed with error code \
                  7: this host is full";
    assert!(error.contains(report), "{error}");
    assert_eq!((from.guests(), to.guests()), (vec!["web2".to_owned()], vec!["web1".to_owned()]), "web2 stays and runs");
}

#[test]
fn libvirtd_calls_the_drop_in_of_the_package() {
    let Some(debs) = std::env::var_os("HOOKVISOR_DEBS") else {
        return skip("a real libvirtd with the Debian package", "it needs HOOKVISOR_DEBS");
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let unpacked = tempfile::tempdir().unwrap();
    fs::set_permissions(unpacked.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let deb = fs::read_dir(root.join(debs)).unwrap().map(|entry| entry.unwrap().path());
    let deb = deb
        .into_iter()
        .find(|path| {
            path.file_name().unwrap().as_bytes().starts_with(b"hookvisor_")
                && path.extension().is_some_and(|extension| extension == "deb")
        })
        .unwrap();
    assert!(Command::new("dpkg-deb").arg("-x").arg(deb).arg(unpacked.path()).status().unwrap().success());
    let Some(mut world) = World::with_package(unpacked.path()) else { return };
    let hookvisor = |world: &World, arguments: &[&str]| {
        let ran = world.run("/usr/bin/hookvisor", arguments);
        let stdout = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(ran.status.success(), "{arguments:?}: {stdout}{}", String::from_utf8_lossy(&ran.stderr));
        stdout
    };
    hookvisor(&world, &["libvirt", "install", "qemu"]);
    let link = fs::read_link(world.path("etc/libvirt/hooks/qemu")).unwrap();
    assert_eq!(link, Path::new("/usr/bin/hookvisor-hook"));
    world.copy("qemu.d/20-policy.wasm", &root.join("examples/hooks/qemu.d/20-policy.wasm"));
    world.start_libvirtd();
    // Nothing is compiled yet, so the drop-in starts the full program. The next call uses what it has compiled.
    for guest in ["web1", "web2"] {
        let error = world.try_guest(guest).unwrap_err();
        assert!(
            error.contains("20-policy.wasm qemu failed with error code 1") && error.contains("has no owner"),
            "{error}"
        );
        let last = hookvisor(&world, &["history", "--last"]);
        assert!(last.contains("20-policy.wasm") && last.contains(guest), "{last}");
    }
    world.remove("qemu.d/20-policy.wasm");
    world.try_guest("web1").unwrap();
}

/// A root with Debian 13's libvirt and QEMU, kept for the next run.
fn debian_13() -> Option<PathBuf> {
    const NAME: &str = "libvirt 11";
    if std::env::var_os("HOOKVISOR_SLOW_TESTS").is_none() {
        skip(NAME, "it needs HOOKVISOR_SLOW_TESTS=1");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/libvirt-root");
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-13");
    let made = Command::new(script).arg(&root).output().unwrap();
    if made.status.code() == Some(SKIPPED) {
        skip(NAME, "a root of Debian 13 cannot be made here");
        return None;
    }
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(root)
}
