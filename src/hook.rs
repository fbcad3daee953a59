//! Hooks: where they live, in which order they are called, and what is ready to be called.

pub(crate) mod discovery;
pub(crate) mod file;
pub(crate) mod settings;
pub(crate) mod trust;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::discovery::Found;
use self::file::HookFile;
use self::settings::Settings;
use self::trust::Trust;
use crate::backend::{Backend, LaunchError, Program};
use crate::event::Event;
use crate::limits::Limits;
use crate::report::{Kind, Skipped};

/// What every WebAssembly binary begins with.
const WASM_MAGIC: &[u8] = b"\0asm";

/// The event that a hook in a directory of its own is for: `<driver>.d/<object>/<operation>/<sub-operation>/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) Vec<OsString>);

impl Scope {
    fn includes(&self, event: &Event) -> bool {
        self.0.iter().zip(event.arguments()).all(|(name, argument)| name == argument)
    }
}

/// What became of a hook's file when it was loaded.
pub(crate) enum State {
    Ready(Box<dyn Program>),
    /// It cannot be run, so it vetoes every start that it would have been asked about.
    Broken(LaunchError),
    /// It is not to be run.
    Skipped(String),
}

/// A hook's file, as it was found and loaded.
pub(crate) struct Hook {
    pub(crate) path: Arc<Path>,
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    pub(crate) settings: Settings,
    pub(crate) state: State,
}

/// All hooks of a directory, by driver, each driver's in the order in which they are called.
#[derive(Default)]
pub(crate) struct HookSet {
    pub(crate) drivers: BTreeMap<String, Vec<Hook>>,
    /// Files that no event leads to.
    pub(crate) strays: Vec<Skipped>,
}

impl HookSet {
    /// The hooks for this event, in order.
    pub(crate) fn of_event(&self, event: &Event) -> impl Iterator<Item = &Hook> {
        let hooks = self.drivers.get(event.driver()).map_or(&[][..], Vec::as_slice);
        hooks.iter().filter(|hook| hook.scope.includes(event) && hook.settings.apply_to(event))
    }
}

/// Turns files into hooks that can be called.
pub(crate) struct Loader<'a> {
    /// The first that claims a file gets it.
    pub(crate) backends: &'a [Box<dyn Backend>],
    pub(crate) limits: &'a Limits,
    pub(crate) trust: Trust,
}

impl Loader<'_> {
    pub(crate) fn load_found(&self, found: Found) -> Hook {
        let Found { path, scope, problem } = found;
        match problem {
            Some(why) => Self::unread(path, scope, State::Broken(LaunchError::Refused(why))),
            None => self.load(path, scope),
        }
    }

    pub(crate) fn load(&self, path: PathBuf, scope: Scope) -> Hook {
        if file::is_mask(&path) {
            return Self::unread(path, scope, State::Skipped("it is masked by a link to /dev/null".to_owned()));
        }
        let file = match HookFile::open(&path, self.trust) {
            Ok(file) => file,
            Err(why) => return Self::unread(path, scope, State::Broken(why)),
        };
        let is_wasm = file.head.starts_with(WASM_MAGIC);
        let kind = if is_wasm { Kind::Wasm } else { kind_by_name(&path) };
        if !file.is_executable() {
            let why = format!("it is not executable: run `chmod +x {}` if it is to be called", path.display());
            return Hook { path: path.into(), kind, scope, settings: Settings::default(), state: State::Skipped(why) };
        }
        let (settings, state) = match Settings::of_hook(&path, self.trust) {
            Ok(settings) => {
                let state = self.make_ready(file, &settings).map_or_else(State::Broken, State::Ready);
                (settings, state)
            }
            Err(why) => (Settings::default(), State::Broken(why)),
        };
        Hook { path: path.into(), kind, scope, settings, state }
    }

    fn make_ready(&self, file: HookFile, settings: &Settings) -> Result<Box<dyn Program>, LaunchError> {
        let is_wasm = file.head.starts_with(WASM_MAGIC);
        if !is_wasm && kind_by_name(&file.path) == Kind::Wasm {
            let why = "its name ends in .wasm, but it is no WebAssembly (it does not begin with \\0asm): build it again, or rename it";
            return Err(LaunchError::Refused(why.to_owned()));
        }
        match self.backends.iter().find(|backend| backend.claims(&file.head)) {
            Some(backend) if is_wasm == (backend.kind() == Kind::Wasm) => backend.load(file, settings, self.limits),
            _ => Err(LaunchError::Refused(
                "it is a WebAssembly module, and this build of hookvisor runs native hooks only".to_owned(),
            )),
        }
    }

    fn unread(path: PathBuf, scope: Scope, state: State) -> Hook {
        let kind = kind_by_name(&path);
        Hook { path: path.into(), kind, scope, settings: Settings::default(), state }
    }
}

/// The kind of a file that says nothing itself.
fn kind_by_name(path: &Path) -> Kind {
    if path.extension().is_some_and(|e| e == "wasm") { Kind::Wasm } else { Kind::Native }
}
