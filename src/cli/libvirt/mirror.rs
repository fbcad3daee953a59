//! Links to the files next to a moved hook, so that a script still finds them next to itself.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::plan::{Plan, Step};
use super::state::{Site, State, names};
use super::transfer::NEW;

/// Where hooks that were links have their links.
pub(super) const ORIGINALS: &str = ".originals";

/// The required links of a directory: names and targets.
type Links = BTreeMap<OsString, PathBuf>;

/// The required content of the directories of moved hooks, for a state of the installation.
fn wanted(site: &Site, state: &State) -> BTreeMap<PathBuf, Links> {
    let mut directories = BTreeMap::new();
    let hooks = site.layout.libvirt_hooks();
    let (scripts, dot_d) = (site.layout.kept_scripts(), site.layout.kept_directories());
    let moved: BTreeSet<PathBuf> = state.moved().map(|moved| site.at(&moved.from)).collect();
    let made = places(site, state);
    let links_to = |directory: &Path, of: &Path, to: &Path| -> Links {
        let named = beside(site, state, of, &moved).into_iter().map(|name| (name.clone(), to.join(name)));
        named.filter(|(name, _)| !made.contains(&directory.join(name))).collect()
    };

    if moved.iter().any(|from| from.parent() == Some(&hooks)) {
        directories.insert(scripts.clone(), links_to(&scripts, &hooks, Path::new("../hooks")));
    }
    let taken: BTreeSet<&Path> = moved.iter().filter_map(|from| from.parent()).filter(|p| *p != hooks).collect();
    if !taken.is_empty() {
        let mut links = links_to(&dot_d, &hooks, Path::new("../hooks"));
        links.retain(|name, _| !taken.contains(hooks.join(name).as_path()));
        for from in moved.iter().filter(|from| from.parent() == Some(&hooks)) {
            let name = from.file_name().unwrap_or_default();
            links.insert(name.to_owned(), Path::new("../hookvisor").join(name));
        }
        directories.insert(dot_d.clone(), links);
        for original in taken {
            let name = original.file_name().unwrap_or_default();
            let kept = dot_d.join(name);
            let links = links_to(&kept, original, &Path::new("../../hooks").join(name));
            directories.insert(kept, links);
        }
    }
    directories
}

/// The names in libvirt's directory, or in a directory below it, that are not hooks taken over by hookvisor in a state.
fn beside(site: &Site, state: &State, directory: &Path, moved: &BTreeSet<PathBuf>) -> BTreeSet<OsString> {
    let is_hook = |name: &OsString| {
        let driver = name.to_str().filter(|_| directory == site.layout.libvirt_hooks());
        let taken = driver.is_some_and(|d| state.drivers.contains_key(d) || site.state.drivers.contains_key(d));
        taken || moved.contains(&directory.join(name)) || name.to_str().is_some_and(|n| n.ends_with(NEW))
    };
    let returning = site.state.moved().map(|moved| site.at(&moved.from));
    let returning = returning.filter(|from| from.parent() == Some(directory) && !moved.contains(from));
    let returning = returning.filter_map(|from| from.file_name().map(OsStr::to_owned));
    names(directory).into_iter().filter(|name| !is_hook(name)).chain(returning).collect()
}

/// The moved hooks of a state, and the links that replace some of them.
fn places(site: &Site, state: &State) -> BTreeSet<PathBuf> {
    let links = state.drivers.values().flat_map(|taken| &taken.links);
    state.moved().map(|moved| &moved.to).chain(links).map(|path| site.at(path)).collect()
}

/// The links to add, so that the directories match a state.
pub(super) fn additions(site: &Site, state: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted = wanted(site, state);
    let before = places(site, &site.state);
    for (directory, links) in &wanted {
        // A file that a hook wrote in place of a link stays.
        let is_free =
            |path: &Path| before.contains(path) || path.symlink_metadata().map_or(true, |found| found.is_symlink());
        let missing: Vec<(PathBuf, PathBuf)> = links
            .iter()
            .map(|(name, target)| (PathBuf::from(name), target.clone()))
            .filter(|(name, target)| fs::read_link(directory.join(name)).ok().as_ref() != Some(target))
            .filter(|(name, _)| is_free(&directory.join(name)))
            .collect();
        if !missing.is_empty() {
            steps.push(Step::Mirror { directory: directory.clone(), links: missing });
        }
    }
    steps
}

/// The links to remove, so that the directories match a state.
pub(super) fn removals(site: &Site, state: &State) -> Vec<Step> {
    let mut steps = Vec::new();
    let wanted = wanted(site, state);
    let before = places(site, &site.state);
    for directory in present(site) {
        let links = wanted.get(&directory);
        let is_stale = |name: &OsString| {
            let is_wanted = links.is_some_and(|links| links.contains_key(name));
            !is_wanted && !before.contains(&directory.join(name)) && is_mirror(&directory, name)
        };
        let stale: Vec<PathBuf> = names(&directory).into_iter().filter(is_stale).map(PathBuf::from).collect();
        if !stale.is_empty() {
            steps.push(Step::Unmirror { directory, links: stale });
        }
    }
    steps
}

/// Whether this is the path of a link made here.
pub(super) fn is_link(path: &Path) -> bool {
    path.parent().zip(path.file_name()).is_some_and(|(directory, name)| is_mirror(directory, name))
}

/// Plans to move files that hooks have written next to themselves to where they would be without the install.
pub(super) fn plan_leftovers(site: &Site, state: &State, plan: &mut Plan) {
    let wanted = wanted(site, state);
    let known = places(site, &site.state);
    let directories = present(site);
    for directory in directories.iter().filter(|directory| !wanted.contains_key(*directory)) {
        for name in names(directory) {
            let path = directory.join(&name);
            let is_known = known.contains(&path) || directories.contains(&path) || name == ORIGINALS;
            if is_known || is_mirror(directory, &name) {
                continue;
            }
            let to = original_of(site, directory).join(&name);
            if to.symlink_metadata().is_ok() {
                plan.notes.push(format!("{} stays: {} already exists", path.display(), to.display()));
            } else {
                plan.steps.push(Step::MoveBack { from: path, to });
            }
        }
    }
}

/// The files next to libvirt's hooks that are newer than the install, so that moved hooks do not find them. Hooks in
/// `<driver>.d` do not need a guest's directory.
pub(super) fn unreachable(site: &Site) -> Vec<PathBuf> {
    let hooks = site.layout.libvirt_hooks();
    let missing = |(directory, links): (PathBuf, Links)| {
        let original = original_of(site, &directory);
        let names = links.into_keys().filter(|name| directory.join(name).symlink_metadata().is_err());
        let paths = names.map(|name| original.join(name));
        paths.filter(|path| original == hooks || !path.is_dir()).collect::<Vec<_>>()
    };
    let mut all: Vec<PathBuf> = wanted(site, &site.state).into_iter().flat_map(missing).collect();
    all.sort();
    all.dedup();
    all
}

/// The existing directories of moved hooks.
fn present(site: &Site) -> Vec<PathBuf> {
    let dot_d = site.layout.kept_directories();
    let below = names(&dot_d).into_iter().map(|name| dot_d.join(name));
    let below = below.filter(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir()));
    let top = [site.layout.kept_scripts(), dot_d.clone()];
    below.chain(top.into_iter().filter(|path| path.is_dir())).collect()
}

/// Where the files of a directory of moved hooks were before.
fn original_of(site: &Site, directory: &Path) -> PathBuf {
    let hooks = site.layout.libvirt_hooks();
    match directory.strip_prefix(site.layout.kept_directories()) {
        Ok(below) => hooks.join(below),
        Err(_) => hooks,
    }
}

fn is_mirror(directory: &Path, name: &OsStr) -> bool {
    let targets = |target: PathBuf| {
        let leads =
            target.starts_with("../hooks") || target.starts_with("../../hooks") || target.starts_with("../hookvisor");
        leads && target.file_name() == Some(name)
    };
    fs::read_link(directory.join(name)).is_ok_and(targets)
}
