//! `<hook>.toml`: the settings of one hook.

pub(crate) mod grants;
mod table;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, de};

use self::grants::{CommandGrant, ConnectGrant, DirectoryGrant, SecretGrant};
use super::env_file;
use super::error::LaunchError;
use super::kind::Kind;
use super::mode::Mode;
use super::pattern::Pattern;
use super::trust::Trust;
use super::trusted_toml;
use crate::event::Event;
use crate::time::Time;

/// The settings of one hook. Every key is optional. An unknown key is an error.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default, deserialize_with = "duration")]
    pub(crate) timeout: Option<Duration>,
    /// Whether a native hook is confined to the grants below. `None` if not set.
    pub(crate) confine: Option<Confine>,
    pub(crate) memory: Option<ByteSize>,
    pub(crate) processes: Option<u64>,
    pub(crate) files: Option<u64>,
    pub(crate) user: Option<String>,
    /// Whether the hook has its own directory, kept between calls.
    #[serde(default)]
    pub(crate) state: bool,
    pub(crate) sha256: Option<String>,
    #[serde(default, deserialize_with = "environment")]
    pub(crate) env: Vec<(String, String)>,
    /// A file with more variables, which may be secret.
    #[serde(default, deserialize_with = "optional_path")]
    env_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) mode: Mode,
    /// `false`: the hook is not called at all.
    pub(crate) enabled: Option<bool>,
    pub(crate) operations: Option<Vec<String>>,
    pub(crate) not_operations: Option<Vec<String>>,
    #[serde(default, deserialize_with = "globs")]
    pub(crate) objects: Option<Globs>,
    /// For the hook named after its driver: whether hookvisor runs the per-event directories, or this hook does.
    pub(crate) nested: Option<bool>,
    #[serde(default, rename = "dir", deserialize_with = "table::array")]
    pub(crate) directories: Vec<DirectoryGrant>,
    #[serde(default, rename = "command", deserialize_with = "table::array")]
    pub(crate) commands: Vec<CommandGrant>,
    #[serde(default, rename = "connect", deserialize_with = "table::array")]
    pub(crate) connections: Vec<ConnectGrant>,
    #[serde(default, rename = "secret", deserialize_with = "table::array")]
    pub(crate) secrets: Vec<SecretGrant>,
}

/// `confine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confine {
    No,
    Yes,
    /// It runs unconfined, and what would have been refused is reported.
    Monitor,
}

impl<'de> Deserialize<'de> for Confine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConfineVisitor)
    }
}

struct ConfineVisitor;

impl de::Visitor<'_> for ConfineVisitor {
    type Value = Confine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false or \"monitor\"")
    }

    fn visit_bool<E: de::Error>(self, confine: bool) -> Result<Confine, E> {
        Ok(if confine { Confine::Yes } else { Confine::No })
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Confine, E> {
        if word == "monitor" { Ok(Confine::Monitor) } else { Err(E::invalid_value(de::Unexpected::Str(word), &self)) }
    }
}

/// Compiled shell patterns with their source text.
#[derive(Debug, Clone)]
pub(crate) struct Globs {
    pub(crate) patterns: Vec<String>,
    compiled: Vec<Pattern>,
}

impl Globs {
    fn match_name(&self, name: &str) -> bool {
        self.compiled.iter().any(|pattern| pattern.matches(name))
    }
}

impl Settings {
    /// Reads a hook's settings. Without a file, the defaults apply.
    pub(crate) fn of_hook(hook: &Path, trust: Trust) -> Result<Self, LaunchError> {
        let path = file_name(hook);
        let read = trusted_toml::read(&path, trust);
        let refused = |why| LaunchError::Refused(format!("its settings {}: {why}", path.display()));
        Ok(read.map_err(refused)?.unwrap_or_default())
    }

    /// Whether the hook wants to be called for this event.
    pub(crate) fn apply_to(&self, event: &Event) -> bool {
        let lists = |list: &Vec<String>| list.iter().any(|operation| operation == event.operation());
        let operation = self.operations.as_ref().is_none_or(lists) && !self.not_operations.as_ref().is_some_and(lists);
        operation && self.objects.as_ref().is_none_or(|globs| globs.match_name(event.object()))
    }

    /// Whether the settings grant the hook anything on the host.
    pub(crate) fn has_grants(&self) -> bool {
        let has_tables = !(self.directories.is_empty() && self.commands.is_empty() && self.connections.is_empty());
        self.state || self.env_file.is_some() || has_tables || !self.secrets.is_empty()
    }

    pub(crate) fn remove_grants(&mut self) {
        self.state = false;
        self.env_file = None;
        self.directories.clear();
        self.commands.clear();
        self.connections.clear();
        self.secrets.clear();
    }

    /// The variables that the settings add to the hook's environment. `env_file` is read each time. Only then is the rule
    /// needed, which costs a system call.
    pub(crate) fn environment(
        &self,
        trust: impl FnOnce() -> Trust,
    ) -> Result<Cow<'_, [(String, String)]>, LaunchError> {
        let Some(path) = &self.env_file else { return Ok(Cow::Borrowed(&self.env)) };
        let refused = |why| LaunchError::Refused(format!("its `env_file` {}: {why}", path.display()));
        let mut environment = env_file::read(path, trust()).map_err(refused)?;
        if let Some((name, _)) = self.env.iter().find(|(name, _)| environment.iter().any(|(other, _)| name == other)) {
            return Err(refused(format!("{name} is in `env` too: remove one of the two")));
        }
        environment.extend_from_slice(&self.env);
        Ok(Cow::Owned(environment))
    }

    /// Removes what confines a hook, for `learn`. A directory with another name for the guest stays, and so does the hook's own
    /// directory.
    pub(crate) fn remove_confinement(&mut self, kind: Kind) {
        if kind == Kind::Native {
            self.confine = Some(Confine::Monitor);
        }
        let renamed = std::mem::take(&mut self.directories).into_iter().filter(|_| kind == Kind::Wasm);
        let renamed = renamed.filter(DirectoryGrant::is_renamed).collect();
        let state = self.state;
        self.remove_grants();
        (self.directories, self.state) = (renamed, state);
    }

    /// Rejects keys that apply only to confined hooks if the native hook is not confined.
    pub(crate) fn refuse_for_unconfined(&self, hook: &Path) -> Result<(), LaunchError> {
        let only_confined = [
            ("memory", self.memory.is_some()),
            ("processes", self.processes.is_some()),
            ("files", self.files.is_some()),
            ("user", self.user.is_some()),
            ("state", self.state),
            ("dir", !self.directories.is_empty()),
            ("command", !self.commands.is_empty()),
            ("connect", !self.connections.is_empty()),
            ("secret", !self.secrets.is_empty()),
        ];
        let file = file_name(hook);
        let file = file.display();
        if let Some((key, _)) = only_confined.iter().find(|(_, given)| *given) {
            return Err(LaunchError::Refused(format!(
                "its settings {file} have `{key}`, which only a WebAssembly or confined hook has: add `confine = true`, or \
                 remove `{key}`"
            )));
        }
        if self.sha256.is_some() {
            return Err(LaunchError::Refused(format!(
                "its settings {file} have `sha256`, which only a WebAssembly hook has: remove it"
            )));
        }
        Ok(())
    }

    /// Warnings about the grants, for the administrator.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let directories = self.directories.iter().filter_map(DirectoryGrant::warning);
        let commands = self.commands.iter().filter(|command| command.runs_anything()).map(|command| {
            format!(
                "its grant of {} lets it run any program, unconfined: write the arguments out, or grant only the program \
                 that it needs",
                command.program.display()
            )
        });
        directories.chain(commands).collect()
    }

    /// What the grants let the hook do, in words.
    pub(crate) fn may(&self) -> Vec<String> {
        let variables = self.env.iter().map(|(name, _)| format!("see the variable {name}"));
        let secret = self.env_file.iter().map(|file| format!("see the variables in {}", file.display()));
        let memory = self.memory.iter().map(|memory| format!("use {memory} of memory"));
        let processes = self.processes.iter().map(|processes| format!("run {processes} processes"));
        let files = self.files.iter().map(|files| format!("open {files} files"));
        let user = self.user.iter().map(|user| format!("run as user {user}"));
        let limits = memory.chain(processes).chain(files).chain(user);
        let state = self.state.then(|| "keep files in its own directory (HOOKVISOR_STATE)".to_owned());
        let secrets = self.secrets.iter().map(ToString::to_string);
        let directories = state.into_iter().chain(secrets).chain(self.directories.iter().map(ToString::to_string));
        let commands = self.commands.iter().map(|command| match command.runs_anything() {
            true => format!("{command} (which can run any program, unconfined)"),
            false => command.to_string(),
        });
        let connections = self.connections.iter().map(ToString::to_string);
        let confined = self.confine.and_then(|confine| match confine {
            Confine::No => None,
            Confine::Yes => Some("nothing else (confined)".to_owned()),
            Confine::Monitor => Some("anything else too: what would be refused is reported".to_owned()),
        });
        variables
            .chain(secret)
            .chain(limits)
            .chain(directories)
            .chain(commands)
            .chain(connections)
            .chain(confined)
            .collect()
    }
}

/// A hook's environment with variables that the runtime sets, whatever the settings have for them.
pub(crate) fn with_variables(env: &[(String, String)], more: Vec<(String, String)>) -> Vec<(String, String)> {
    let is_set = |name: &String| more.iter().any(|(set, _)| set == name);
    env.iter().filter(|(name, _)| !is_set(name)).cloned().collect::<Vec<_>>().into_iter().chain(more).collect()
}

/// The settings' file: `20-policy.toml` for `20-policy.wasm`, `10-check.sh.toml` for `10-check.sh`.
pub(crate) fn file_name(hook: &Path) -> PathBuf {
    if hook.extension() == Some(OsStr::new("wasm")) {
        return hook.with_extension("toml");
    }
    let mut name = OsString::from(hook);
    name.push(".toml");
    name.into()
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Time::deserialize(deserializer).map(|Time(time)| Some(time))
}

fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    grants::absolute(deserializer).map(Some)
}

fn environment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, String)>, D::Error> {
    let env = BTreeMap::<String, String>::deserialize(deserializer)?;
    for (name, value) in &env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            return Err(de::Error::custom(format!("{name:?} cannot be the name of an environment variable")));
        }
    }
    Ok(env.into_iter().collect())
}

fn globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Globs>, D::Error> {
    let patterns = Vec::<String>::deserialize(deserializer)?;
    let compiled = patterns.iter().map(|text| Pattern::new(text)).collect::<Result<_, _>>();
    Ok(Some(Globs { compiled: compiled.map_err(de::Error::custom)?, patterns }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::trusted_toml::one_line;

    fn error(text: &str) -> String {
        toml::from_str::<Settings>(text).map_or_else(|e| one_line(text, &e), |_| "accepted".to_owned())
    }

    #[test]
    fn a_mistake_is_reported_with_its_line() {
        let unknown = error("zeitgrenze = \"5s\"\n");
        assert!(unknown.starts_with("line 1: unknown field `zeitgrenze`, expected one of"), "{unknown}");
        assert_eq!(
            error("timeout = \"5s\"\ntimeuot = \"5s\"\n"),
            "line 2: unknown field `timeuot`: did you mean `timeout`?"
        );
        assert_eq!(error("\"timeout\\n\" = \"5s\""), "line 1: unknown field `timeout; `: did you mean `timeout`?");
        assert_eq!(
            error("timeout = \"0s\""),
            "line 1: \"0s\": the duration must be greater than zero; write one like \"5s\" or \"1min 30s\""
        );
        assert!(error("timeout = 5").contains("line 1: invalid type: integer `5`, expected a string"));
        assert_eq!(error("env = { \"A=B\" = \"\" }"), "line 1: \"A=B\" cannot be the name of an environment variable");
        assert!(error("objects = [\"[\"]").contains("unclosed character class"));
        assert_eq!(
            error("dir = [['/a', '/b', 'read-write']]"),
            "line 1: invalid type: sequence, expected a table with named keys"
        );
    }

    #[test]
    fn confine_is_a_switch_or_monitor() {
        let confine = |text: &str| toml::from_str::<Settings>(text).ok().and_then(|settings| settings.confine);
        assert_eq!(confine("confine = true"), Some(Confine::Yes));
        assert_eq!(confine("confine = false"), Some(Confine::No));
        assert_eq!(confine("confine = 'monitor'"), Some(Confine::Monitor));
        let why = error("confine = 'monitr'");
        assert!(why.contains("expected true, false or \"monitor\""), "{why}");
    }

    #[test]
    fn settings_narrow_the_events_of_a_hook() {
        let narrow: Settings =
            toml::from_str("operations = [\"start\"]\nobjects = [\"web*\", \"db\"]").unwrap_or_default();
        let called =
            |object, operation| Event::new("qemu", object, operation).is_ok_and(|event| narrow.apply_to(&event));
        assert!(called("web1", "start") && called("db", "start"));
        assert!(!called("db1", "start") && !called("web1", "release"));
    }

    #[test]
    fn only_wasm_gives_up_its_ending_for_the_settings_name() {
        let names = ["20-policy.wasm", "10-check.sh", "qemu"].map(|hook| file_name(Path::new(hook)));
        assert_eq!(names, ["20-policy.toml", "10-check.sh.toml", "qemu.toml"].map(PathBuf::from));
    }
}
