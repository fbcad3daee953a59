//! Plans an install: hookvisor becomes the hook of libvirt's drivers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::bail;
use hookvisor::HookState;

use super::inspect::{self, Inspected};
use super::mirror::{self, ORIGINALS};
use super::plan::{Plan, Step};
use super::state::{EntryPoint, Finding, Moved, Site, State, Takeover};

/// The user's options.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) drivers: &'a [&'static str],
    pub(super) program: &'a str,
    pub(super) entry_point: EntryPoint,
    pub(super) directories: Directories,
}

/// What to do with the hooks of `<driver>.d`, which libvirt runs itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Directories {
    /// hookvisor takes them over if their order and results stay the same.
    IfSame,
    /// hookvisor takes them over.
    All,
    /// libvirt keeps running them.
    None,
}

/// The steps of an install by kind, in order: see [`Planner::plan`].
struct Planner<'a> {
    site: &'a Site,
    state: State,
    moves: Vec<Step>,
    hooks: Vec<Step>,
    unlinks: Vec<Step>,
    notes: Vec<String>,
}

/// Plans an install, and the resulting state.
pub(super) fn plan(site: &Site, request: &Request<'_>) -> anyhow::Result<(Plan, State)> {
    let mut planner = Planner {
        site,
        state: site.state.clone(),
        moves: Vec::new(),
        hooks: Vec::new(),
        unlinks: Vec::new(),
        notes: Vec::new(),
    };
    let mut own = Vec::new();
    for driver in request.drivers {
        own.extend(planner.find(driver, request)?.map(|is_own| (*driver, is_own)));
    }
    let inspected = inspect::hooks(site)?;
    for (driver, is_own) in own {
        if is_own {
            planner.take_script(driver, &inspected)?;
        }
        planner.take_directory(driver, &inspected, request.directories)?;
    }
    planner.note_hooks_that_nobody_calls(&inspected);
    Ok(planner.plan())
}

impl Planner<'_> {
    /// Determines what libvirt calls for a driver: whether it is the administrator's own hook; `None` if the driver is
    /// left alone.
    fn find(&mut self, driver: &str, request: &Request<'_>) -> anyhow::Result<Option<bool>> {
        let hook = self.site.hook(driver);
        let finding = self.site.find(driver)?;
        let is_own = finding == Finding::Own;
        let (mut takeover, is_current) = match finding {
            Finding::LinkedByHand(program) => {
                let (hook, program) = (hook.display(), program.display());
                self.notes.push(format!("{hook} is already a link to {program} that install did not make: it stays"));
                return Ok(None);
            }
            Finding::Installed(taken) => {
                let is_current = (taken.program.as_str(), taken.entry_point) == (request.program, request.entry_point);
                (taken, is_current)
            }
            Finding::Nothing | Finding::Own => {
                let (program, moved, links) = (String::new(), Vec::new(), Vec::new());
                (Takeover { program, entry_point: request.entry_point, moved, links }, false)
            }
            Finding::Replaced(_) | Finding::Removed(_) => bail!(
                "{} is not what the last install put there: run `hookvisor libvirt uninstall {driver}` first",
                hook.display()
            ),
            Finding::Unrecorded => bail!(
                "{} was written by an install, but {} does not know it: remove it, and if there is a {}, move that in its \
                 place",
                hook.display(),
                self.site.layout.state().display(),
                self.site.layout.kept_scripts().join(driver).display()
            ),
        };
        if !is_current {
            let (program, entry_point) = (request.program.to_owned(), request.entry_point);
            takeover.program.clone_from(&program);
            takeover.entry_point = entry_point;
            self.hooks.push(Step::Hook { path: hook, program, entry_point });
        }
        self.state.drivers.insert(driver.to_owned(), takeover);
        Ok(Some(is_own))
    }

    fn take_script(&mut self, driver: &str, inspected: &[Inspected]) -> anyhow::Result<()> {
        let hook = self.site.hook(driver);
        if let Some(broken) = inspected.iter().find(|found| found.is(&hook) && found.state == HookState::Broken) {
            bail!("{} would veto every start, so nothing was changed: {}", hook.display(), broken.reason);
        }
        self.take(driver, &hook, &self.site.layout.kept_scripts().join(driver))
    }

    /// Moves a hook to where hookvisor runs it.
    fn take(&mut self, driver: &str, from: &Path, to: &Path) -> anyhow::Result<()> {
        let stand_in = self.stand_in(from, to);
        let place = match &stand_in {
            Some(_) => to.with_file_name(ORIGINALS).join(to.file_name().unwrap_or_default()),
            None => to.to_owned(),
        };
        for path in [to, &place] {
            if path.symlink_metadata().is_ok() && !mirror::is_link(path) {
                let (path, from) = (path.display(), from.display());
                bail!("{path} is in the way: {from} would be moved there. Move {path} away");
            }
        }
        self.moves.push(Step::Move { from: from.to_owned(), to: place.clone() });
        let moved = Moved { from: self.site.below(from), to: self.site.below(&place) };
        let link = self.site.below(to);
        let takeover = self.state.drivers.entry(driver.to_owned());
        takeover.and_modify(|taken| {
            taken.moved.push(moved);
            taken.links.extend(stand_in.is_some().then_some(link));
        });
        if let Some(target) = stand_in {
            self.moves.push(Step::Link { path: to.to_owned(), to: target });
        }
        Ok(())
    }

    /// The target that a link needs in its new place, if it differs: a link to another driver's hook would lead to
    /// hookvisor.
    fn stand_in(&self, from: &Path, to: &Path) -> Option<PathBuf> {
        let text = fs::read_link(from).ok()?;
        let hooks = fs::canonicalize(self.site.layout.libvirt_hooks()).ok()?;
        let end = self.site.end_of_links(from)?;
        let is_in_hooks = end.parent().and_then(|parent| fs::canonicalize(parent).ok()).is_some_and(|p| p == hooks);
        let driver = end.file_name().filter(|_| is_in_hooks).and_then(|name| name.to_str());
        if let Some(driver) = driver.filter(|driver| self.state.drivers.contains_key(*driver)) {
            let is_script = to.parent() == Some(&self.site.layout.kept_scripts());
            let up = if is_script { "" } else { "../../hookvisor" };
            return Some(Path::new(up).join(driver));
        }
        // If the hooks directory is a link, `..` is not the parent in its path.
        let parent = fs::canonicalize(from.parent()?).ok()?;
        (text.is_relative() && parent != from.parent()?).then(|| self.site.inside(&parent.join(text)))
    }

    fn take_directory(&mut self, driver: &str, inspected: &[Inspected], what: Directories) -> anyhow::Result<()> {
        let directory = self.site.directory(driver);
        let hooks = self.site.run_by_libvirt(driver);
        if hooks.is_empty() {
            return Ok(());
        }
        let differences = differences(&directory, &hooks, inspected);
        let why_not = match (what, differences.first()) {
            (Directories::None, _) => Some("as asked"),
            (Directories::IfSame, Some(difference)) => Some(difference.as_str()),
            (Directories::All, Some(difference)) if directory.is_symlink() => Some(difference.as_str()),
            (Directories::IfSame, None) | (Directories::All, _) => None,
        };
        if let Some(why_not) = why_not {
            let count = hooks.len();
            let all =
                if what == Directories::IfSame && !directory.is_symlink() { "; --all takes them over" } else { "" };
            self.notes.push(format!(
                "libvirt keeps running the {count} hooks in {} itself, without a timeout: {why_not}{all}",
                directory.display()
            ));
            return Ok(());
        }
        self.notes.extend(differences);
        let kept = self.site.layout.kept_directories().join(format!("{driver}.d"));
        for hook in hooks {
            if let Some(broken) = inspected.iter().find(|found| found.is(&hook) && found.state == HookState::Broken) {
                bail!("{} would veto every start, so nothing was changed: {}", hook.display(), broken.reason);
            }
            let name = hook.file_name().unwrap_or_default();
            self.take(driver, &hook, &kept.join(name))?;
            self.unlinks.push(Step::Unlink(hook));
        }
        Ok(())
    }

    fn note_hooks_that_nobody_calls(&mut self, inspected: &[Inspected]) {
        for (driver, hooks) in uncalled(self.site, inspected) {
            if self.state.drivers.contains_key(&driver) {
                self.notes.push(uncalled_note(self.site, &driver, &hooks));
            }
        }
    }

    /// The steps in order: a hook gets its new place before libvirt calls hookvisor, and loses its old place
    /// afterwards.
    fn plan(mut self) -> (Plan, State) {
        let mut plan = Plan { steps: mirror::removals(self.site, &self.state), notes: self.notes };
        plan.steps.extend(self.moves);
        plan.steps.extend(mirror::additions(self.site, &self.state));
        plan.steps.extend(self.hooks);
        plan.steps.extend(self.unlinks);
        if !plan.steps.is_empty() {
            let mut made = missing_directories(self.site, &self.state);
            self.state.directories.extend(made.iter().map(|path| self.site.below(path)));
            let made: Vec<Step> = made.drain(..).map(Step::MakeDirectory).collect();
            plan.steps.splice(0..0, made);
        }
        (plan, self.state)
    }
}

/// What would change if hookvisor ran the hooks of a directory that libvirt runs now, one sentence each.
fn differences(directory: &Path, hooks: &[PathBuf], inspected: &[Inspected]) -> Vec<String> {
    if let Ok(target) = fs::read_link(directory) {
        return vec![format!("{} is a link to {}, whose files stay there", directory.display(), target.display())];
    }
    let difference = |hook: &PathBuf| {
        let path = hook.display();
        match inspected.iter().find(|found| found.is(hook)) {
            Some(found) if found.state == HookState::Ready => None,
            Some(found) => Some(format!("libvirt runs {path}, but hookvisor would not: {}", found.reason)),
            None => Some(format!("libvirt runs {path}, but hookvisor ignores files with such names")),
        }
    };
    hooks.iter().filter_map(difference).collect()
}

/// Executable files in per-event directories that neither libvirt nor a dispatcher calls, by driver.
pub(super) fn uncalled(site: &Site, inspected: &[Inspected]) -> Vec<(String, Vec<PathBuf>)> {
    let mut drivers: Vec<(String, Vec<PathBuf>)> = Vec::new();
    for found in inspected.iter().filter(|found| found.is_nested && found.state != HookState::Skipped) {
        // Without a `<driver>.d` in libvirt's directory, there are none.
        let path = site.directory(&found.driver).join(&found.below);
        match drivers.iter_mut().find(|(driver, _)| *driver == found.driver) {
            Some((_, hooks)) => hooks.push(path),
            None => drivers.push((found.driver.clone(), vec![path])),
        }
    }
    drivers
}

pub(super) fn uncalled_note(site: &Site, driver: &str, hooks: &[PathBuf]) -> String {
    let first = hooks.first().map(|path| path.display().to_string()).unwrap_or_default();
    let more = match hooks.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    format!(
        "nobody calls {first}{more}: libvirt ignores directories in {}, and its hook {driver} does not run them. To have \
         hookvisor run them, move the guest's directory to {}",
        site.directory(driver).display(),
        site.hooks().join(format!("{driver}.d")).display()
    )
}

fn missing_directories(site: &Site, state: &State) -> Vec<PathBuf> {
    let layout = &site.layout;
    let mut needed = vec![layout.libvirt_hooks(), site.hooks()];
    needed.extend(layout.state().parent().map(Path::to_owned));
    needed.extend(state.moved().filter_map(|moved| site.at(&moved.to).parent().map(Path::to_owned)));
    let mut missing: Vec<PathBuf> = Vec::new();
    for directory in needed {
        let mut absent: Vec<PathBuf> =
            directory.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        absent.reverse();
        absent.retain(|path| !missing.contains(path));
        missing.extend(absent);
    }
    missing
}
