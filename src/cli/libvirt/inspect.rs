//! Inspects how hookvisor would treat the hooks in libvirt's directory, before it runs them.

use std::env;
use std::os::unix::fs::chroot;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use hookvisor::{HookState, Inventory, Runtime};
use serde_json::Value;

use super::state::Site;
use crate::cli::layout::Layout;
use crate::cli::options::SERVICE_PATH;

/// A file in libvirt's directory that hookvisor would treat as a hook.
#[derive(Debug)]
pub(super) struct Inspected {
    pub(super) driver: String,
    /// Its path below libvirt's directory, or below `<driver>.d` if it is in there.
    pub(super) below: PathBuf,
    pub(super) state: HookState,
    pub(super) reason: String,
    /// Whether it is in a per-event directory.
    pub(super) is_nested: bool,
    path: PathBuf,
}

impl Inspected {
    pub(super) fn is(&self, path: &Path) -> bool {
        self.path == path
    }
}

/// Inspects libvirt's directory.
///
/// In another root, interpreters and absolute links are relative to that root, so a separate process inspects it from
/// inside.
pub(super) fn hooks(site: &Site) -> anyhow::Result<Vec<Inspected>> {
    if !site.layout.libvirt_hooks().is_dir() {
        return Ok(Vec::new());
    }
    let inventory =
        if site.is_this_machine() { serde_json::to_value(inventory()?)? } else { from_inside(site.root())? };
    let hooks = inventory["hooks"].as_array().context("the inventory has no hooks")?;
    hooks.iter().map(|hook| inspected(site, hook)).collect()
}

fn inspected(site: &Site, hook: &Value) -> anyhow::Result<Inspected> {
    let text = |name: &str| hook[name].as_str().unwrap_or_default().to_owned();
    let driver = text("driver");
    let path = site.at(Path::new(text("path").trim_start_matches('/')));
    let below = path.strip_prefix(site.directory(&driver)).or_else(|_| path.strip_prefix(site.layout.libvirt_hooks()));
    Ok(Inspected {
        below: below.unwrap_or(&path).to_owned(),
        state: match text("state").as_str() {
            "ready" => HookState::Ready,
            "skipped" => HookState::Skipped,
            "broken" => HookState::Broken,
            other => bail!("a hook's state is {other:?}"),
        },
        reason: text("reason"),
        is_nested: hook["event"].as_array().is_some_and(|event| !event.is_empty()),
        driver,
        path,
    })
}

fn inventory() -> anyhow::Result<Inventory> {
    let directory = Layout::of_this_machine().libvirt_hooks();
    Ok(Runtime::builder(directory).search_path(SERVICE_PATH).build()?.inventory())
}

fn from_inside(root: &Path) -> anyhow::Result<Value> {
    let program = env::current_exe().context("could not find the path of this program")?;
    let mut child = Command::new(program);
    child.args(["libvirt", "inspect", "--root"]).arg(root).stdin(Stdio::null());
    let ran = child.output().context("hookvisor could not be started inside the root to inspect the hooks")?;
    if !ran.status.success() {
        bail!("{}", String::from_utf8_lossy(&ran.stderr).trim().trim_start_matches("hookvisor: "));
    }
    serde_json::from_slice(&ran.stdout).context("the inventory is not JSON")
}

/// Enters the root, and returns the inventory of libvirt's directory there as JSON.
pub(super) fn inside(root: &Path) -> anyhow::Result<String> {
    let entered = chroot(root).and_then(|()| env::set_current_dir("/"));
    entered.with_context(|| {
        format!(
            "inspecting the hooks below {} needs root privileges, since hookvisor enters that directory",
            root.display()
        )
    })?;
    Ok(serde_json::to_string(&inventory()?)?)
}
