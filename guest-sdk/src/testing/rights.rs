//! What a hook's own settings file grants, by the rules of the runtime.

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::path::{Component, Path, PathBuf};

use regex_lite::Regex;
use toml::{Table, Value};

use crate::Command;

/// Where the runtime keeps the directory of a hook with `state = true`, and the variable that says so. The name is the test's.
pub(super) const STATE: (&str, &str) = ("HOOKVISOR_STATE", "/var/lib/hookvisor/state/hook");
/// Where a sandboxed hook finds its secrets.
const SECRETS: &str = "/run/hookvisor/secrets";
/// The most that is checked of a command's stdin, in bytes.
const LONGEST_STDIN: usize = 256 << 10;

/// The grants of a settings file, for one event.
#[derive(Debug)]
pub(super) struct Rights {
    file: PathBuf,
    names: Names,
    env: BTreeMap<String, String>,
    /// Whether there is an `env_file`, whose variables only the test knows.
    has_env_file: bool,
    pub(super) has_state: bool,
    /// Each secret's variable and file.
    secrets: Vec<(String, PathBuf)>,
    commands: Vec<Grant>,
    /// The paths of Unix sockets.
    sockets: Vec<PathBuf>,
    /// Where the guest sees each directory, a pattern for each component, and whether it may write there.
    directories: Vec<(Vec<Regex>, bool)>,
}

/// The names of the event that `{object}` and `{operation}` stand for.
#[derive(Debug)]
struct Names {
    object: String,
    operation: String,
}

/// A `[[command]]`.
#[derive(Debug)]
struct Grant {
    program: String,
    args: Vec<Pattern>,
    stdin: Option<Stdin>,
    detach: bool,
}

/// What a command may read.
#[derive(Debug)]
enum Stdin {
    Whole(Regex),
    Lines(Regex),
}

/// How a granted command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    Awaited,
    /// The hook gets neither its status nor its output.
    Detached,
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
        let secrets = tables(&table, "secret")?.into_iter().map(secret).collect::<Result<_, _>>()?;
        let connections = tables(&table, "connect")?.into_iter().filter_map(|table| table.get("to")?.as_str());
        let sockets = connections.filter(|to| to.starts_with('/')).map(PathBuf::from).collect();
        let directories = tables(&table, "dir")?;
        let directories = directories.into_iter().map(|table| directory(table, &names)).collect::<Result<_, _>>()?;
        Ok(Self {
            file: file.to_owned(),
            names,
            env,
            has_env_file: table.contains_key("env_file"),
            has_state: table.get("state").and_then(Value::as_bool).unwrap_or_default(),
            secrets,
            commands,
            sockets,
            directories,
        })
    }

    /// The value of a variable. The test's own is used where the settings set the variable, or name an `env_file`.
    pub(super) fn variable(&self, name: &str, of_test: Option<&String>) -> Option<String> {
        if self.has_state && name == STATE.0 {
            return Some(STATE.1.to_owned());
        }
        if self.secrets.iter().any(|(variable, _)| variable == name) {
            return Some(format!("{SECRETS}/{name}"));
        }
        let own = self.env.get(name);
        of_test.filter(|_| own.is_some() || self.has_env_file).or(own).cloned()
    }

    /// The file of a secret, by the path at which the hook reads it.
    pub(super) fn secret(&self, guest: &Path) -> Option<&Path> {
        let name = guest.strip_prefix(SECRETS).ok()?.to_str()?;
        self.secrets.iter().find(|(variable, _)| variable == name).map(|(_, file)| file.as_path())
    }

    /// Whether the hook may read this file and not write it.
    pub(super) fn is_read_only(&self, guest: &Path) -> bool {
        self.may_write(guest) == Some(false) || self.secrets.iter().any(|(_, file)| file == guest)
    }

    /// How a command is run, or why it is refused. The first grant that allows everything applies.
    pub(super) fn decide(&self, command: &Command) -> Result<Granted, String> {
        let program = command.program();
        let named = |granted: &str| {
            let name = Path::new(granted).file_name().and_then(|name| name.to_str());
            granted == program || (!program.contains('/') && name == Some(program))
        };
        let file = self.file.display();
        let mut refusal = None;
        let listed = |grant: &&Grant| named(&grant.program) && allow(&grant.args, command.arguments(), &self.names);
        for grant in self.commands.iter().filter(listed) {
            match grant.check_stdin(command.input()) {
                Ok(()) if grant.detach && !command.input().is_empty() => {
                    return Err(format!("{program} is detached and gets no stdin"));
                }
                Ok(()) => return Ok(if grant.detach { Granted::Detached } else { Granted::Awaited }),
                Err(why) => refusal = refusal.or(Some(format!("{file} does not allow this stdin: {why}"))),
            }
        }
        Err(refusal.unwrap_or_else(|| format!("{file} does not list this command")))
    }

    /// Why the hook may not connect to a Unix socket.
    pub(super) fn check_connection(&self, path: &str) -> Result<(), String> {
        match self.sockets.iter().any(|granted| granted == Path::new(path)) {
            true => Ok(()),
            false => Err(format!("{} does not list this connection", self.file.display())),
        }
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
        let granted = self.directories.iter().filter(|(patterns, _)| contains(patterns)).map(|(_, writes)| *writes);
        let state = self.has_state && guest.starts_with(STATE.1);
        granted.chain(iter::once(true).filter(|_| state)).max()
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

fn secret(table: &Table) -> Result<(String, PathBuf), String> {
    let file = text(table, "file").ok_or("a [[secret]] has no `file`")?;
    let variable = text(table, "variable").ok_or("a [[secret]] has no `variable`")?;
    Ok((variable.to_owned(), file.into()))
}

fn command(table: &Table) -> Result<Grant, String> {
    let program = text(table, "program").ok_or("a [[command]] has no `program`")?;
    let args = match table.get("args") {
        None => Vec::new(),
        Some(Value::Array(args)) => args.iter().map(pattern).collect::<Result<_, _>>()?,
        Some(_) => return Err(format!("`args` of {program} is not a list")),
    };
    let stdin = table.get("stdin").map(stdin).transpose()?;
    let detach = table.get("detach").and_then(Value::as_bool).unwrap_or_default();
    Ok(Grant { program: program.to_owned(), args, stdin, detach })
}

fn stdin(rule: &Value) -> Result<Stdin, String> {
    let wrong = || "`stdin` is { regex = \"…\" } for the whole of it, or { lines = \"…\" } for each line".to_owned();
    let table = rule.as_table().ok_or_else(wrong)?;
    match (text(table, "regex"), text(table, "lines")) {
        (Some(regex), None) => whole(regex).map(Stdin::Whole),
        (None, Some(lines)) => whole(lines).map(Stdin::Lines),
        _ => Err(wrong()),
    }
}

/// An expression that matches a text as a whole.
fn whole(regex: &str) -> Result<Regex, String> {
    Regex::new(&format!("^(?:{regex})$")).map_err(|error| format!("{regex:?}: {error}"))
}

impl Grant {
    /// Why the command may not read this.
    fn check_stdin(&self, input: &[u8]) -> Result<(), String> {
        let Some(rule) = &self.stdin else { return Ok(()) };
        if input.len() > LONGEST_STDIN {
            return Err(format!("it is larger than {} KiB", LONGEST_STDIN >> 10));
        }
        let input = std::str::from_utf8(input).map_err(|_| "it is not UTF-8 text".to_owned())?;
        let matches = |regex: &Regex, text: &str| !text.contains('\0') && regex.is_match(text);
        match rule {
            Stdin::Whole(regex) if matches(regex, input) => Ok(()),
            Stdin::Whole(_) => Err(format!("it does not match: {input:?}")),
            Stdin::Lines(regex) => match input.split_terminator('\n').find(|line| !matches(regex, line)) {
                None => Ok(()),
                Some(line) => Err(format!("a line does not match: {line:?}")),
            },
        }
    }
}

fn pattern(argument: &Value) -> Result<Pattern, String> {
    match argument {
        Value::String(text) if text == "*" => Ok(Pattern::Any),
        Value::String(text) if text == "**" => Ok(Pattern::Rest),
        Value::String(text) => Ok(Pattern::Text(text.clone())),
        Value::Table(table) => {
            let regex = text(table, "regex").ok_or("an argument is neither a string nor { regex = \"…\" }")?;
            whole(regex).map(Pattern::Regex)
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
                // A guest's name must not turn an operand into an option, and must not contain line breaks.
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
        [[command]]\nprogram = '/usr/bin/many'\nargs = ['x', '**']\n\
        [[command]]\nprogram = '/usr/sbin/nft'\nstdin = { lines = 'add [a-z]+' }\n\
        [[command]]\nprogram = '/usr/bin/watch'\ndetach = true\ntimeout = '5min'\n";

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
            rights.decide(&command) == Ok(Granted::Awaited)
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
    fn what_a_command_reads_is_checked_and_a_detached_one_reads_nothing() -> Result<(), String> {
        let rights = rights()?;
        let decide = |program: &str, input: &str| rights.decide(Command::new(program).stdin(input));
        assert_eq!(decide("nft", "add a\nadd b\n"), Ok(Granted::Awaited));
        for input in ["add a\nflush\n", "add a b\n", "\n", "add \0"] {
            let refused = decide("nft", input);
            assert!(
                refused.as_ref().is_err_and(|why| why.contains("does not allow this stdin: a line")),
                "{refused:?}"
            );
        }
        assert_eq!(decide("watch", ""), Ok(Granted::Detached));
        assert_eq!(decide("watch", "x"), Err("watch is detached and gets no stdin".to_owned()));
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
        assert_eq!(rights.variable("MODE", None).as_deref(), Some("strict"));
        assert_eq!(rights.variable("OTHER", Some(&"x".to_owned())), None);
        Ok(())
    }
}
