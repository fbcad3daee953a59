//! The host's environment: the installed libvirt drivers, and what confines libvirtd.

use std::fs;
use std::path::Path;

use hookvisor::LIBVIRT_DRIVERS;

use super::state::{Site, names};

/// Where distributions install libvirt's drivers, below `usr`.
const DRIVERS: [&str; 3] =
    ["lib/libvirt/connection-driver", "lib64/libvirt/connection-driver", "local/lib/libvirt/connection-driver"];
const APPARMOR_PROFILE: &str = "etc/apparmor.d/usr.sbin.libvirtd";
/// The programs that libvirtd's AppArmor profile allows to run unconfined.
const APPARMOR_RUNS: [&str; 4] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"];

/// The installed libvirt drivers. All of them if libvirt is not found, as in an image that gets it later.
pub(super) fn drivers(site: &Site) -> Vec<&'static str> {
    let usr = site.root().join("usr");
    let by_architecture = names(&usr.join("lib")).into_iter().map(|name| usr.join("lib").join(name));
    let directories = by_architecture.map(|path| path.join("libvirt/connection-driver"));
    let directories: Vec<_> = directories.chain(DRIVERS.iter().map(|below| usr.join(below))).collect();
    let is_there = |driver: &&str| {
        directories.iter().any(|directory| directory.join(format!("libvirt_driver_{driver}.so")).exists())
    };
    let found: Vec<&str> = LIBVIRT_DRIVERS.into_iter().filter(is_there).collect();
    if found.is_empty() { LIBVIRT_DRIVERS.to_vec() } else { ["daemon"].into_iter().chain(found).collect() }
}

/// Instructions after a change, with the paths that the machine has when it runs.
pub(super) fn advice(site: &Site, program: &str) -> Vec<String> {
    let mut advice = vec![RESTART.to_owned()];
    let hooks = site.inside(&site.hooks());
    let kept = [site.layout.kept_scripts(), site.layout.kept_directories()].map(|path| site.inside(&path));
    if has_selinux(site) {
        let label =
            |path: &Path, below: &str| format!("\n  semanage fcontext -a -t virt_hook_t '{}{below}'", path.display());
        let labels =
            label(Path::new(program), "") + &[&hooks, &kept[0], &kept[1]].map(|path| label(path, "(/.*)?")).concat();
        advice.push(format!(
            "SELinux: label the program and the hooks as libvirt's hooks, and let those run unconfined:{labels}\n  \
             restorecon -RF '{program}' '{}' '{}' '{}'\n  setsebool -P virt_hooks_unconfined on",
            hooks.display(),
            kept[0].display(),
            kept[1].display()
        ));
    }
    if has_apparmor(site) && !apparmor_allows(site, program) {
        advice.push(format!(
            "AppArmor: libvirtd's profile does not let it run {program}. Add this line to \
             /etc/apparmor.d/local/usr.sbin.libvirtd:\n  {program} PUx,\nand load it: \
             apparmor_parser -r /{APPARMOR_PROFILE}"
        ));
    }
    advice
}

pub(super) const RESTART: &str = "libvirt looks for its hooks when it starts: restart it, or reload it (`systemctl reload libvirtd`, or virtqemud, \
                                  virtnetworkd and so on, whichever runs)";

fn has_selinux(site: &Site) -> bool {
    let is_enabled = fs::read_to_string(site.root().join("etc/selinux/config"))
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("SELINUX=") && !line.contains("disabled")));
    site.root().join("sys/fs/selinux/enforce").exists() || is_enabled
}

fn has_apparmor(site: &Site) -> bool {
    site.root().join(APPARMOR_PROFILE).exists()
}

/// Whether libvirtd's profile allows the program: by its directory, or by a line that the administrator added.
fn apparmor_allows(site: &Site, program: &str) -> bool {
    let is_of_the_system = Path::new(program).parent().is_some_and(|p| APPARMOR_RUNS.iter().any(|d| p == Path::new(d)));
    let is_named = |file: &str| {
        let text = fs::read_to_string(site.root().join(file)).unwrap_or_default();
        text.lines().any(|line| line.split_whitespace().next() == Some(program))
    };
    is_of_the_system || is_named(APPARMOR_PROFILE) || is_named("etc/apparmor.d/local/usr.sbin.libvirtd")
}
