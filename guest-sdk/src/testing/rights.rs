//! What a hook's own settings file grants, by the rules of the runtime.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use regex_lite::Regex;
use toml::{Table, Value};

use crate::Command;

/// The grants of a settings file, for one event.
#[derive(Debug)]
pub(super) struct Rights {
    file: PathBuf,
    names: Names,
    pub(super) env: BTreeMap<String, String>,
    commands: Vec<(String, Vec<Pattern>)>,
    /// Where the guest sees each directory, a pattern for each component, and whether it may write there.
    directories: Vec<(Vec<Regex>, bool)>,
}

/// The names of the event that `{object}` and `{operation}` stand for.
#[derive(Debug)]
struct Names {
    object: String,
    operation: String,
}

/// One argument of a `[[command]]`.
#[derive(Debug)]
enum Pattern {
    Any,
    Rest,
    Regex(Regex),
    Text(String),
}

impl Rights {
    pub(super) fn read(file: &Path, object: &str, operation: &str) -> Result<Self, String> {
        let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
        let table: Table = toml::from_str(&text).map_err(|error| error.to_string())?;
        let names = Names { object: object.to_owned(), operation: operation.to_owned() };
        let env = match table.get("env") {
            None => BTreeMap::new(),
            Some(env) => env.clone().try_into().map_err(|error| format!("`env`: {error}"))?,
        };
        let commands = tables(&table, "command")?.into_iter().map(command).collect::<Result<_, _>>()?;
        let directories = tables(&table, "dir")?;
        let directories = directories.into_iter().map(|table| directory(table, &names)).collect::<Result<_, _>>()?;
        Ok(Self { file: file.to_owned(), names, env, commands, directories })
    }

    /// Why a command is refused.
    pub(super) fn refusal(&self, command: &Command) -> Option<String> {
        let program = command.program();
        let named = |granted: &str| {
            let name = Path::new(granted).file_name().and_then(|name| name.to_str());
            granted == program || (!program.contains('/') && name == Some(program))
        };
        let is_granted = self
            .commands
            .iter()
            .any(|(granted, patterns)| named(granted) && allow(patterns, command.arguments(), &self.names));
        (!is_granted).then(|| format!("{} does not list this command", self.file.display()))
    }

    /// Whether a path may be read, and whether it may be written; `None` if it is in no granted directory.
    pub(super) fn may_write(&self, guest: &Path) -> Option<bool> {
        let components: Vec<String> = guest
            .components()
            .filter_map(|component| match component {
                Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let contains = |patterns: &[Regex]| {
            patterns.len() <= components.len()
                && patterns.iter().zip(&components).all(|(pattern, name)| pattern.is_match(name))
        };
        let granted = self.directories.iter().filter(|(patterns, _)| contains(patterns));
        granted.map(|(_, writes)| *writes).max()
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn tables<'a>(table: &'a Table, key: &str) -> Result<Vec<&'a Table>, String> {
    let wrong = || format!("`{key}` is not written as [[{key}]]");
    match table.get(key) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|one| one.as_table().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key).and_then(Value::as_str)
}

fn command(table: &Table) -> Result<(String, Vec<Pattern>), String> {
    let program = text(table, "program").ok_or("a [[command]] has no `program`")?;
    let args = match table.get("args") {
        None => Vec::new(),
        Some(Value::Array(args)) => args.iter().map(pattern).collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("`args` of {program} is not a list")),
    };
    Ok((program.to_owned(), args))
}

fn pattern(argument: &Value) -> Result<Pattern, String> {
    match argument {
        Value::String(text) if text == "*" => Ok(Pattern::Any),
        Value::String(text) if text == "**" => Ok(Pattern::Rest),
        Value::String(text) => Ok(Pattern::Text(text.clone())),
        Value::Table(table) => {
            let regex = text(table, "regex").ok_or("an argument is neither a string nor { regex = \"…\" }")?;
            Regex::new(&format!("^(?:{regex})$")).map(Pattern::Regex).map_err(|error| format!("{regex:?}: {error}"))
        }
        _ => Err("an argument is neither a string nor { regex = \"…\" }".to_owned()),
    }
}

fn directory(table: &Table, names: &Names) -> Result<(Vec<Regex>, bool), String> {
    let host = text(table, "host").ok_or("a [[dir]] has no `host`")?;
    let place = text(table, "guest").unwrap_or(host);
    let writes = text(table, "access").is_some_and(|access| access != "read");
    let components = place.split('/').filter(|component| !component.is_empty());
    let patterns = components.map(|component| glob(component, names)).collect::<Result<_, _>>()?;
    Ok((patterns, writes))
}

/// A shell pattern for one component of a path.
fn glob(component: &str, names: &Names) -> Result<Regex, String> {
    let mut regex = String::from("^");
    for c in component.replace("{object}", "\u{1}").replace("{operation}", "\u{2}").chars() {
        match c {
            '\u{1}' => regex += &regex_lite::escape(&names.object),
            '\u{2}' => regex += &regex_lite::escape(&names.operation),
            '*' => regex += ".*",
            '?' => regex.push('.'),
            '[' | ']' | '-' => regex.push(c),
            '!' if regex.ends_with('[') => regex.push('^'),
            c => regex += &regex_lite::escape(&c.to_string()),
        }
    }
    Regex::new(&(regex + "$")).map_err(|error| format!("{component:?}: {error}"))
}

fn allow(patterns: &[Pattern], arguments: &[String], names: &Names) -> bool {
    let (patterns, rest) = match patterns.split_last() {
        Some((Pattern::Rest, first)) => (first, true),
        _ => (patterns, false),
    };
    let Some((first, others)) = arguments.split_at_checked(patterns.len()) else { return false };
    patterns.iter().zip(first).all(|(pattern, argument)| pattern.allows(argument, names))
        && (others.is_empty() || rest)
        && others.iter().all(|argument| Pattern::Any.allows(argument, names))
}

impl Pattern {
    fn allows(&self, argument: &str, names: &Names) -> bool {
        match self {
            Self::Any | Self::Rest => {
                !argument.is_empty() && !argument.starts_with('-') && !argument.contains(char::is_control)
            }
            Self::Regex(regex) => !argument.contains('\0') && regex.is_match(argument),
            Self::Text(text) => {
                let expected = substitute(text, names);
                // A guest's name must not turn an operand into an option, nor hold what splits lines.
                let injected = (expected.starts_with('-') && !text.starts_with('-'))
                    || (expected.contains(char::is_control) && !text.contains(char::is_control));
                !injected && expected == argument
            }
        }
    }
}

/// One pass, so that a name which itself looks like a placeholder stays what it is.
fn substitute(text: &str, names: &Names) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = [("{object}", names.object.as_str()), ("{operation}", names.operation.as_str())];
        let found = known.into_iter().find(|(placeholder, _)| rest.starts_with(placeholder));
        let (placeholder, value) = found.unwrap_or(("{", "{"));
        result.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = "env = { MODE = 'strict' }\n\
        [[dir]]\nhost = '/sys/class/net/*'\n\
        [[dir]]\nhost = '/run/{object}'\nguest = '/state'\naccess = 'read-write'\n\
        [[command]]\nprogram = '/usr/bin/tool'\nargs = ['start', '{object}', '*', { regex = 'a|ab' }]\n\
        [[command]]\nprogram = '/usr/bin/many'\nargs = ['x', '**']\n";

    fn rights() -> Result<Rights, String> {
        let scratch = super::super::Scratch::default();
        scratch.write(Path::new("/own.toml"), SETTINGS.as_bytes());
        Rights::read(&scratch.place(Path::new("/own.toml")), "web1", "start")
    }

    #[test]
    fn commands_are_allowed_as_the_runtime_allows_them() -> Result<(), String> {
        let rights = rights()?;
        let allowed = |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args);
            rights.refusal(&command).is_none()
        };
        assert!(allowed("/usr/bin/tool", &["start", "web1", "any", "ab"]));
        assert!(allowed("tool", &["start", "web1", "any", "a"]));
        assert!(allowed("many", &["x"]) && allowed("many", &["x", "y", "z"]));
        for args in
            [&["start", "web2", "any", "a"][..], &["start", "web1", "-any", "a"], &["start", "web1", "any", "abc"], &[]]
        {
            assert!(!allowed("/usr/bin/tool", args), "{args:?}");
        }
        assert!(!allowed("./tool", &["start", "web1", "any", "a"]) && !allowed("many", &["x", "-y"]));
        Ok(())
    }

    #[test]
    fn directories_are_those_of_the_event() -> Result<(), String> {
        let rights = rights()?;
        let may = |path: &str| rights.may_write(Path::new(path));
        assert_eq!(
            [may("/sys/class/net/eth0/mtu"), may("/state/x"), may("/run/web1/x")],
            [Some(false), Some(true), None]
        );
        assert_eq!(may("/sys/class/net"), None);
        assert_eq!(rights.env.get("MODE").map(String::as_str), Some("strict"));
        Ok(())
    }
}
