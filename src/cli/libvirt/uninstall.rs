//! Plans to undo install.

use anyhow::bail;

use super::mirror;
use super::plan::{Plan, Step};
use super::state::{Finding, Site, State, Takeover};
use super::transfer::is_same;

/// Plans to undo the install of these drivers, and the resulting state. What is already gone is noted.
pub(super) fn plan(site: &Site, drivers: &[&str]) -> anyhow::Result<(Plan, State)> {
    let mut plan = Plan::default();
    let mut state = site.state.clone();
    for driver in drivers {
        let Some(taken) = state.drivers.remove(*driver) else { continue };
        give_back(site, driver, &taken, &mut plan)?;
    }
    if state.drivers.len() < site.state.drivers.len() {
        plan.steps.extend(mirror::removals(site, &state));
        plan.steps.extend(mirror::additions(site, &state));
        mirror::plan_leftovers(site, &state, &mut plan);
        let mut made = std::mem::take(&mut state.directories);
        if !state.drivers.is_empty() {
            let kept = [site.layout.kept_scripts(), site.layout.kept_directories()].map(|path| site.below(&path));
            let is_of_hooks = |path: &std::path::PathBuf| kept.iter().any(|kept| path.starts_with(kept));
            let still = |path: &std::path::PathBuf| state.moved().any(|moved| moved.to.starts_with(path));
            let (gone, stay) = made.into_iter().partition(|path| is_of_hooks(path) && !still(path));
            made = gone;
            state.directories = stay;
        }
        plan.steps.extend(made.iter().rev().map(|path| Step::RemoveDirectory(site.at(path))));
    }
    Ok((plan, state))
}

fn give_back(site: &Site, driver: &str, taken: &Takeover, plan: &mut Plan) -> anyhow::Result<()> {
    let hook = site.hook(driver);
    let finding = site.find(driver)?;
    let is_ours = matches!(finding, Finding::Installed(_));
    let mut is_back = false;
    for link in taken.links.iter().map(|link| site.at(link)).filter(|link| link.is_symlink()) {
        plan.steps.push(Step::Remove(link));
    }
    for moved in &taken.moved {
        let (from, to) = (site.at(&moved.from), site.at(&moved.to));
        if to.symlink_metadata().is_err() {
            // Otherwise the install was interrupted before this.
            if (from == hook && is_ours) || from.symlink_metadata().is_err() {
                plan.notes.push(format!("{} is gone, so {} cannot be restored", to.display(), from.display()));
            }
            continue;
        }
        let is_free = from.symlink_metadata().is_err() || (from == hook && is_ours);
        if !is_free && !is_same(&to, &from) {
            bail!(
                "{} is not what install put there: move it away, so that {} can be restored",
                from.display(),
                to.display()
            );
        }
        is_back |= from == hook;
        plan.steps.push(Step::MoveBack { from: to, to: from });
    }
    match finding {
        Finding::Installed(_) if !is_back => plan.steps.push(Step::Remove(hook)),
        Finding::Removed(_) if !is_back => plan.notes.push(format!("{} was already gone", hook.display())),
        Finding::Replaced(_) if !is_back => {
            plan.notes.push(format!("{} is not what install put there: it stays", hook.display()));
        }
        _ => {}
    }
    Ok(())
}
