//! Loads hook files.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::hooks::{Hook, Loaded};
use crate::backend::{Backend, Calls, Program};
use crate::hook::digest::FileDigest;
use crate::hook::discovery::Found;
use crate::hook::error::LaunchError;
use crate::hook::file::{self, HookFile};
use crate::hook::kind::Kind;
use crate::hook::mask;
use crate::hook::scope::Scope;
use crate::hook::settings::{self, Confine, Settings};
use crate::hook::skipped::Skipped;
use crate::hook::trust::Trust;
use crate::limits::Limits;

pub(crate) struct Loader<'a> {
    /// One per kind of hook that this build supports.
    pub(crate) backends: &'a [Box<dyn Backend>],
    pub(crate) limits: &'a Limits,
    pub(crate) trust: Trust,
    /// The trust rule for files with grants.
    pub(crate) grants: Trust,
    /// Whether every native hook is confined.
    pub(crate) confine_all: bool,
    /// Whether the hooks are to be run without their grants, to see what they use.
    pub(crate) learns: bool,
    pub(crate) calls: Calls,
}

impl Loader<'_> {
    /// Loads one found path. A path that is not a hook is the error.
    pub(crate) fn load_found(&self, found: Found) -> Result<Hook, Skipped> {
        let Found { path, scope, problem } = found;
        if let Some(why) = problem {
            return Ok(Self::unread(path, scope, Loaded::Broken(LaunchError::Refused(why))));
        }
        let hook = self.load(path, scope);
        match &hook.loaded {
            Loaded::Skipped(_) if !file::is_mask(&hook.path) => match not_a_hook(&hook.path, self.trust) {
                Some(reason) => Err(Skipped { path: hook.path.to_path_buf(), reason: reason.to_owned() }),
                None => Ok(hook),
            },
            _ => Ok(hook),
        }
    }

    pub(crate) fn load(&self, path: PathBuf, scope: Scope) -> Hook {
        if file::is_mask(&path) {
            if let Err(error) = file::check_way(&path, self.trust) {
                return Self::unread(path, scope, Loaded::Broken(LaunchError::Refused(error.to_string())));
            }
            if let Err((loaded, disabled_until)) = self.masked(&path) {
                return Hook { disabled_until, ..Self::unread(path, scope, loaded) };
            }
        }
        let file = match HookFile::open(&path, self.trust) {
            Ok(file) => file,
            Err(why) => return Self::unread(path, scope, Loaded::Broken(why)),
        };
        let promised = Kind::of_name(&path);
        let kind = if file.kind() == Kind::Wasm { Kind::Wasm } else { promised };
        let hook =
            |settings, loaded, notes| Hook { settings, notes, kind, ..Self::unread(path.clone(), scope, loaded) };
        if !file.is_executable() {
            let why = format!("it is not executable: run `chmod +x {}` to have it called", path.display());
            return hook(Settings::default(), Loaded::Skipped(why), Vec::new());
        }
        match Settings::of_hook(&path, self.trust) {
            Ok(settings) => {
                let (settings, loaded, notes) = self.with_settings(file, kind, settings);
                hook(settings, loaded, notes)
            }
            Err(why) => hook(Settings::default(), Loaded::Broken(why), Vec::new()),
        }
    }

    /// Loads a hook's code. Returns what remains of its settings, and notes for its reports.
    fn with_settings(&self, file: HookFile, kind: Kind, mut settings: Settings) -> (Settings, Loaded, Vec<String>) {
        let settings_file = || settings::file_name(&file.path);
        if settings.enabled == Some(false) {
            let why = format!("`enabled = false` in {}", settings_file().display());
            return (settings, Loaded::Skipped(why), Vec::new());
        }
        if settings.nested.is_some() && !is_drivers_own(&file.path) {
            let why = format!(
                "its settings {} have `nested`, which only the hook named after its driver can have: remove the line",
                settings_file().display()
            );
            return (settings, Loaded::Broken(LaunchError::Refused(why)), Vec::new());
        }
        if self.learns {
            settings.remove_confinement(kind);
        }
        let notes = self.refuse_grants(&file.path, &mut settings).into_iter().collect();
        let ready = self.confine(kind, &mut settings).and_then(|()| self.check_environment(&settings));
        let ready = ready.and_then(|()| self.make_ready(file, &settings));
        (settings, ready.map_or_else(Loaded::Broken, Loaded::Ready), notes)
    }

    /// Finds a fault in the hook's variables before its first call. A single call comes at once, and reads them itself.
    fn check_environment(&self, settings: &Settings) -> Result<(), LaunchError> {
        match self.calls {
            Calls::One => Ok(()),
            Calls::Many => settings.environment(|| self.trust).map(|_| ()),
        }
    }

    /// Confines a native hook where that is the rule for all of them.
    fn confine(&self, kind: Kind, settings: &mut Settings) -> Result<(), LaunchError> {
        if !self.confine_all || kind != Kind::Native {
            return Ok(());
        }
        let refused = |confine: &str| {
            Err(LaunchError::Refused(format!(
                "its settings have `confine = {confine}`, and every hook is confined here (`confine = \"all\"`): remove it"
            )))
        };
        match settings.confine {
            Some(Confine::No) => return refused("false"),
            Some(Confine::Monitor) => return refused("\"monitor\""),
            Some(Confine::Yes) | None => settings.confine = Some(Confine::Yes),
        }
        Ok(())
    }

    /// Removes the grants if others could have written the settings or the hook, and returns a note.
    fn refuse_grants(&self, hook: &Path, settings: &mut Settings) -> Option<String> {
        if !settings.has_grants() {
            return None;
        }
        let settings_file = settings::file_name(hook);
        let untrusted = [hook, &settings_file].into_iter().find_map(|path| {
            let error = file::open_trusted(path, self.grants).err()?;
            Some(format!("{}: {error}", path.display()))
        })?;
        settings.remove_grants();
        let note = format!(
            "the grants in {} are ignored, since users other than root could have written them ({untrusted}); \
             `hookvisor exec --trust-grants` uses them",
            settings_file.display()
        );
        tracing::warn!("hook {}: {note}", hook.display());
        Some(note)
    }

    /// Handles a masked hook. Does nothing if its disabled time has passed and it is enabled now.
    fn masked(&self, path: &Path) -> Result<(), (Loaded, Option<SystemTime>)> {
        let Some(disabled) = mask::disabled(path, self.trust) else {
            return Err((Loaded::Skipped("it is masked by a link to /dev/null".to_owned()), None));
        };
        match disabled.end() {
            Some(end) if end <= SystemTime::now() => match mask::enable_hook(path) {
                // Another process may have enabled it first.
                Err(error) if file::is_mask(path) => {
                    let why = format!("{}, that time is over, but {error}", disabled.words());
                    Err((Loaded::Broken(LaunchError::Refused(why)), None))
                }
                _ => Ok(()),
            },
            end => Err((Loaded::Skipped(disabled.words()), end)),
        }
    }

    fn make_ready(&self, file: HookFile, settings: &Settings) -> Result<Box<dyn Program>, LaunchError> {
        let kind = file.kind();
        if kind == Kind::Native && Kind::of_name(&file.path) == Kind::Wasm {
            let why = "its name ends in .wasm, but it is not WebAssembly (it does not begin with \\0asm): \
                       build it again, or rename it";
            return Err(LaunchError::Refused(why.to_owned()));
        }
        match self.backends.iter().find(|backend| backend.kind() == kind) {
            Some(backend) => backend.load(file, settings, self.limits),
            None => Err(LaunchError::Refused(
                "it is a WebAssembly module: this hookvisor was built without WebAssembly".to_owned(),
            )),
        }
    }

    fn unread(path: PathBuf, scope: Scope, loaded: Loaded) -> Hook {
        let kind = Kind::of_name(&path);
        Hook {
            path: path.into(),
            kind,
            scope,
            settings: Settings::default(),
            loaded,
            notes: Vec::new(),
            digest: FileDigest::default(),
            disabled_until: None,
        }
    }
}

/// Why a file without its execute bit is a data file and not a disabled hook.
fn not_a_hook(path: &Path, trust: Trust) -> Option<&'static str> {
    let head = HookFile::open(path, trust).ok()?.head;
    let first_line = head.split(|&byte| byte == b'\n').next().unwrap_or_default();
    if first_line.starts_with(b"#!") && first_line.trim_ascii_end().ends_with(b"/false") {
        return Some("is not a hook: its first line says that other scripts include it");
    }
    let is_program = [b"#!".as_slice(), b"\x7fELF", b"\0asm"].iter().any(|magic| head.starts_with(magic));
    (!is_program).then_some("is not a hook: it is not executable, and neither a script nor a program")
}

/// Whether a hook is named after its driver, and so can have per-event directories.
fn is_drivers_own(hook: &Path) -> bool {
    hook.parent().is_none_or(|parent| parent.extension().is_none_or(|ending| ending != "d"))
}
