//! The allowed standard input of a command.

use std::fmt;

use serde::Deserialize;

use super::expression::Expression;
use super::lines::quoted;

/// The maximum size of a checked standard input. A longer one is refused.
pub(crate) const LONGEST_STDIN: usize = 256 << 10;
/// The shown length of a refused text, in bytes.
const LONGEST_SHOWN: usize = 200;

/// `stdin = { regex = "…" }` or `stdin = { lines = "…" }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) enum StdinRule {
    /// The expression matches the whole input.
    Whole(Expression),
    /// The expression matches each line.
    Lines(Expression),
}

/// Why a standard input is refused, and the line of the settings that would allow it, if any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    pub(crate) line: Option<String>,
}

impl StdinRule {
    pub(crate) fn check(&self, document: &[u8]) -> Result<(), Refusal> {
        let refused = |why: String| Refusal { why, line: None };
        if document.len() > LONGEST_STDIN {
            return Err(refused(format!("it is larger than {} KiB", LONGEST_STDIN >> 10)));
        }
        let text = str::from_utf8(document).map_err(|_| refused("it is not UTF-8 text".to_owned()))?;
        match self {
            Self::Whole(expression) if expression.matches(text) => Ok(()),
            Self::Whole(expression) => Err(self.refused("it does not match".to_owned(), expression, text)),
            Self::Lines(expression) => {
                let mut lines = (1_usize..).zip(text.split_terminator('\n'));
                match lines.find(|(_, line)| !expression.matches(line)) {
                    None => Ok(()),
                    Some((number, line)) => {
                        Err(self.refused(format!("line {number} does not match"), expression, line))
                    }
                }
            }
        }
    }

    fn refused(&self, why: String, expression: &Expression, text: &str) -> Refusal {
        if text.len() > LONGEST_SHOWN || text.contains('\0') {
            return Refusal { why, line: None };
        }
        let key = match self {
            Self::Whole(_) => "regex",
            Self::Lines(_) => "lines",
        };
        let wider = quoted(&format!("{}|{}", expression.text, regex_lite::escape(text)));
        Refusal { why: format!("{why}: {text:?}"), line: Some(format!("\n    stdin = {{ {key} = {wider} }}")) }
    }
}

impl fmt::Display for StdinRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(expression) => write!(f, "its stdin {expression}"),
            Self::Lines(expression) => write!(f, "each line of its stdin {expression}"),
        }
    }
}

/// As written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{ regex = \"…\" } or { lines = \"…\" }")]
struct Table {
    regex: Option<String>,
    lines: Option<String>,
}

impl TryFrom<Table> for StdinRule {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        match table {
            Table { regex: Some(regex), lines: None } => Expression::new(regex).map(Self::Whole),
            Table { regex: None, lines: Some(lines) } => Expression::new(lines).map(Self::Lines),
            _ => Err("`stdin` is { regex = \"…\" } for the whole of it, or { lines = \"…\" } for each line".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::settings::Settings;

    fn rule(stdin: &str) -> Result<StdinRule, String> {
        let text = format!("[[command]]\nprogram = '/usr/sbin/nft'\nstdin = {stdin}");
        let settings: Settings = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        settings.commands.into_iter().next().and_then(|command| command.stdin).ok_or("no rule".to_owned())
    }

    /// Why a standard input is refused.
    fn refusal(stdin: &str, document: &[u8]) -> Refusal {
        let checked = rule(stdin).map(|rule| rule.check(document));
        let none = |why: &str| Refusal { why: why.to_owned(), line: None };
        checked.map_or_else(|why| none(&why), |checked| checked.err().unwrap_or_else(|| none("it is allowed")))
    }

    #[test]
    fn the_whole_matches_or_each_line() {
        let allows =
            |stdin: &str, document: &str| rule(stdin).is_ok_and(|rule| rule.check(document.as_bytes()).is_ok());
        let lines = "{ lines = 'add rule [a-z ]+|#.*' }";
        for document in ["", "add rule x\n", "add rule x\n# why\nadd rule y", "#\n#\n"] {
            assert!(allows(lines, document), "{document:?}");
        }
        for document in
            ["flush ruleset", "add rule x\nflush ruleset\n", "add rule x; flush\n", "\n", "# a\0", "add rule x\r\n"]
        {
            assert!(!allows(lines, document), "{document:?}");
        }
        let whole = "{ regex = '(?:-A [A-Z]+\\n)*COMMIT\\n' }";
        assert!(allows(whole, "-A X\n-A Y\nCOMMIT\n") && allows(whole, "COMMIT\n"));
        for document in ["", "COMMIT", "-A X\n", "COMMIT\nCOMMIT\n", "-F\nCOMMIT\n"] {
            assert!(!allows(whole, document), "{document:?}");
        }
    }

    #[test]
    fn the_line_that_a_refusal_gives_allows_it() {
        for (stdin, document) in [
            ("{ lines = 'add' }", "add\ndel \"x\" \\ [y]\n"),
            ("{ lines = 'add|x' }", "add\ntab\there\n"),
            ("{ regex = 'a\\n' }", "b\nc+"),
        ] {
            let line = refusal(stdin, document.as_bytes()).line.unwrap_or_default();
            assert_eq!(line.lines().count(), 2, "{line}");
            let wider = rule(line.trim_start().trim_start_matches("stdin = "));
            assert_eq!(wider.map(|rule| rule.check(document.as_bytes())), Ok(Ok(())), "{line}");
        }
        let refused = |document: &[u8]| refusal("{ lines = 'add' }", document);
        assert_eq!(refused(b"add\ndel\n").why, "line 2 does not match: \"del\"");
        assert_eq!(refused(b"\xff"), Refusal { why: "it is not UTF-8 text".to_owned(), line: None });
        assert_eq!(refused(&vec![b'x'; LONGEST_STDIN + 1]).why, "it is larger than 256 KiB");
        assert_eq!(
            refused("x".repeat(1000).as_bytes()),
            Refusal { why: "line 1 does not match".to_owned(), line: None }
        );
    }

    #[test]
    fn a_rule_is_one_of_the_two() {
        let why = |stdin: &str| rule(stdin).map_or_else(|why| why, |rule| rule.to_string());
        assert_eq!(why("{ lines = 'a' }"), "each line of its stdin /a/");
        for both in ["{}", "{ lines = 'a', regex = 'b' }"] {
            assert!(why(both).starts_with("`stdin` is { regex"), "{both}");
        }
        assert!(why("['a']").contains("expected { regex = \"…\" } or { lines = \"…\" }"));
        assert!(why("{ regex = '(' }").starts_with("\"(\": "));
        assert!(why("{ lines = '{object}' }").contains("{object} is not replaced in a regular expression"));
        assert!(why("{ lines = '(?:[a-z]{1000}){1000}' }").contains("size"));
    }
}
