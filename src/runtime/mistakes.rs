//! Finds files that look like hooks but are never called, or not for the apparent event.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::hooks::{Hook, HookSet, Loaded};
use crate::convention::Conventions;
use crate::convention::rules::Convention;
use crate::hook::discovery::{is_ignored, is_libvirts};
use crate::hook::skipped::Skipped;

const LONGEST_SCRIPT: u64 = 1 << 20;

/// Moves apparent mistakes from the strays. Adds drivers and directories whose names look misspelt.
pub(super) fn find(directory: &Path, set: &mut HookSet, conventions: &Conventions, known: &[String]) {
    // Scripts that libvirt's hooks use are next to them. They are not mistakes.
    let is_helper = |path: &Path| is_libvirts(directory) && path.parent() == Some(directory);
    let is_mistake = |stray: &Skipped| !is_helper(&stray.path) && is_meant(&stray.path);
    let (mistakes, mut strays): (Vec<_>, Vec<_>) = std::mem::take(&mut set.strays).into_iter().partition(is_mistake);
    let (helpers, mistakes): (Vec<_>, Vec<_>) = mistakes
        .into_iter()
        .map(|stray| (user(&stray.path, directory, set), stray))
        .partition(|(hook, _)| hook.is_some());
    let mistakes = mistakes.into_iter().map(|(_, stray)| stray).collect();
    strays.extend(helpers.into_iter().filter_map(|(hook, stray)| {
        Some(Skipped::new(stray.path, format!("is not a hook: {} uses it", hook?.display())))
    }));
    set.strays = strays;
    set.mistakes = mistakes;
    for (driver, hooks) in &set.drivers {
        set.mistakes.extend(name_of_driver(directory, driver, hooks, conventions, known));
        set.mistakes.extend(hooks.iter().filter_map(|hook| name_of_operation(hook, driver, conventions.of(driver))));
    }
}

/// The hook that uses a file that is not a hook: a link to it, or a script that names it.
fn user(path: &Path, directory: &Path, set: &HookSet) -> Option<PathBuf> {
    let mut names = path.strip_prefix(directory).ok()?.iter().map(OsStr::to_str);
    let first = names.next()??;
    // A script may use `$0` for its own name: `$0.d/run`.
    let name = names.next().map_or_else(|| Some(first.to_owned()), |below| Some(format!(".d/{}", below?)))?;
    let is_user = |hook: &&Hook| {
        let is_general = hook.scope.0.is_empty() && matches!(hook.loaded, Loaded::Ready(_));
        is_general && *hook.path != *path && (leads_to(&hook.path, path) || has_in_a_line(&hook.path, &name))
    };
    set.drivers.values().flatten().find(is_user).map(|hook| hook.path.to_path_buf())
}

fn leads_to(link: &Path, file: &Path) -> bool {
    fs::canonicalize(link).ok().is_some_and(|target| fs::canonicalize(file).ok() == Some(target))
}

/// Whether a script contains this text outside its comments.
fn has_in_a_line(script: &Path, text: &str) -> bool {
    let mut content = Vec::new();
    let read = File::open(script).and_then(|file| file.take(LONGEST_SCRIPT).read_to_end(&mut content));
    let content = String::from_utf8_lossy(&content);
    read.is_ok()
        && content.starts_with("#!")
        && content.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(text))
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
    if is_known(driver, conventions, known) {
        return None;
    }
    let mistake = |why| Some(Skipped::new(found.clone(), why));
    if let Some(meant) = similar_driver(driver, conventions, known) {
        return mistake(format!(
            "is called for driver {driver}: did you mean {meant}? If so, rename it; otherwise add `known_drivers = [\"{driver}\"]` to \
             hookvisor.toml"
        ));
    }
    let number = driver.trim_start_matches(|c: char| c.is_ascii_digit());
    (number.len() < driver.len() && number.starts_with(['-', '_'])).then_some(())?;
    mistake(format!("is called for a driver {driver}: move it to <driver>.d if it is meant for another driver"))
}

pub(super) fn is_known(driver: &str, conventions: &Conventions, known: &[String]) -> bool {
    conventions.drivers().chain(known.iter().map(String::as_str)).any(|name| name == driver)
}

/// The known driver that an unknown name probably means.
pub(super) fn similar_driver<'a>(name: &str, conventions: &'a Conventions, known: &'a [String]) -> Option<&'a str> {
    let mut all = conventions.drivers().chain(known.iter().map(String::as_str));
    if is_known(name, conventions, known) { None } else { all.find(|meant| is_misspelt(name, meant)) }
}

/// The driver with hooks in this directory that a name without hooks probably means.
pub(super) fn similar_in(directory: &Path, name: &str) -> Option<String> {
    let driver = |entry: fs::DirEntry| {
        let (path, file) = (entry.path(), entry.file_name());
        let driver = file.to_str()?;
        let is_directory = fs::metadata(&path).is_ok_and(|found| found.is_dir());
        match driver.strip_suffix(".d") {
            Some(driver) if is_directory => Some(driver.to_owned()),
            _ => (is_executable(&path) && !is_ignored(&file)).then(|| driver.to_owned()),
        }
    };
    let drivers = fs::read_dir(directory).into_iter().flatten().flatten().filter_map(driver);
    drivers.filter(|meant| is_misspelt(name, meant)).min()
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
