//! `hookvisor libvirt`: installs hookvisor as libvirt's hook, and removes it.

mod host;
mod inspect;
mod install;
mod launcher;
mod mirror;
mod plan;
mod state;
mod status;
mod transfer;
mod uninstall;

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use hookvisor::{HookState, LIBVIRT_DRIVERS, Runtime};
use serde_json::json;

use self::install::{Directories, Request};
use self::plan::{Plan, Step};
use self::state::{EntryPoint, Site};
use self::status::Status;
use super::layout::{self, SMALL_PROGRAM};
use super::options::Format;
use super::streams::print;

/// Exit status of `status` if hookvisor is not the hook of every driver, or something is wrong.
const NOT_IN_ORDER: u8 = 1;

/// Install or remove hookvisor as libvirt's hook; existing scripts keep running
#[derive(Debug, Parser)]
#[command(after_help = "\
install writes /etc/libvirt/hooks/DRIVER, a small script that runs hookvisor. If hookvisor is missing, the script fails. \
A former hook of that name moves to /etc/libvirt/hookvisor, with links to the other files of /etc/libvirt/hooks next to \
it. The hooks in /etc/libvirt/hooks/DRIVER.d move to /etc/libvirt/hookvisor.d/DRIVER.d if hookvisor runs them in the \
same order with the same results; otherwise install says why they stay. hookvisor runs the former hooks first, then those \
in /etc/hookvisor/hooks.

install records its changes in /var/lib/hookvisor/libvirt.json. uninstall undoes exactly these.

Example: hookvisor libvirt install --dry-run")]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Install hookvisor as the hook of libvirt's drivers
    Install(Install),
    /// Remove hookvisor as libvirt's hook, and put every script back
    Uninstall(Change),
    /// Show which hooks libvirt calls, and what is wrong with them
    Status(Show),
    /// Print how hookvisor treats libvirt's hooks in a root directory, seen from inside
    #[command(hide = true)]
    Inspect(Where),
}

#[derive(Debug, Parser)]
struct Install {
    #[command(flatten)]
    change: Change,
    /// The program that runs as libvirt's hook [default: this program, or hookvisor-hook next to it; with --root, /usr/bin/hookvisor]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Also take over the hooks in DRIVER.d whose order or results may change
    #[arg(long, conflicts_with = "only_scripts")]
    all: bool,
    /// Leave all hooks in DRIVER.d to libvirt
    #[arg(long)]
    only_scripts: bool,
    /// Link DRIVER directly to the program. This saves half a millisecond per call, but if the program disappears,
    /// libvirt starts guests without asking. The default for hookvisor-hook, which its package removes only after
    /// uninstall
    #[arg(long)]
    link: bool,
}

#[derive(Debug, Parser)]
struct Change {
    #[command(flatten)]
    show: Show,
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The drivers, such as qemu and network [default: all]
    #[arg(value_name = "DRIVER", value_parser = PossibleValuesParser::new(LIBVIRT_DRIVERS))]
    drivers: Vec<String>,
}

#[derive(Debug, Parser)]
struct Show {
    #[command(flatten)]
    at: Where,
    /// Output format; the JSON field `changed` says whether anything was changed
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Debug, Parser)]
struct Where {
    /// Use an alternate root directory, for packages and images
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub(super) fn libvirt(args: Args) -> anyhow::Result<u8> {
    match args.action {
        Action::Install(args) => install(&args),
        Action::Uninstall(args) => uninstall(&args),
        Action::Status(args) => status(&args),
        Action::Inspect(args) => {
            print(inspect::inside(&args.root)?.as_bytes())?;
            Ok(0)
        }
    }
}

/// Problems with this machine's installation, and hooks that hookvisor does not run, for `check`. Empty if hookvisor is
/// not libvirt's hook.
pub(super) fn findings() -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let site = Site::read(PathBuf::from("/"))?;
    if site.state.drivers.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let status = Status::of(&site)?;
    Ok((status.problems().to_vec(), status.notes().to_vec()))
}

/// The hooks that libvirt called before the install, by driver, in libvirt's order.
pub(super) fn kept_hooks() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let site = Site::read(PathBuf::from("/"))?;
    let drivers = site.state.drivers.keys();
    let of_driver = |driver: &String| site.layout.kept_hooks(driver).map(|path| (driver.clone(), path));
    Ok(drivers.flat_map(of_driver).collect())
}

impl Change {
    fn site(&self) -> anyhow::Result<Site> {
        self.show.site()
    }

    fn drivers(&self) -> Vec<&'static str> {
        let asked = |driver: &&str| self.drivers.is_empty() || self.drivers.iter().any(|d| d == driver);
        LIBVIRT_DRIVERS.into_iter().filter(asked).collect()
    }
}

impl Show {
    fn site(&self) -> anyhow::Result<Site> {
        Site::read(std::path::absolute(&self.at.root)?)
    }
}

impl Install {
    fn directories(&self) -> Directories {
        match (self.all, self.only_scripts) {
            (true, _) => Directories::All,
            (_, true) => Directories::None,
            _ => Directories::IfSame,
        }
    }

    fn program(&self, site: &Site) -> anyhow::Result<String> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None if site.is_this_machine() => small_program(this_program()?),
            None => PathBuf::from("/usr/bin/hookvisor"),
        };
        anyhow::ensure!(program.is_absolute(), "--program {}: write its absolute path", program.display());
        let text = program.to_str().filter(|text| !text.contains('\n'));
        text.map(str::to_owned).with_context(|| format!("--program {program:?}: its path is not one line of UTF-8"))
    }
}

/// This program under the name that it was called by, so that a link such as one of /etc/alternatives stays in use.
fn this_program() -> anyhow::Result<PathBuf> {
    let own = layout::this_program().context("could not find the path of this program")?;
    let called = PathBuf::from(env::args_os().next().unwrap_or_default());
    let is_own = |path: &PathBuf| path.is_absolute() && path.canonicalize().is_ok_and(|path| path == own);
    let search = env::var_os("PATH").unwrap_or_default();
    let candidates = match called.components().count() {
        1 => env::split_paths(&search).map(|directory| directory.join(&called)).collect(),
        _ => vec![std::path::absolute(&called).unwrap_or_default()],
    };
    Ok(candidates.into_iter().find(is_own).unwrap_or(own))
}

/// The smaller program for libvirt's calls, if a package has installed it next to this one.
fn small_program(program: PathBuf) -> PathBuf {
    let small = program.with_file_name(SMALL_PROGRAM);
    if small.is_file() { small } else { program }
}

fn is_small(program: &Path) -> bool {
    program.file_name() == Some(OsStr::new(SMALL_PROGRAM))
}

fn install(args: &Install) -> anyhow::Result<u8> {
    let change = &args.change;
    let mut site = change.site()?;
    let program = args.program(&site)?;
    // The package uninstalls before it removes its small program, so a link to that never dangles.
    let entry_point = if args.link || is_small(Path::new(&program)) { EntryPoint::Link } else { EntryPoint::Launcher };
    let drivers = change.drivers();
    let request = Request { drivers: &drivers, program: &program, entry_point, directories: args.directories() };
    let (plan, state) = install::plan(&site, &request)?;
    let advice = if plan.steps.is_empty() { Vec::new() } else { host::advice(&site, &program) };
    if !change.dry_run && !plan.steps.is_empty() {
        let before = std::mem::replace(&mut site.state, state);
        perform_install(&mut site, &plan, &drivers).inspect_err(|_| {
            if site.state.drivers.is_empty() {
                site.state = before;
            }
        })?;
    }
    show(change, &plan, &advice, "nothing to do: hookvisor is the hook of these drivers")
}

/// Performs an install. The record is written first, so that an interrupted install can be undone.
fn perform_install(site: &mut Site, plan: &Plan, drivers: &[&str]) -> anyhow::Result<()> {
    plan.perform(Step::makes_directory)?;
    site.save()?;
    let Err(error) = plan.perform(|step| !step.makes_directory()) else { return Ok(()) };
    match perform_uninstall(site, drivers) {
        Ok(_) => Err(error.context("nothing was changed: the first steps were undone")),
        Err(_) => Err(error.context("not everything was done: `hookvisor libvirt uninstall` undoes what was")),
    }
}

fn perform_uninstall(site: &mut Site, drivers: &[&str]) -> anyhow::Result<Plan> {
    let (plan, state) = uninstall::plan(site, drivers)?;
    plan.perform(|step| !step.removes_directory())?;
    site.state = state;
    site.save()?;
    plan.perform(Step::removes_directory)?;
    Ok(plan)
}

fn uninstall(change: &Change) -> anyhow::Result<u8> {
    let mut site = change.site()?;
    let drivers = change.drivers();
    let installed: Vec<&str> =
        drivers.iter().copied().filter(|driver| site.state.drivers.contains_key(*driver)).collect();
    let mut plan =
        if change.dry_run { uninstall::plan(&site, &drivers)?.0 } else { perform_uninstall(&mut site, &drivers)? };
    plan.notes.extend(installed.iter().filter_map(|driver| no_longer_run(&site, driver)));
    let advice = if installed.is_empty() { Vec::new() } else { vec![host::RESTART.to_owned()] };
    show(change, &plan, &advice, "nothing to do: hookvisor was not installed for these drivers")
}

/// The hooks of hookvisor's own directory that libvirt no longer calls.
fn no_longer_run(site: &Site, driver: &str) -> Option<String> {
    let inventory = Runtime::builder(site.hooks()).only_driver(driver).build().ok()?.inventory();
    let hooks = inventory.hooks.iter().filter(|hook| hook.state != HookState::Skipped);
    let hooks: Vec<String> = hooks.map(|hook| hook.path.display().to_string()).collect();
    (!hooks.is_empty()).then(|| format!("no longer run for {driver}: {}", hooks.join(", ")))
}

fn show(change: &Change, plan: &Plan, advice: &[String], nothing: &str) -> anyhow::Result<u8> {
    let text = match change.show.format {
        Format::Json => {
            let mut result = plan.to_json(change.dry_run);
            result["advice"] = json!(advice);
            serde_json::to_string_pretty(&result)? + "\n"
        }
        Format::Text => {
            let head = if plan.steps.is_empty() { format!("{nothing}\n") } else { String::new() };
            let advice = advice.iter().map(|advice| format!("{advice}.\n"));
            head + &plan.to_text(change.dry_run) + &advice.collect::<String>()
        }
    };
    print(text.as_bytes())?;
    Ok(0)
}

fn status(args: &Show) -> anyhow::Result<u8> {
    let status = Status::of(&args.site()?)?;
    let text = match args.format {
        Format::Json => serde_json::to_string_pretty(&status.to_json())? + "\n",
        Format::Text => status.to_text(),
    };
    print(text.as_bytes())?;
    Ok(if status.is_in_order() { 0 } else { NOT_IN_ORDER })
}
