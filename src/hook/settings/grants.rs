//! What a sandboxed hook can use beyond its sandbox: directories, commands, connections. Only its settings can grant them.

use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use regex_lite::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use crate::hook::pattern::Pattern as ShellPattern;

/// `[[dir]]`: a directory of the host, as WASI's pre-opened directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DirectoryGrant {
    #[serde(deserialize_with = "place")]
    pub(crate) host: PathBuf,
    guest: Option<String>,
    #[serde(default)]
    pub(crate) access: Access,
}

/// What may be done in a directory, and in all below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Access {
    #[default]
    Read,
    /// Confined hooks only.
    Write,
    ReadWrite,
}

/// The most directories that one pattern may match.
const MOST_PLACES: usize = 256;

/// Directories whose grant opens more than it seems to, and what that is.
const SENSITIVE: [(&str, &str); 3] = [
    ("/proc", "the kernel's settings"),
    ("/sys/kernel/security", "the policies of security modules"),
    ("/dev", "the shared memory of other programs"),
];

impl DirectoryGrant {
    /// A warning about this grant, for the administrator.
    pub(crate) fn warning(&self) -> Option<String> {
        let host = std::fs::canonicalize(&self.host).unwrap_or_else(|_| self.host.clone());
        let opened: Vec<String> = SENSITIVE
            .iter()
            .filter(|(path, _)| std::path::Path::new(path).starts_with(&host))
            .map(|(path, what)| format!("{path} ({what})"))
            .collect();
        (!opened.is_empty()).then(|| {
            format!(
                "its grant of {} opens {}: grant only the directory that the hook needs",
                self.host.display(),
                opened.join(", ")
            )
        })
    }
}

impl DirectoryGrant {
    /// Whether only the event says which places are granted: the path has a name of the event, or a shell pattern.
    pub(crate) fn is_pattern(&self) -> bool {
        let text = self.host.to_string_lossy();
        text.contains("{object}") || text.contains("{operation}") || is_glob(&text)
    }

    /// What the path leads to for an event. A pattern may lead to nothing.
    pub(crate) fn places(&self, names: Names<'_>) -> Result<Vec<PathBuf>, String> {
        if !self.is_pattern() {
            return Ok(vec![self.host.clone()]);
        }
        let mut places = vec![PathBuf::from("/")];
        for component in self.host.components().skip(1) {
            places = below(&places, &component.as_os_str().to_string_lossy(), names)?;
            if places.len() > MOST_PLACES {
                return Err(format!("{} matches more than {MOST_PLACES} places", self.host.display()));
            }
        }
        Ok(places)
    }

    /// Whether the guest knows it by another name than the host.
    pub(crate) fn is_renamed(&self) -> bool {
        self.guest.as_ref().is_some_and(|guest| self.host.to_str() != Some(guest))
    }

    /// The name that the guest knows it by.
    #[cfg(feature = "wasm")]
    pub(crate) fn guest(&self, place: &std::path::Path) -> String {
        self.guest.clone().unwrap_or_else(|| place.to_string_lossy().into_owned())
    }
}

/// `[[connect]]`: an address that a component may open a TCP connection to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectGrant {
    #[serde(deserialize_with = "address")]
    pub(crate) to: SocketAddr,
}

/// `[[command]]`: a program that the runtime runs when the guest asks for it, with arguments of this form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandGrant {
    #[serde(deserialize_with = "absolute")]
    pub(crate) program: PathBuf,
    #[serde(default, deserialize_with = "patterns")]
    args: Vec<Pattern>,
}

/// The form of one argument.
#[derive(Debug, Clone)]
enum Pattern {
    /// `"*"`: any one argument, but for the empty one, one that begins with `-` and so would be an option, and one with a
    /// control character.
    Any,
    /// `"**"`, at the end: any number of arguments, each of which `"*"` would allow.
    Rest,
    /// `{ regex = "…" }`: what the expression matches whole.
    Regex(Regex),
    /// Anything else: the text itself, `{object}` and `{operation}` standing for the event's.
    Text(String),
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The places of one component of a pattern below these.
fn below(places: &[PathBuf], component: &str, names: Names<'_>) -> Result<Vec<PathBuf>, String> {
    for (placeholder, name) in [("{object}", names.object), ("{operation}", names.operation)] {
        if component.contains(placeholder) && (name.is_empty() || name.starts_with('.') || name.contains(['/', '\0'])) {
            return Err(format!("the name {name:?} cannot be used in the path of a directory"));
        }
    }
    if !is_glob(component) {
        let name = substitute(component, names);
        return Ok(places.iter().map(|place| place.join(&name)).collect());
    }
    let (object, operation) = (globset::escape(names.object), globset::escape(names.operation));
    let pattern = substitute(component, Names { object: &object, operation: &operation });
    let pattern = ShellPattern::new(&pattern)?;
    let mut found = Vec::new();
    for place in places {
        let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
        found.extend(entries.filter(|entry| pattern.matches(entry.file_name().as_bytes())).map(|entry| entry.path()));
    }
    found.sort();
    Ok(found)
}

/// The event's own names, which patterns may refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names<'a> {
    pub(crate) object: &'a str,
    pub(crate) operation: &'a str,
}

/// Programs that run what their arguments, their standard input or a file says.
const RUN_ANYTHING: [&str; 28] = [
    "ash",
    "awk",
    "bash",
    "busybox",
    "chroot",
    "dash",
    "env",
    "find",
    "gawk",
    "ksh",
    "lua",
    "make",
    "mawk",
    "nice",
    "node",
    "nohup",
    "nsenter",
    "perl",
    "python",
    "ruby",
    "setsid",
    "sh",
    "ssh",
    "sudo",
    "systemd-run",
    "unshare",
    "xargs",
    "zsh",
];

impl CommandGrant {
    /// Whether the grant is a way to run any program: an interpreter with an argument that the hook chooses.
    pub(crate) fn runs_anything(&self) -> bool {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_open = self.args.is_empty() || self.args.iter().any(|pattern| !matches!(pattern, Pattern::Text(_)));
        is_open && RUN_ANYTHING.contains(&name)
    }

    /// Whether the guest's request is what was granted. A program without a `/` is asked for by its file's name.
    pub(crate) fn allows(&self, program: &str, arguments: &[String], names: Names<'_>) -> bool {
        let named = self.program.to_str() == Some(program)
            || (!program.contains('/') && self.program.file_name().is_some_and(|name| name == program));
        named
            && match self.args.split_last() {
                Some((Pattern::Rest, first)) => arguments.split_at_checked(first.len()).is_some_and(|(begin, rest)| {
                    all_allow(first, begin, names) && rest.iter().all(|argument| Pattern::Any.allows(argument, names))
                }),
                _ => all_allow(&self.args, arguments, names),
            }
    }
}

impl Pattern {
    fn allows(&self, argument: &str, names: Names<'_>) -> bool {
        match self {
            Self::Any | Self::Rest => {
                !argument.is_empty() && !argument.starts_with('-') && !argument.contains(char::is_control)
            }
            Self::Regex(regex) => {
                !argument.contains('\0')
                    && regex.find(argument).is_some_and(|found| found.range() == (0..argument.len()))
            }
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
fn substitute(text: &str, names: Names<'_>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        result.push_str(&rest[..at]);
        rest = &rest[at..];
        let (placeholder, value) = [("{object}", names.object), ("{operation}", names.operation)]
            .into_iter()
            .find(|(placeholder, _)| rest.starts_with(placeholder))
            .unwrap_or(("{", "{"));
        result.push_str(value);
        rest = &rest[placeholder.len()..];
    }
    result + rest
}

fn all_allow(patterns: &[Pattern], arguments: &[String], names: Names<'_>) -> bool {
    patterns.len() == arguments.len()
        && patterns.iter().zip(arguments).all(|(pattern, argument)| pattern.allows(argument, names))
}

fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
    let patterns = Vec::<Pattern>::deserialize(deserializer)?;
    match patterns.iter().rev().skip(1).any(|pattern| matches!(pattern, Pattern::Rest)) {
        true => Err(de::Error::custom("\"**\" stands for the remaining arguments: write it last")),
        false => Ok(patterns),
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PatternVisitor)
    }
}

struct PatternVisitor;

impl<'de> Visitor<'de> for PatternVisitor {
    type Value = Pattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an argument: a string, or { regex = \"…\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Pattern, E> {
        Ok(match text {
            "*" => Pattern::Any,
            "**" => Pattern::Rest,
            text => Pattern::Text(text.to_owned()),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pattern, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            regex: String,
        }
        let Table { regex } = Table::deserialize(MapAccessDeserializer::new(map))?;
        if let Some(name) = ["{object}", "{operation}"].into_iter().find(|name| regex.contains(name)) {
            return Err(de::Error::custom(format!(
                "{regex:?}: {name} is not replaced in a regular expression: use it in a plain string"
            )));
        }
        // By itself, since the brackets that are put around it would make a whole of `a)|(b`. And anchored, so that of
        // several alternatives the one that matches whole is found.
        let anchored = Regex::new(&regex).and_then(|_| Regex::new(&format!("^(?:{regex})$")));
        anchored.map(Pattern::Regex).map_err(|e| de::Error::custom(format!("{regex:?}: {e}")))
    }
}

/// A path, in which the event's names and shell patterns may stand.
fn place<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = absolute(deserializer)?;
    for component in path.components() {
        if component == std::path::Component::ParentDir {
            return Err(de::Error::custom(format!("{:?} contains \"..\"", path.display().to_string())));
        }
        let text = component.as_os_str().to_string_lossy();
        if is_glob(&text) {
            ShellPattern::new(&text).map_err(de::Error::custom)?;
        }
    }
    Ok(path)
}

fn absolute<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        return Ok(path);
    }
    Err(de::Error::custom(format!("{:?} is not an absolute path", path.display().to_string())))
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        de::Error::custom(format!("{text:?} is not an address and port, such as \"127.0.0.1:9090\" or \"[::1]:9090\""))
    })
}

impl fmt::Display for DirectoryGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may = match self.access {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "read and write",
        };
        write!(f, "{may} {}", self.host.display())?;
        match &self.guest {
            Some(guest) => write!(f, " as {guest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for CommandGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.program.display())?;
        self.args.iter().try_for_each(|pattern| match pattern {
            Pattern::Any => write!(f, " *"),
            Pattern::Rest => write!(f, " **"),
            Pattern::Regex(regex) => {
                write!(f, " /{}/", regex.as_str().trim_start_matches("^(?:").trim_end_matches(")$"))
            }
            Pattern::Text(text) => write!(f, " {text}"),
        })
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connect to {}", self.to)
    }
}

/// What would grant a command, for the note about one that was refused: three lines of TOML, whatever the guest asked for.
pub(crate) fn lines_to_grant(program: &std::path::Path, arguments: &[String]) -> String {
    // Just this argument, where its text would be a pattern for others.
    let is_pattern =
        |text: &str| text == "*" || text == "**" || text.contains("{object}") || text.contains("{operation}");
    let written = |argument: &String| match argument {
        text if is_pattern(text) => format!("{{ regex = {} }}", quoted(&regex_lite::escape(text))),
        text => quoted(text),
    };
    let args: Vec<String> = arguments.iter().map(written).collect();
    let program = quoted(&program.to_string_lossy());
    format!("\n    [[command]]\n    program = {program}\n    args = [{}]", args.join(", "))
}

/// The lines that would grant a directory, each after a newline.
#[cfg(feature = "wasm")]
pub(crate) fn lines_to_grant_directory(directory: &str) -> String {
    format!("\n    [[dir]]\n    host = {}", quoted(directory))
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names<'_> = Names { object: "web1", operation: "start" };

    fn command(args: &str) -> Result<CommandGrant, toml::de::Error> {
        toml::from_str(&format!("program = '/usr/bin/tool'\nargs = {args}"))
    }

    fn allows(args: &str, asked: &[&str], names: Names<'_>) -> bool {
        let command = match command(args) {
            Ok(command) => command,
            Err(error) => unreachable!("{args}: {error}"),
        };
        command.allows("/usr/bin/tool", &asked.iter().map(|&a| a.to_owned()).collect::<Vec<_>>(), names)
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_else() {
        assert!(allows("['-f', '-']", &["-f", "-"], NAMES));
        assert!(allows("[]", &[], NAMES));
        for other in [&["-f"][..], &["-f", "-", "x"], &["-f", "x"], &["-F", "-"], &[]] {
            assert!(!allows("['-f', '-']", other, NAMES), "{other:?}");
        }
    }

    #[test]
    fn a_star_is_one_operand() {
        assert!(allows("['start', '*']", &["start", "a b;$(c)"], NAMES));
        for other in ["", "-x", "--now", "a\nb", "a\0b", "\t"] {
            assert!(!allows("['start', '*']", &["start", other], NAMES), "{other:?}");
        }
        assert!(!allows("['start', '*']", &["start", "a", "b"], NAMES));
        // Inside a text it is a star.
        assert!(allows("['a*']", &["a*"], NAMES) && !allows("['a*']", &["ab"], NAMES));
    }

    #[test]
    fn two_stars_are_the_remaining_operands() {
        for asked in [&["start"][..], &["start", "a"], &["start", "a", "b c"]] {
            assert!(allows("['start', '**']", asked, NAMES), "{asked:?}");
        }
        for other in [&[][..], &["stop", "a"], &["start", "-x"], &["start", "a", ""], &["start", "a", "--now"]] {
            assert!(!allows("['start', '**']", other, NAMES), "{other:?}");
        }
        let why = command("['**', 'x']").map_or_else(|e| e.message().to_owned(), |_| "accepted".to_owned());
        assert_eq!(why, "\"**\" stands for the remaining arguments: write it last");
        let why =
            command("[{ regex = 'x{object}' }]").map_or_else(|e| e.message().to_owned(), |_| "accepted".to_owned());
        assert!(why.contains("{object} is not replaced in a regular expression"), "{why}");
    }

    #[test]
    fn a_directory_may_be_of_the_event() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        for name in ["web1", "web2", "[x]", "cpu0/state", "cpu1/state", "cpu1/other"] {
            std::fs::create_dir_all(directory.path().join(name))?;
        }
        let root = directory.path().display();
        let places = |pattern: &str, object: &str| {
            let grant: Option<DirectoryGrant> = toml::from_str(&format!("host = '{root}/{pattern}'")).ok();
            let found = grant.map(|grant| grant.places(Names { object, operation: "start" }));
            let name = |path: &PathBuf| path.strip_prefix(directory.path()).ok()?.to_str().map(str::to_owned);
            found.and_then(Result::ok).map(|found| found.iter().filter_map(name).collect::<Vec<_>>())
        };
        let some = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(places("{object}", "web1"), some(&["web1"]));
        assert_eq!(places("cpu*/state", "web1"), some(&["cpu0/state", "cpu1/state"]));
        assert_eq!(places("{object}*", "web"), some(&["web1", "web2"]));
        // A guest's name is no pattern, and no way up.
        assert_eq!(places("{object}*", "*"), some(&[]));
        assert_eq!(places("{object}?", "[x"), some(&["[x]"]));
        for object in ["..", ".", "", "a/b"] {
            assert_eq!(places("{object}", object), None, "{object:?}");
        }
        assert_eq!(places("../x", "web1"), None);
        Ok(())
    }

    #[test]
    fn an_expression_matches_whole_or_not() {
        let cpus = "[{ regex = 'AllowedCPUs=[0-9,-]*|none' }]";
        assert!(allows(cpus, &["AllowedCPUs=0-3,8"], NAMES) && allows(cpus, &["none"], NAMES));
        for other in ["AllowedCPUs=0-3 x", "xAllowedCPUs=1", "AllowedCPUs=1\n", "none\nnone", ""] {
            assert!(!allows(cpus, &[other], NAMES), "{other:?}");
        }
        for wrong in ["a)|(?:b", "(", "["] {
            assert!(
                command(&format!("[{{ regex = '{wrong}' }}]")).is_err_and(|e| e.message().contains(wrong)),
                "{wrong}"
            );
        }
        // The longer alternative is found although a shorter one matches first.
        assert!(allows("[{ regex = 'a|ab' }]", &["ab"], NAMES));
    }

    #[test]
    fn an_argument_is_text_or_an_expression() {
        let why = |args| command(args).map_or_else(|e| e.message().to_owned(), |_| "accepted".to_owned());
        for args in ["[1]", "[['a.*']]", "[{}]", "[{ regex = 'a', flags = 'i' }]", "[{ regex = 1 }]", "'*'"] {
            assert_ne!(why(args), "accepted", "{args}");
        }
        assert_eq!(why("[['a.*']]"), "invalid type: sequence, expected an argument: a string, or { regex = \"…\" }");
    }

    #[test]
    fn the_event_s_names_are_put_in_once_and_make_no_option() {
        assert!(allows("['/run/{object}.{operation}']", &["/run/web1.start"], NAMES));
        assert!(!allows("['{object}']", &["web2"], NAMES));
        let tricky = Names { object: "{operation}", operation: "start" };
        assert!(allows("['{object}']", &["{operation}"], tricky) && !allows("['{object}']", &["start"], tricky));
        let option = Names { object: "--all", operation: "start" };
        assert!(!allows("['{object}']", &["--all"], option));
        assert!(allows("['--name={object}']", &["--name=--all"], option));
        assert!(allows("['{other}{']", &["{other}{"], NAMES));
    }

    #[test]
    fn the_lines_that_would_grant_a_command_do_grant_it() {
        let arguments = ["a\nb", "\"'\\", "\t\u{7f}\u{85}", "é", "", "*", "{object}"].map(str::to_owned);
        let lines = lines_to_grant(std::path::Path::new("/bin/x y"), &arguments);
        assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "{lines:?}");
        assert_eq!(lines.trim_start().lines().count(), 3, "{lines}");
        let settings: Option<super::super::Settings> = toml::from_str(&lines).ok();
        let command = settings.map(|settings| settings.commands).and_then(|mut commands| commands.pop());
        let allows = |asked: &[String]| command.as_ref().is_some_and(|c| c.allows("/bin/x y", asked, NAMES));
        assert!(allows(&arguments), "{lines}");
        for (at, other) in [(5, "other"), (6, NAMES.object)] {
            let mut others = arguments.clone();
            others[at] = other.to_owned();
            assert!(!allows(&others), "{lines}");
        }
    }

    #[test]
    fn a_program_is_asked_for_by_path_or_by_name() {
        let command: Option<CommandGrant> = toml::from_str("program = '/usr/sbin/nft'").ok();
        let allows = |program| command.as_ref().is_some_and(|c| c.allows(program, &[], NAMES));
        assert!(allows("/usr/sbin/nft") && allows("nft"));
        for other in ["/tmp/nft", "./nft", "sbin/nft", "NFT", "", "/usr/sbin/../sbin/nft"] {
            assert!(!allows(other), "{other}");
        }
    }
}
