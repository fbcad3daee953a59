//! What is to be done, found out before anything is, so that what cannot be done whole is not begun.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hookvisor::{HookState, Runtime};

use super::state::{Finding, Original, Site, Takeover};

/// By these, a script refers to its own place, where it may look for more.
const OWN_PLACE: [&str; 8] = ["$0", "${0", "BASH_SOURCE", "__file__", "argv[0]", "$PROGRAM_NAME", "__dir__", "FindBin"];

/// Steps, in order.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

/// One change to the file system.
#[derive(Debug)]
pub(super) enum Step {
    MakeDirectory(PathBuf),
    RemoveDirectory(PathBuf),
    /// Gives the file a second name; the next step takes the first, so that libvirt finds a hook at every moment.
    Move {
        from: PathBuf,
        to: PathBuf,
    },
    Write {
        path: PathBuf,
        text: String,
    },
    /// Takes the place of whatever has this name.
    Link {
        path: PathBuf,
        to: PathBuf,
    },
    /// Puts a file back over the link that took its place.
    MoveBack {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
}

/// As a sentence without its subject: "make …", to go with "would" too.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory(path) => write!(f, "make    {}/", path.display()),
            Self::RemoveDirectory(path) => write!(f, "remove  {}/, if it is empty", path.display()),
            Self::Move { from, to } | Self::MoveBack { from, to } => {
                write!(f, "move    {} to {}", from.display(), to.display())
            }
            Self::Write { path, .. } => {
                write!(f, "write   {}, which calls it there: it looks for files beside itself", path.display())
            }
            Self::Link { path, to } => write!(f, "link    {} to {}", path.display(), to.display()),
            Self::Remove(path) => write!(f, "remove  {}", path.display()),
        }
    }
}

impl Step {
    pub(super) fn makes_directory(&self) -> bool {
        matches!(self, Self::MakeDirectory(_))
    }

    pub(super) fn removes_directory(&self) -> bool {
        matches!(self, Self::RemoveDirectory(_))
    }

    fn perform(&self) -> io::Result<()> {
        match self {
            Self::MakeDirectory(path) => DirBuilder::new().mode(0o755).create(path),
            Self::RemoveDirectory(path) => match fs::remove_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                removed => removed,
            },
            Self::Move { from, to } => fs::hard_link(from, to),
            Self::Write { path, text } => {
                fs::write(path, text)?;
                fs::set_permissions(path, Permissions::from_mode(0o755))
            }
            Self::Link { path, to } => {
                let mut new = path.clone().into_os_string();
                new.push(".hookvisor-new");
                match fs::remove_file(&new) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                symlink(to, &new)?;
                fs::rename(&new, path)
            }
            Self::MoveBack { from, to } => {
                // Two names of one file, which is where a move that was interrupted leaves it: rename would do nothing.
                if one_file(from, to) { fs::remove_file(from) } else { fs::rename(from, to) }
            }
            Self::Remove(path) => fs::remove_file(path),
        }
    }
}

impl Plan {
    pub(super) fn perform(&self, which: impl Fn(&Step) -> bool) -> anyhow::Result<()> {
        for step in self.steps.iter().filter(|step| which(step)) {
            step.perform().with_context(|| format!("could not {}", step.to_string().replace("  ", "")))?;
        }
        Ok(())
    }
}

/// Plans to make hookvisor the hook of these drivers, and notes it in the site's state.
pub(super) fn install(site: &mut Site, drivers: &[&str], program: &Path) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for driver in drivers {
        let link = site.link(driver);
        let original = match site.find(driver)? {
            Finding::LinkedByHand(_) => continue,
            Finding::Installed(taken) if taken.program == program => continue,
            Finding::Installed(taken) => taken.original,
            Finding::Nothing => Original::None,
            Finding::Own => take_over(site, driver, &mut plan)?,
            Finding::Replaced(_) | Finding::Removed(_) => bail!(
                "{} is no longer the link that an earlier install made: run `hookvisor libvirt uninstall` first",
                link.display()
            ),
        };
        plan.steps.push(Step::Link { path: link, to: program.to_owned() });
        site.state.drivers.insert((*driver).to_owned(), Takeover { program: program.to_owned(), original });
    }
    if !plan.steps.is_empty() {
        let made = missing_directories(site);
        let below = |path: &PathBuf| path.strip_prefix(site.root()).map_or(path.clone(), Path::to_owned);
        let noted: Vec<PathBuf> = made.iter().map(below).collect();
        site.state.directories.extend(noted);
        plan.steps.splice(0..0, made.into_iter().map(Step::MakeDirectory));
    }
    Ok(plan)
}

/// What happens to a hook of the administrator's.
fn take_over(site: &Site, driver: &str, plan: &mut Plan) -> anyhow::Result<Original> {
    let (link, first, kept) = (site.link(driver), site.first(driver), site.kept(driver));
    refuse_unless_runnable(site, driver)?;
    for path in [&first, &kept] {
        if path.symlink_metadata().is_ok() {
            bail!("{} is in the way: {} would have to go there; move one of them away", path.display(), link.display());
        }
    }
    let original = if looks_beside_itself(&link)? { Original::Kept } else { Original::Moved };
    match original {
        Original::None => {}
        Original::Moved => plan.steps.push(Step::Move { from: link, to: first }),
        Original::Kept => {
            plan.steps.push(Step::Move { from: link, to: kept });
            plan.steps.push(Step::Write { path: first, text: site.forwarder(driver) });
        }
    }
    Ok(original)
}

/// A hook that hookvisor would not run would veto every start, where libvirt may have run it.
fn refuse_unless_runnable(site: &Site, driver: &str) -> anyhow::Result<()> {
    let inventory = Runtime::builder(site.libvirt_hooks()).only_driver(driver).build()?.inventory();
    let link = site.link(driver);
    let broken = inventory.hooks.into_iter().find(|hook| hook.path == link && hook.state == HookState::Broken);
    match broken {
        Some(hook) => {
            bail!("{} would veto every start: it could not be run: {}", link.display(), hook.reason.unwrap_or_default())
        }
        None => Ok(()),
    }
}

/// Whether a hook would miss its directory: a link's target may be relative to it, a script may look into it.
fn looks_beside_itself(hook: &Path) -> anyhow::Result<bool> {
    let unreadable = || format!("{} could not be read", hook.display());
    let found = fs::symlink_metadata(hook).with_context(unreadable)?;
    if found.is_symlink() {
        return Ok(true);
    }
    if found.permissions().mode() & 0o111 == 0 {
        // Nobody runs it.
        return Ok(false);
    }
    let content = fs::read(hook).with_context(unreadable)?;
    let script = content.starts_with(b"#!");
    Ok(script && OWN_PLACE.iter().any(|place| content.windows(place.len()).any(|w| w == place.as_bytes())))
}

fn missing_directories(site: &Site) -> Vec<PathBuf> {
    let mut missing = Vec::new();
    for directory in [site.libvirt_hooks(), site.hooks().to_owned(), site.state_directory()] {
        let mut absent: Vec<PathBuf> =
            directory.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        absent.reverse();
        missing.extend(absent.into_iter().filter(|path| !missing.contains(path)).collect::<Vec<_>>());
    }
    missing
}

/// Plans to take back what was installed for these drivers, and strikes it from the site's state.
pub(super) fn uninstall(site: &mut Site, drivers: &[&str]) -> anyhow::Result<Plan> {
    let mut plan = Plan::default();
    for driver in drivers {
        let Some(taken) = site.state.drivers.get(*driver).cloned() else { continue };
        give_back(site, driver, &taken, &mut plan)?;
        site.state.drivers.remove(*driver);
    }
    if site.state.drivers.is_empty() {
        let made = std::mem::take(&mut site.state.directories);
        plan.steps.extend(made.iter().rev().map(|path| Step::RemoveDirectory(site.root().join(path))));
    }
    Ok(plan)
}

fn give_back(site: &Site, driver: &str, taken: &Takeover, plan: &mut Plan) -> anyhow::Result<()> {
    let (link, first, kept) = (site.link(driver), site.first(driver), site.kept(driver));
    let original = match taken.original {
        Original::None => None,
        Original::Moved => Some(first.clone()),
        Original::Kept => Some(kept),
    };
    let finding = site.find(driver)?;
    let is_ours = matches!(finding, Finding::Installed(_));
    match original.filter(|path| path.symlink_metadata().is_ok()) {
        Some(original) => {
            if matches!(finding, Finding::Replaced(_)) && !one_file(&original, &link) {
                bail!(
                    "{} is no longer the link that install made: move it away, so that {} can go back there",
                    link.display(),
                    original.display()
                );
            }
            plan.steps.push(Step::MoveBack { from: original, to: link });
        }
        // The install did not come that far.
        None if !is_ours => {}
        None if taken.original == Original::None => plan.steps.push(Step::Remove(link)),
        None => bail!(
            "the hook that was {} before is no longer where install put it: put it there, or remove the link",
            link.display()
        ),
    }
    if taken.original == Original::Kept && first.symlink_metadata().is_ok() {
        if fs::read(&first).is_ok_and(|text| text != site.forwarder(driver).into_bytes()) {
            bail!("{} is no longer what install wrote: move it away", first.display());
        }
        plan.steps.push(Step::Remove(first));
    }
    Ok(())
}

fn one_file(a: &Path, b: &Path) -> bool {
    match (fs::symlink_metadata(a), fs::symlink_metadata(b)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}
