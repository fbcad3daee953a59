//! `hookvisor libvirt`: becoming libvirt's hook, and going back.

mod plan;
mod state;

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use hookvisor::LIBVIRT_DRIVERS;

use self::plan::{Plan, Step};
use self::state::{Finding, Site};
use super::streams::print;

/// Exit status of `status` where hookvisor is the hook of no driver, or something of it is out of place.
const NOT_INSTALLED: u8 = 1;

/// Become libvirt's hook, with the scripts that are there running on, or go back
#[derive(Debug, Parser)]
#[command(after_help = "\
install makes /etc/libvirt/hooks/DRIVER a link to hookvisor. A hook that is there moves to /etc/hookvisor/hooks/DRIVER, \
where hookvisor runs it first; one that looks for files beside itself stays in its directory under another name, and is \
called from there. /etc/libvirt/hooks/DRIVER.d stays libvirt's: it runs those hooks itself, after hookvisor. What was \
done is written to /var/lib/hookvisor/libvirt.json, and uninstall takes back exactly that.

Example: hookvisor libvirt install --dry-run")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make hookvisor the hook of libvirt's drivers
    Install(Install),
    /// Take back what install did
    Uninstall(Change),
    /// Tell what libvirt calls, and what install has done
    Status(Where),
}

#[derive(Debug, Parser)]
struct Install {
    #[command(flatten)]
    change: Change,
    /// What libvirt is to call [default: this program; with --root, /usr/bin/hookvisor]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

#[derive(Debug, Parser)]
struct Change {
    #[command(flatten)]
    at: Where,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The drivers, such as qemu and network [default: all]
    #[arg(value_name = "DRIVER", value_parser = PossibleValuesParser::new(LIBVIRT_DRIVERS))]
    drivers: Vec<String>,
}

#[derive(Debug, Parser)]
struct Where {
    /// Do it below another root directory, as for a package or an image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

pub(super) fn libvirt(args: Args) -> anyhow::Result<u8> {
    match args.command {
        Command::Install(args) => install(&args),
        Command::Uninstall(args) => uninstall(&args),
        Command::Status(args) => status(&args),
    }
}

impl Where {
    fn site(&self) -> anyhow::Result<Site> {
        Site::read(std::path::absolute(&self.root)?)
    }
}

impl Change {
    fn drivers(&self) -> Vec<&'static str> {
        let asked = |driver: &&str| self.drivers.is_empty() || self.drivers.iter().any(|d| d == driver);
        LIBVIRT_DRIVERS.into_iter().filter(asked).collect()
    }
}

fn install(args: &Install) -> anyhow::Result<u8> {
    let mut site = args.change.at.site()?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None if site.is_this_machine() => env::current_exe().context("this program does not find its own file")?,
        None => PathBuf::from("/usr/bin/hookvisor"),
    };
    anyhow::ensure!(program.is_absolute(), "--program {}: libvirt needs its absolute name", program.display());
    let plan = plan::install(&mut site, &args.change.drivers(), &program)?;
    if plan.steps.is_empty() {
        print(b"nothing to do: hookvisor is the hook of these drivers already\n")?;
        return Ok(0);
    }
    if !args.change.dry_run {
        // First what is going to be done, so that whatever stops this on its way can be taken back.
        plan.perform(Step::makes_directory)?;
        site.save()?;
        plan.perform(|step| !step.makes_directory())
            .context("not everything was done: `hookvisor libvirt uninstall` takes back what was")?;
    }
    print((plan.told(args.change.dry_run) + &advice(&program, site.hooks())).as_bytes())?;
    Ok(0)
}

fn uninstall(args: &Change) -> anyhow::Result<u8> {
    let mut site = args.at.site()?;
    let installed = site.state.drivers.len();
    let plan = plan::uninstall(&mut site, &args.drivers())?;
    if site.state.drivers.len() == installed {
        print(b"nothing to do: hookvisor was not installed for these drivers\n")?;
        return Ok(0);
    }
    if !args.dry_run {
        plan.perform(|step| !step.removes_directory())?;
        site.save()?;
        plan.perform(Step::removes_directory)?;
    }
    print((plan.told(args.dry_run) + RESTART).as_bytes())?;
    Ok(0)
}

fn status(args: &Where) -> anyhow::Result<u8> {
    let site = args.site()?;
    let mut in_order = true;
    let mut text = String::new();
    for driver in LIBVIRT_DRIVERS {
        let finding = site.find(driver)?;
        in_order &= matches!(finding, Finding::Installed(_));
        text += &format!("{driver:<8} {}\n", site.describe(driver, &finding));
    }
    print(text.as_bytes())?;
    Ok(if in_order { 0 } else { NOT_INSTALLED })
}

const RESTART: &str = "\
libvirt looks for its hooks when it starts: restart it, or send it SIGHUP (`systemctl reload libvirtd`, or virtqemud,
virtlxcd, virtnetworkd and the like, whichever run).
";

/// What the system beside libvirt wants to know of it.
fn advice(program: &Path, hooks: &Path) -> String {
    let (program, hooks) = (program.display(), hooks.display());
    let of_the_system = ["/bin/", "/sbin/", "/usr/bin/", "/usr/sbin/"]
        .iter()
        .any(|directory| program.to_string().strip_prefix(directory).is_some_and(|name| !name.contains('/')));
    let apparmor = if of_the_system {
        format!("AppArmor: nothing to do, libvirtd's profile lets it run {program}.\n")
    } else {
        format!(
            "AppArmor: where libvirtd is confined, add `{program} PUx,` to /etc/apparmor.d/local/usr.sbin.libvirtd and \
             reload\nits profile (`apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd`).\n"
        )
    };
    format!(
        "{RESTART}\
         SELinux: where it is enforcing, label the program and the hooks as libvirt's hooks are, and let those run \
         unconfined:\n\
         \x20 semanage fcontext -a -t virt_hook_t '{program}'\n\
         \x20 semanage fcontext -a -t virt_hook_t '{hooks}(/.*)?'\n\
         \x20 restorecon -RF '{program}' '{hooks}'\n\
         \x20 setsebool -P virt_hooks_unconfined on\n\
         {apparmor}"
    )
}

impl Plan {
    fn told(&self, dry_run: bool) -> String {
        let prefix = if dry_run { "would " } else { "" };
        self.steps.iter().map(|step| format!("{prefix}{step}\n")).collect()
    }
}
