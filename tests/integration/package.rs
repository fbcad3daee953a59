//! The life of the Debian package: installed, used by libvirt's hook, upgraded, removed and purged, in a root made by
//! mmdebstrap. Also checks that its man pages describe every key.

use std::fs;
use std::path::Path;
use std::process::Command;

use hookvisor::{Config, Runtime};

use crate::support::{Hooks, skip};

/// The exit status of `run` if no root can be created.
const SKIPPED: i32 = 77;

#[test]
fn the_package_is_installed_used_upgraded_removed_and_purged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lacks = match std::env::var_os("HOOKVISOR_DEBS") {
        None => "HOOKVISOR_DEBS, the directory of the packages: `scripts/build-deb` makes them in target/deb",
        Some(_) if !nix::unistd::geteuid().is_root() => "root",
        Some(_) if !Path::new("/usr/bin/mmdebstrap").exists() => "mmdebstrap: `scripts/install-test-tools package`",
        Some(_) => "",
    };
    if !lacks.is_empty() {
        return skip("the Debian package's life", &format!("it needs {lacks}"));
    }
    let debs = root.join(std::env::var_os("HOOKVISOR_DEBS").unwrap());
    let ran = Command::new(root.join("tests/package/run")).arg(&debs).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.code() == Some(SKIPPED) {
        return skip("the Debian package's life", "mmdebstrap cannot make a root");
    }
    assert!(ran.status.success() && said.contains("all steps passed"), "{said}");
}

/// The page must have an entry for each key that the error about an unknown key lists.
fn has_an_entry_for_each_key(page: &str, error: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let (_, keys) = error.split_once("expected one of ").unwrap();
    let keys: Vec<&str> = keys.split('`').skip(1).step_by(2).collect();
    assert!(keys.len() > 1, "{error}");
    for key in keys {
        let is_there =
            [format!("`{key}`"), format!("[{key}]"), format!("[{key}.")].iter().any(|form| text.contains(form));
        assert!(is_there, "{} does not name the key `{key}`", path.display());
    }
}

#[test]
fn the_man_pages_name_every_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hookvisor.toml");
    let tables = ["", "[limits]", "[drivers.qemu]", "[log]\nto = 'stderr'", "[history]", "[convention.x]"];
    for table in tables {
        fs::write(&file, format!("{table}\nno-such-key = 1\n")).unwrap();
        has_an_entry_for_each_key("hookvisor.toml.5.md", &Config::read(&file).unwrap_err().to_string());
    }
    let hooks = Hooks::new().script("test", "exit 0");
    hooks.file("test.toml", "no-such-key = 1\n", 0o644);
    let inventory = Runtime::open(hooks.path()).unwrap().inventory();
    has_an_entry_for_each_key("hookvisor-hook.toml.5.md", inventory.hooks[0].reason.as_deref().unwrap());
}
