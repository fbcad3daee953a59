//! Shows what libvirt calls, what runs it, and what is wrong.

use std::path::{Path, PathBuf};

use hookvisor::{Config, Exec, LIBVIRT_DRIVERS, LaunchError};
use serde_json::{Value, json};

use super::plan::text;
use super::state::{EntryPoint, Finding, Site, Takeover};
use super::{host, inspect, install, mirror};

/// The findings, for a person or a program.
#[derive(Debug)]
pub(super) struct Status {
    drivers: Vec<Driver>,
    /// Problems, one sentence each.
    problems: Vec<String>,
    /// Remarks without a problem.
    notes: Vec<String>,
}

#[derive(Debug)]
struct Driver {
    name: &'static str,
    state: &'static str,
    text: String,
    program: Option<String>,
    runs_first: Vec<PathBuf>,
    is_on_host: bool,
}

impl Status {
    pub(super) fn of(site: &Site) -> anyhow::Result<Self> {
        let mut status = Self { drivers: Vec::new(), problems: Vec::new(), notes: Vec::new() };
        let on_host = host::drivers(site);
        for name in LIBVIRT_DRIVERS {
            let finding = site.find(name)?;
            let is_on_host = on_host.contains(&name);
            if is_on_host || finding != Finding::Nothing {
                let driver = status.driver(site, name, &finding, is_on_host);
                status.drivers.push(driver);
            }
        }
        if !site.state.drivers.is_empty() {
            status.problems.extend(problems(site));
        }
        status.look_outside(site);
        Ok(status)
    }

    /// Whether hookvisor is the hook of every driver on the host, without problems.
    pub(super) fn is_in_order(&self) -> bool {
        self.problems.is_empty() && self.drivers.iter().all(|driver| !driver.is_on_host || driver.state == "installed")
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn to_text(&self) -> String {
        let drivers = self.drivers.iter().map(|driver| format!("{:<8} {}\n", driver.name, driver.text));
        let problems = self.problems.iter().map(|problem| format!("PROBLEM  {problem}\n"));
        let notes = self.notes.iter().map(|note| format!("note     {note}\n"));
        drivers.chain(problems).chain(notes).collect()
    }

    pub(super) fn to_json(&self) -> Value {
        let driver = |driver: &Driver| {
            json!({
                "driver": driver.name,
                "state": driver.state,
                "program": driver.program,
                "runs_first": driver.runs_first.iter().map(|path| text(path)).collect::<Vec<_>>(),
                "on_this_host": driver.is_on_host,
            })
        };
        json!({
            "changed": false,
            "in_order": self.is_in_order(),
            "drivers": self.drivers.iter().map(driver).collect::<Vec<_>>(),
            "problems": self.problems,
            "notes": self.notes,
        })
    }

    fn driver(&mut self, site: &Site, name: &'static str, finding: &Finding, is_on_host: bool) -> Driver {
        let hook = site.hook(name);
        let path = hook.display();
        let (state, text) = match finding {
            Finding::Nothing => ("absent", "not installed: libvirt has no hook".to_owned()),
            Finding::Own => ("own", format!("not installed: libvirt calls {path}")),
            Finding::LinkedByHand(program) => {
                ("linked", format!("linked by hand: {path} is a link to {}", program.display()))
            }
            Finding::Unrecorded => {
                let record = site.layout.state();
                let why = format!("{path} was written by an install that {} does not know", record.display());
                self.problems.push(format!("{why}: remove it, and install again"));
                ("unrecorded", why)
            }
            Finding::Removed(_) => {
                self.problems.push(format!("{path}, which install made, is gone: {}", mend(name)));
                ("removed", format!("no hook: {path}, which install made, is gone"))
            }
            Finding::Replaced(_) => {
                self.problems.push(format!("{path} is not what install put there: {}", mend(name)));
                ("replaced", format!("{path}, which is not what install put there"))
            }
            Finding::Installed(taken) => ("installed", installed(site, &hook, taken)),
        };
        let (program, runs_first) = match finding {
            Finding::Installed(taken) => (Some(taken.program.clone()), runs_first(site, taken)),
            _ => (None, Vec::new()),
        };
        Driver { name, state, text, program, runs_first, is_on_host }
    }

    /// Hooks that hookvisor does not run.
    fn look_outside(&mut self, site: &Site) {
        for driver in site.state.drivers.keys() {
            let hooks = site.run_by_libvirt(driver);
            let directory = site.directory(driver);
            if let Some(first) = hooks.first() {
                let count = if hooks.len() == 1 { "1 hook".to_owned() } else { format!("{} hooks", hooks.len()) };
                self.notes.push(format!(
                    "libvirt runs {count} in {} itself, without a timeout, as {}: `hookvisor libvirt install --all` takes \
                     them over",
                    directory.display(),
                    first.display()
                ));
            }
        }
        let inspected = inspect::hooks(site).unwrap_or_default();
        for (driver, hooks) in install::uncalled(site, &inspected) {
            self.notes.push(install::uncalled_note(site, &driver, &hooks));
        }
    }
}

fn mend(driver: &str) -> String {
    format!("run `hookvisor libvirt uninstall {driver}` and `hookvisor libvirt install {driver}`")
}

fn installed(site: &Site, hook: &Path, taken: &Takeover) -> String {
    let verb = match taken.entry_point {
        EntryPoint::Launcher => "runs",
        EntryPoint::Link => "is a link to",
    };
    let first: Vec<String> = runs_first(site, taken).iter().map(|path| path.display().to_string()).collect();
    let first = if first.is_empty() { String::new() } else { format!(", which first runs {}", first.join(", ")) };
    format!("{} {verb} {}{first}", hook.display(), taken.program)
}

/// The hooks that libvirt called before, at their current paths.
fn runs_first(site: &Site, taken: &Takeover) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = taken.moved.iter().map(|moved| site.at(&moved.to)).collect();
    for link in taken.links.iter().map(|link| site.at(link)) {
        if let Some(path) = paths.iter_mut().find(|path| path.file_name() == link.file_name()) {
            *path = link;
        }
    }
    paths
}

fn problems(site: &Site) -> Vec<String> {
    let mut problems = Vec::new();
    let mut programs: Vec<&str> = site.state.drivers.values().map(|taken| taken.program.as_str()).collect();
    programs.sort_unstable();
    programs.dedup();
    problems.extend(programs.into_iter().filter_map(|program| program_fault(site, program)));
    for moved in site.state.moved().filter(|moved| !site.at(&moved.to).exists()) {
        let (from, to) = (site.at(&moved.from), site.at(&moved.to));
        problems.push(format!("{} is gone: install moved {} there", to.display(), from.display()));
    }
    for path in mirror::unreachable(site) {
        problems.push(format!(
            "{} is newer than the install, so the moved hooks do not find it next to themselves: run `hookvisor libvirt install`",
            path.display()
        ));
    }
    if let Err(error) = Config::read(&site.layout.config()) {
        problems.push(format!("every start is vetoed: {error}"));
    }
    problems
}

/// Why libvirt cannot or should not run the program.
fn program_fault(site: &Site, program: &str) -> Option<String> {
    let path = site.at(Path::new(program.trim_start_matches('/')));
    let again = "Install hookvisor again, or run `hookvisor libvirt uninstall`";
    let path = if site.is_this_machine() { path } else { site.end_of_links(&path).unwrap_or(path) };
    match Exec::new(path).check() {
        Err(LaunchError::NotFound(why)) => {
            Some(format!("every start is vetoed, since {program} is missing: {why}. {again}"))
        }
        Err(why) => Some(format!("libvirt runs {program} as root, but {why}")),
        Ok(()) => None,
    }
}
