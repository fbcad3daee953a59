//! `hookvisor.toml`: the configuration for all hooks.

mod history;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

pub use self::history::HistoryConfig;
use crate::convention::Conventions;
use crate::convention::raw::RawConvention;
use crate::convention::rules::Convention;
use crate::event::Event;
use crate::hook::trust::Trust;
use crate::hook::trusted_toml;
use crate::limits::Limits;
use crate::runtime::Runtime;
use crate::runtime::builder::RuntimeBuilder;
use crate::time::Time;

/// The configuration of the installed hookvisor, read when it runs as a daemon's hook. An embedding daemon can use it too.
///
/// ```toml
/// hooks = "/etc/hookvisor/hooks"
/// cache = "/var/cache/hookvisor"
/// state = "/var/lib/hookvisor/state"   # for hooks with `state = true`
/// confine = "all"          # hold every native hook to what its settings grant
///
/// [limits]
/// timeout = "90s"
/// grace = "5s"
/// stdout = "8MiB"
/// stderr = "64KiB"
/// memory = "64MiB"
///
/// [drivers.qemu]           # limits for the hooks of one driver
/// timeout = "5min"
///
/// [log]
/// to = "file"              # or "journal", "stderr"
/// file = "/var/log/hookvisor.log"
/// level = "info"           # every call; "warn": failures alone
///
/// [history]                # what `hookvisor history` shows
/// enabled = true
/// file = "/var/log/hookvisor/history.jsonl"
/// max_size = "16MiB"       # then it is renamed to history.jsonl.1
/// keep = 4                 # old files
/// ```
///
/// `[convention.NAME]` defines the operations of your own daemon: see [`Convention`].
///
/// Every key is optional. A relative path is relative to the file's directory.
///
/// ```no_run
/// let config = hookvisor::Config::read(std::path::Path::new("/etc/hookvisor/hookvisor.toml"))?;
/// let runtime = config.runtime().build()?;
/// # drop(runtime);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The hooks directory. Default: `hooks` next to the file.
    pub hooks: PathBuf,
    /// The cache for compiled hooks; `None` if not set.
    pub cache: Option<PathBuf>,
    /// The limits for hooks whose settings have none. Default: [`Limits::default`].
    pub limits: Limits,
    /// Limits per driver. They replace `limits`.
    pub drivers: BTreeMap<String, Limits>,
    /// Where the log goes; `None` if not set.
    pub log: Option<LogConfig>,
    /// The known drivers. If empty, every name is accepted.
    pub known_drivers: Vec<String>,
    /// Whether a start event of a driver without hooks is vetoed.
    pub require_hooks: bool,
    /// Whether every native hook is confined (`confine = "all"`).
    pub confine_all: bool,
    /// Where hooks with `state = true` have a directory each; `None` if not set.
    pub state: Option<PathBuf>,
    /// What is recorded of each event.
    pub history: HistoryConfig,
    /// The conventions of the administrator's own drivers.
    pub conventions: Vec<Convention>,
}

/// Where the log goes, and its level.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogConfig {
    /// Where it goes.
    pub to: LogTo,
    /// The least severe level that is logged.
    pub level: LogLevel,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogTo {
    /// Standard error. libvirt keeps it only if a call failed.
    Stderr,
    /// This file, one line per call.
    File(PathBuf),
    /// The system's journal.
    Journal,
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogLevel {
    /// Failures of hookvisor itself.
    Error,
    /// Hooks that failed or cannot be called.
    Warn,
    /// Every call.
    #[default]
    Info,
    /// Details for debugging.
    Debug,
}

/// Why the configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the configuration {}: {why}", path.display())]
#[non_exhaustive]
pub struct ConfigError {
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

impl Config {
    /// The defaults that apply if `file` does not exist.
    #[must_use]
    pub fn without(file: &Path) -> Self {
        Self {
            hooks: beside(file, Path::new("hooks")),
            cache: None,
            limits: Limits::default(),
            drivers: BTreeMap::new(),
            log: None,
            known_drivers: Vec::new(),
            require_hooks: false,
            history: HistoryConfig::default(),
            conventions: Vec::new(),
            confine_all: false,
            state: None,
        }
    }

    /// The defaults. For an invalid file, also the hooks directory, for the hooks of a shutdown, and what it says of the record,
    /// if these can be read.
    #[must_use]
    pub fn despite_errors(file: &Path) -> Self {
        let mut config = Self::without(file);
        let trust = Trust::of_this_process();
        if let Ok(Some(HooksAlone { hooks: Some(hooks) })) = trusted_toml::read(file, trust) {
            config.hooks = beside(file, &hooks);
        }
        if let Ok(Some(HistoryAlone { history: Some(history) })) = trusted_toml::read(file, trust) {
            config.history = history_beside(file, history);
        }
        config
    }

    /// Configures a runtime with these hooks, limits and conventions.
    pub fn runtime(&self) -> RuntimeBuilder {
        let builder = Runtime::builder(&self.hooks).limits(self.limits.clone()).confine_all(self.confine_all);
        let builder = self.state.iter().fold(builder, RuntimeBuilder::state_directory);
        let builder = builder.known_drivers(&self.known_drivers);
        let builder = if self.require_hooks { builder.require_hooks() } else { builder };
        let drivers = self.drivers.iter();
        let builder = drivers.fold(builder, |builder, (driver, limits)| builder.limits_for(driver, limits.clone()));
        self.conventions.iter().cloned().fold(builder, RuntimeBuilder::convention)
    }

    /// Why a runtime with these conventions refuses the event; `None` if its driver has this operation.
    #[must_use]
    pub fn refusal(&self, event: &Event) -> Option<String> {
        let conventions = Conventions::new(self.conventions.clone(), false);
        let checked = conventions.map(|conventions| conventions.check(event.driver(), event.operation()));
        match checked {
            Ok(checked) => checked.err().map(|why| why.to_string()),
            Err(why) => Some(why.to_string()),
        }
    }

    /// Overrides the timeout of every hook whose settings have none.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.limits.timeout = timeout;
        self.drivers.values_mut().for_each(|limits| limits.timeout = timeout);
    }

    /// Reads the file. If it does not exist, the defaults of [`without`](Self::without) apply.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, does not parse, or (as root) is writable by others. An unknown key is an error.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let error = |why: String| ConfigError { path: file.to_owned(), why };
        match trusted_toml::read::<Raw>(file, Trust::of_this_process()).map_err(error)? {
            Some(raw) => raw.at(file).map_err(error),
            None => Ok(Self::without(file)),
        }
    }
}

/// Parses a text that consists of `[convention.NAME]` tables.
#[cfg(feature = "capi")]
pub(crate) fn conventions(text: &str) -> Result<Vec<Convention>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tables {
        #[serde(default)]
        convention: BTreeMap<String, RawConvention>,
    }
    let tables: Tables = toml::from_str(text).map_err(|error| trusted_toml::one_line(text, &error))?;
    tables.convention.into_iter().map(|(driver, raw)| raw.into_convention(driver)).collect()
}

fn history_beside(file: &Path, history: HistoryConfig) -> HistoryConfig {
    HistoryConfig { file: history.file.map(|path| beside(file, &path)), ..history }
}

fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(path)
}

/// A key that is read from an invalid file. Others are ignored.
#[derive(Deserialize)]
struct HooksAlone {
    hooks: Option<PathBuf>,
}

/// A table that is read from an invalid file. Others are ignored.
#[derive(Deserialize)]
struct HistoryAlone {
    history: Option<HistoryConfig>,
}

/// `confine = "all"`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawConfine {
    All,
}

/// The parsed file, before paths and defaults are resolved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    confine: Option<RawConfine>,
    hooks: Option<PathBuf>,
    cache: Option<PathBuf>,
    state: Option<PathBuf>,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    drivers: BTreeMap<String, RawLimits>,
    log: Option<RawLog>,
    #[serde(default)]
    known_drivers: Vec<String>,
    #[serde(default)]
    require_hooks: bool,
    #[serde(default)]
    history: HistoryConfig,
    #[serde(default)]
    convention: BTreeMap<String, RawConvention>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    timeout: Option<Time>,
    grace: Option<Time>,
    stdout: Option<ByteSize>,
    stderr: Option<ByteSize>,
    memory: Option<ByteSize>,
    compile_time: Option<Time>,
    compile_memory: Option<ByteSize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLog {
    to: RawLogTo,
    file: Option<PathBuf>,
    #[serde(default)]
    level: LogLevel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawLogTo {
    Stderr,
    File,
    Journal,
}

impl Raw {
    fn at(self, file: &Path) -> Result<Config, String> {
        let log = match self.log {
            None => None,
            Some(RawLog { to, file: path, level }) => {
                let to = match (to, path) {
                    (RawLogTo::File, Some(path)) => LogTo::File(beside(file, &path)),
                    (RawLogTo::File, None) => return Err("[log] to = \"file\" needs `file = \"…\"`".to_owned()),
                    (_, Some(_)) => {
                        return Err("[log] has `file` without to = \"file\": add it, or remove `file`".to_owned());
                    }
                    (RawLogTo::Stderr, None) => LogTo::Stderr,
                    (RawLogTo::Journal, None) => LogTo::Journal,
                };
                Some(LogConfig { to, level })
            }
        };
        let conventions = self.convention.into_iter().map(|(driver, raw)| raw.into_convention(driver));
        let conventions = conventions.collect::<Result<_, _>>()?;
        let without = Config::without(file);
        let limits = self.limits.over(without.limits);
        Ok(Config {
            hooks: self.hooks.map_or(without.hooks, |hooks| beside(file, &hooks)),
            cache: self.cache.map(|cache| beside(file, &cache)),
            state: self.state.map(|state| beside(file, &state)),
            drivers: self.drivers.into_iter().map(|(driver, raw)| (driver, raw.over(limits.clone()))).collect(),
            limits,
            log,
            known_drivers: self.known_drivers,
            require_hooks: self.require_hooks,
            history: history_beside(file, self.history),
            conventions,
            confine_all: self.confine.is_some(),
        })
    }
}

impl RawLimits {
    fn over(self, mut limits: Limits) -> Limits {
        let size = |raw: Option<ByteSize>, otherwise| {
            raw.map_or(otherwise, |size| usize::try_from(size.0).unwrap_or(usize::MAX))
        };
        limits.timeout = self.timeout.map_or(limits.timeout, |time| time.0);
        limits.grace = self.grace.map_or(limits.grace, |time| time.0);
        limits.stdout = size(self.stdout, limits.stdout);
        limits.stderr = size(self.stderr, limits.stderr);
        limits.memory = size(self.memory, limits.memory);
        limits.compile_time = self.compile_time.map_or(limits.compile_time, |time| time.0);
        limits.compile_memory = self.compile_memory.map_or(limits.compile_memory, |size| size.0);
        limits
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::record::Record;

    fn read(text: &str) -> Result<Config, String> {
        let directory = tempfile::tempdir().map_err(|e| e.to_string())?;
        let file = directory.path().join("hookvisor.toml");
        fs::write(&file, text).map_err(|e| e.to_string())?;
        let mut config = Config::read(&file).map_err(|e| e.why)?;
        config.hooks = config.hooks.strip_prefix(directory.path()).map_or(config.hooks.clone(), Path::to_owned);
        Ok(config)
    }

    #[test]
    fn each_key_has_its_place_and_can_be_left_out() -> Result<(), String> {
        let nothing = read("")?;
        assert_eq!((nothing.hooks.as_path(), nothing.limits), (Path::new("hooks"), Limits::default()));
        assert_eq!((nothing.cache, nothing.log), (None, None));

        let all = read(
            "hooks = '/srv/hooks'\ncache = '/var/cache/hooks'\n[limits]\ntimeout = '5s'\ngrace = '1s'\nstdout = '1MiB'\n\
             stderr = '2KiB'\nmemory = '3MiB'\n[log]\nto = 'file'\nfile = '/var/log/hooks.log'\nlevel = 'warn'\n",
        )?;
        assert_eq!((all.hooks, all.cache), ("/srv/hooks".into(), Some("/var/cache/hooks".into())));
        let limits = all.limits;
        assert_eq!((limits.timeout, limits.grace), (Duration::from_secs(5), Duration::from_secs(1)));
        assert_eq!((limits.stdout, limits.stderr, limits.memory), (1 << 20, 2 << 10, 3 << 20));
        assert_eq!(all.log, Some(LogConfig { to: LogTo::File("/var/log/hooks.log".into()), level: LogLevel::Warn }));
        assert_eq!(nothing.history.record("/default".into()), Some(Record::at("/default")));
        let history = read("[history]\nfile = '/srv/record'\nmax_size = '1MiB'\nkeep = 2\n")?.history;
        assert_eq!(history.record("/default".into()), Some(Record::at("/srv/record").max_size(1 << 20).keep(2)));
        assert_eq!(read("[history]\nenabled = false")?.history.record("/default".into()), None);
        assert_eq!(read("[log]\nto = 'journal'")?.log, Some(LogConfig { to: LogTo::Journal, level: LogLevel::Info }));
        Ok(())
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let why = |text: &str| read(text).err().unwrap_or_default();
        assert!(why("[drivers.qemu]\ntimeuot = '5s'").starts_with("line 2: unknown field `timeuot`"));
        assert!(why("hook = '/srv'").starts_with("line 1: unknown field `hook`, expected one of"));
        assert!(why("[limits]\ntimeuot = '5s'").starts_with("line 2: unknown field `timeuot`"));
        assert_eq!(
            why("[limits]\ngrace = '0s'"),
            "line 2: \"0s\": the duration must be greater than zero; write one like \"5s\" or \"1min 30s\""
        );
        assert!(why("[history]\nfiel = 'x'").starts_with("line 2: unknown field `fiel`"));
        assert!(why("[history]\nkeep = 0").starts_with("line 2: "));
        assert!(why("[log]\nto = 'syslog'").starts_with("line 2: unknown variant `syslog`"));
        assert_eq!(why("[log]\nto = 'file'"), "[log] to = \"file\" needs `file = \"…\"`");
        assert_eq!(
            why("[log]\nto = 'journal'\nfile = 'x'"),
            "[log] has `file` without to = \"file\": add it, or remove `file`"
        );
    }
}
