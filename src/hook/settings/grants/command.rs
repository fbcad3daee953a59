//! `[[command]]`: programs that the runtime runs for a hook.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::argument::{Pattern, all_allow, patterns};
use super::names::Names;
use super::paths::absolute;
use super::stdin::StdinRule;
use crate::time::Time;

/// `[[command]]`: a program that the runtime runs for the guest, with arguments of these forms.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) struct CommandGrant {
    pub(crate) program: PathBuf,
    args: Vec<Pattern>,
    /// Without it, the command gets any input from the hook.
    pub(crate) stdin: Option<StdinRule>,
    /// It is detached, with this timeout.
    pub(crate) detach: Option<Duration>,
}

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(deserialize_with = "absolute")]
    program: PathBuf,
    #[serde(default, deserialize_with = "patterns")]
    args: Vec<Pattern>,
    stdin: Option<StdinRule>,
    #[serde(default)]
    detach: bool,
    timeout: Option<Time>,
}

impl TryFrom<Table> for CommandGrant {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        let Table { program, args, stdin, detach, timeout } = table;
        let detach = match (detach, timeout) {
            (true, Some(_)) if stdin.is_some() => {
                return Err("a command with `detach = true` gets no stdin: remove `stdin`".to_owned());
            }
            (true, Some(Time(time))) => Some(time),
            (true, None) => {
                return Err("a command with `detach = true` needs a time at which it is ended: add, for example, \
                            timeout = \"5min\""
                    .to_owned());
            }
            (false, Some(_)) => {
                return Err("`timeout` is for a command with `detach = true`, as any other has the hook's own time: \
                            remove it"
                    .to_owned());
            }
            (false, None) => None,
        };
        Ok(Self { program, args, stdin, detach })
    }
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
    /// Whether the grant allows running any program: an interpreter with an argument that the hook chooses.
    pub(crate) fn runs_anything(&self) -> bool {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let is_open = self.args.is_empty() || self.args.iter().any(|pattern| !matches!(pattern, Pattern::Text(_)));
        is_open && RUN_ANYTHING.contains(&name)
    }

    /// Whether the guest's request is granted. A name without a `/` stands for the program with this file name.
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

impl fmt::Display for CommandGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {}", self.program.display())?;
        self.args.iter().try_for_each(|pattern| match pattern {
            Pattern::Any => write!(f, " *"),
            Pattern::Rest => write!(f, " **"),
            Pattern::Regex(expression) => write!(f, " {expression}"),
            Pattern::Text(text) => write!(f, " {text}"),
        })?;
        if let Some(rule) = &self.stdin {
            write!(f, ", {rule}")?;
        }
        match self.detach {
            Some(time) => write!(f, ", left running for up to {}", humantime::format_duration(time)),
            None => Ok(()),
        }
    }
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
        // Inside a text, it is a literal star.
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
        // The longer alternative matches, although a shorter one comes first.
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
    fn a_command_that_is_left_has_a_time_and_no_stdin() {
        let said = |more: &str| {
            let command = toml::from_str::<CommandGrant>(&format!("program = '/bin/x'\n{more}"));
            command.map_or_else(|error| error.message().to_owned(), |command| command.to_string())
        };
        assert_eq!(said("detach = true\ntimeout = '5min'"), "run /bin/x, left running for up to 5m");
        assert_eq!(said("detach = false"), "run /bin/x");
        assert!(said("detach = true").ends_with("add, for example, timeout = \"5min\""));
        assert!(said("timeout = '5s'").starts_with("`timeout` is for a command with `detach = true`"));
        assert!(said("detach = true\ntimeout = '5s'\nstdin = { lines = 'a' }").ends_with("remove `stdin`"));
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
