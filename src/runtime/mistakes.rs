//! Finds files that look like hooks but are never called, or not for the apparent event.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::hooks::{Hook, HookSet};
use crate::convention::Conventions;
use crate::convention::rules::Convention;
use crate::hook::discovery::{is_ignored, is_libvirts};
use crate::hook::skipped::Skipped;

/// Moves apparent mistakes from the strays. Adds drivers and directories whose names look misspelt.
pub(super) fn find(directory: &Path, set: &mut HookSet, conventions: &Conventions, known: &[String]) {
    // Scripts that libvirt's hooks use are next to them. They are not mistakes.
    let is_helper = |path: &Path| is_libvirts(directory) && path.parent() == Some(directory);
    let is_mistake = |stray: &Skipped| !is_helper(&stray.path) && is_meant(&stray.path);
    let (mistakes, strays) = std::mem::take(&mut set.strays).into_iter().partition(is_mistake);
    set.strays = strays;
    set.mistakes = mistakes;
    for (driver, hooks) in &set.drivers {
        set.mistakes.extend(name_of_driver(directory, driver, hooks, conventions, known));
        set.mistakes.extend(hooks.iter().filter_map(|hook| name_of_operation(hook, driver, conventions.of(driver))));
    }
}

/// Whether a file or directory looks like a hook or contains one.
fn is_meant(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            fs::read_dir(path).into_iter().flatten().flatten().any(|e| is_executable(&e.path()))
        }
        Ok(_) if path.file_name().is_some_and(is_ignored) => false,
        Ok(_) => is_executable(path) || path.extension().is_some_and(|e| e == "d"),
        Err(_) => false,
    }
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn name_of_driver(
    directory: &Path,
    driver: &str,
    hooks: &[Hook],
    conventions: &Conventions,
    known: &[String],
) -> Option<Skipped> {
    let found = hooks.first().map_or_else(|| directory.join(driver), |hook| hook.path.to_path_buf());
    let own = conventions.drivers().chain(known.iter().map(String::as_str));
    let all: Vec<&str> = own.collect();
    if all.contains(&driver) {
        return None;
    }
    let mistake = |why| Some(Skipped::new(found.clone(), why));
    if let Some(meant) = all.iter().find(|name| is_misspelt(driver, name)) {
        return mistake(format!(
            "is called for driver {driver}: if {meant} is meant, rename it; otherwise add `known_drivers = [\"{driver}\"]` to \
             hookvisor.toml"
        ));
    }
    let number = driver.trim_start_matches(|c: char| c.is_ascii_digit());
    (number.len() < driver.len() && number.starts_with(['-', '_'])).then_some(())?;
    mistake(format!("is called for a driver {driver}: move it to <driver>.d if it is meant for another driver"))
}

/// Whether one name could be a typo of the other. Short names, such as lxc and lxd, are too similar to tell.
fn is_misspelt(name: &str, meant: &str) -> bool {
    let slips = match meant.len() {
        0..=3 => return name.eq_ignore_ascii_case(meant),
        4..=5 => 1,
        _ => 2,
    };
    strsim::osa_distance(&name.to_lowercase(), &meant.to_lowercase()) <= slips
}

/// A directory for an operation that the driver does not have.
fn name_of_operation(hook: &Hook, driver: &str, convention: &Convention) -> Option<Skipped> {
    let operation = hook.scope.0.get(1)?.to_str()?;
    let error = convention.check(operation).err()?;
    Some(Skipped::new(hook.path.to_path_buf(), format!("is never called for driver {driver}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::is_misspelt;

    #[test]
    fn a_slip_is_told_from_another_name() {
        for (name, meant) in
            [("qmeu", "qemu"), ("qemud", "qemu"), ("QEMU", "qemu"), ("mydeamon", "mydaemon"), ("LXC", "lxc")]
        {
            assert!(is_misspelt(name, meant), "{name} {meant}");
        }
        for (name, other) in [("lxd", "lxc"), ("demo", "qemu"), ("podman", "daemon"), ("test", "qemu")] {
            assert!(!is_misspelt(name, other), "{name} {other}");
        }
    }
}
