//! The Debian package's life: installed, used by libvirt's hook, upgraded, removed, purged, in a root made by mmdebstrap.

use std::path::Path;
use std::process::Command;

use crate::support::program::tell;

/// What `run` exits with where no root can be made.
const SKIPPED: i32 = 77;

#[test]
fn the_package_is_installed_used_upgraded_removed_and_purged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let debs = std::env::var_os("HOOKVISOR_DEBS").map_or_else(|| root.join("target/deb"), Into::into);
    let is_built = debs.read_dir().is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("hookvisor_"))
    });
    let lacks = match () {
        () if std::env::var_os("HOOKVISOR_SLOW_TESTS").is_none() => "HOOKVISOR_SLOW_TESTS=1",
        () if !nix::unistd::geteuid().is_root() => "root",
        () if !is_built => "the packages: scripts/build-deb",
        () if !Path::new("/usr/bin/mmdebstrap").exists() => "mmdebstrap: scripts/install-test-tools package",
        () => "",
    };
    if !lacks.is_empty() {
        return tell(&format!("skipped: the Debian package's life: it needs {lacks}"));
    }
    let ran = Command::new(root.join("tests/package/run")).arg(&debs).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.code() == Some(SKIPPED) {
        return tell(&said);
    }
    assert!(ran.status.success() && said.contains("all steps passed"), "{said}");
}
