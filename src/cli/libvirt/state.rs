//! What install has done, as it is written down, and what is found in its place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hookvisor::Config;
use serde::{Deserialize, Serialize};

use crate::cli::layout::Layout;

/// Below one root: what has been done, and where things are.
#[derive(Debug)]
pub(super) struct Site {
    root: PathBuf,
    layout: Layout,
    hooks: PathBuf,
    pub(super) state: State,
}

/// What install has done. The file's fields are read by later versions too.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The directories that were made, outermost first, below the root.
    pub(super) directories: Vec<PathBuf>,
    /// By driver.
    pub(super) drivers: BTreeMap<String, Takeover>,
}

/// How one driver's hook was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Takeover {
    /// What libvirt's hook is a link to.
    pub(super) program: PathBuf,
    /// What became of the hook that was there before.
    pub(super) original: Original,
}

/// What became of a hook that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Original {
    /// There was none.
    None,
    /// It is in hookvisor's directory now.
    Moved,
    /// It has another name in libvirt's directory, and a script in hookvisor's directory calls it there.
    Kept,
}

/// What is found where libvirt looks for a driver's hook.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Nothing,
    /// The link that install made.
    Installed(Takeover),
    /// A link to hookvisor that install did not make.
    LinkedByHand(PathBuf),
    /// A hook of the administrator's, where install has not been.
    Own,
    /// Something else than the link that install made.
    Replaced(Takeover),
    /// Not the link that install made, which is gone.
    Removed(Takeover),
}

impl Site {
    pub(super) fn read(root: PathBuf) -> anyhow::Result<Self> {
        let layout = Layout::below(&root);
        let config = Config::read(&layout.config())?;
        if !config.hooks.starts_with(&root) {
            bail!(
                "the configuration {} names the hooks directory {}, which is not below {}",
                layout.config().display(),
                config.hooks.display(),
                root.display()
            );
        }
        let path = layout.state();
        let state = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::default(),
            Err(error) => return Err(error).context(format!("{} could not be read", path.display())),
        };
        Ok(Self { root, layout, hooks: config.hooks, state })
    }

    /// Writes down what has been done; removes the file if that is nothing.
    pub(super) fn save(&self) -> anyhow::Result<()> {
        let path = self.layout.state();
        let written = if self.state.drivers.is_empty() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            }
        } else {
            let text = serde_json::to_string_pretty(&self.state)? + "\n";
            let new = path.with_extension("json.new");
            fs::write(&new, text).and_then(|()| fs::File::open(&new)?.sync_all()).and_then(|()| fs::rename(&new, &path))
        };
        written.with_context(|| format!("{} could not be written", path.display()))
    }

    pub(super) fn is_this_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// hookvisor's hooks directory.
    pub(super) fn hooks(&self) -> &Path {
        &self.hooks
    }

    /// libvirt's hooks directory.
    pub(super) fn libvirt_hooks(&self) -> PathBuf {
        self.layout.libvirt_hooks()
    }

    pub(super) fn state_directory(&self) -> PathBuf {
        self.layout.state().parent().map_or_else(|| self.root.clone(), Path::to_owned)
    }

    /// Where libvirt looks for a driver's hook.
    pub(super) fn link(&self, driver: &str) -> PathBuf {
        self.libvirt_hooks().join(driver)
    }

    /// Where hookvisor looks for a driver's first hook.
    pub(super) fn first(&self, driver: &str) -> PathBuf {
        self.hooks.join(driver)
    }

    /// The other name of a hook that stays in libvirt's directory. libvirt passes over it.
    pub(super) fn kept(&self, driver: &str) -> PathBuf {
        self.libvirt_hooks().join(format!("{driver}.before-hookvisor"))
    }

    /// The script that calls a hook which stayed. It finds its way from its own place, so that it is right on the machine
    /// that an image ends up on, too.
    pub(super) fn forwarder(&self, driver: &str) -> String {
        let standard = Config::without(&self.layout.config()).hooks == self.hooks;
        let directory = if standard { "${0%/hookvisor/hooks/*}/libvirt/hooks" } else { "/etc/libvirt/hooks" };
        format!(
            "#!/bin/sh\n\
             # Made by `hookvisor libvirt install`; `hookvisor libvirt uninstall` removes it.\n\
             # The hook that was libvirt's looks for files beside itself, so it stays in its directory.\n\
             exec \"{directory}/{driver}.before-hookvisor\" \"$@\"\n"
        )
    }

    pub(super) fn find(&self, driver: &str) -> anyhow::Result<Finding> {
        let path = self.link(driver);
        let taken = self.state.drivers.get(driver).cloned();
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(taken.map_or(Finding::Nothing, Finding::Removed));
            }
            Err(error) => return Err(error).context(format!("{} could not be examined", path.display())),
        };
        let target = if found.is_symlink() { fs::read_link(&path).ok() } else { None };
        Ok(match (taken, target) {
            (Some(taken), Some(target)) if target == taken.program => Finding::Installed(taken),
            (Some(taken), _) => Finding::Replaced(taken),
            (None, Some(target)) if target.file_name().is_some_and(|name| name == "hookvisor") => {
                Finding::LinkedByHand(target)
            }
            (None, _) if found.is_dir() => bail!("{} is a directory, not a hook", path.display()),
            (None, _) => Finding::Own,
        })
    }

    /// A finding, for a person.
    pub(super) fn describe(&self, driver: &str, finding: &Finding) -> String {
        let (link, first) = (self.link(driver), self.first(driver));
        let (link, first) = (link.display(), first.display());
        match finding {
            Finding::Nothing => "no hook".to_owned(),
            Finding::Own => format!("{link}, without hookvisor"),
            Finding::LinkedByHand(program) => format!("{}, by a link that install did not make", program.display()),
            Finding::Removed(_) => format!("no hook: the link {link} that install made is gone"),
            Finding::Replaced(_) => format!("{link}, which is no longer the link that install made"),
            Finding::Installed(Takeover { program, original }) => {
                let program = program.display();
                match original {
                    Original::None => format!("{program}"),
                    Original::Moved => format!("{program}, which first runs {first}, libvirt's hook before"),
                    Original::Kept => {
                        format!("{program}, which first runs {}, libvirt's hook before", self.kept(driver).display())
                    }
                }
            }
        }
    }
}
