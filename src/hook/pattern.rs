//! Shell patterns for names, such as `web*`.

use globset::Glob;
use regex_lite::Regex;

/// A shell pattern with globset's syntax, matched by regex-lite. globset's engine is ten times as large, and a hook
/// that libvirt calls compiles its patterns in every run.
#[derive(Debug, Clone)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let glob = Glob::new(text).map_err(|error| error.to_string())?;
        // globset's expression matches bytes, and begins with `(?-u)`.
        let expression = glob.regex();
        let expression = format!("(?s){}", expression.strip_prefix("(?-u)").unwrap_or(expression));
        Regex::new(&expression).map(Self).map_err(|error| format!("error parsing glob '{text}': {error}"))
    }

    /// Whether the whole name matches.
    pub(crate) fn matches(&self, name: impl AsRef<[u8]>) -> bool {
        // Each byte becomes one character, since the expression is for bytes.
        let bytes: String = name.as_ref().iter().copied().map(char::from).collect();
        self.0.is_match(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn patterns_match_as_globset_does() {
        let patterns = [
            "web*",
            "web?",
            "w[e-f]b1",
            "w[!e]b1",
            "{web,db}1",
            "*",
            "a.b",
            "web-1",
            "a&b~#",
            r"a\*b",
            "é*",
            "?é",
            "[!]]",
            "a b",
            "**/x",
            "x/**",
            "(a|b)+$^",
        ];
        let names = [
            "web",
            "web1",
            "web12",
            "wfb1",
            "wab1",
            "db1",
            "",
            "a.b",
            "axb",
            "web-1",
            "a&b~#",
            "a*b",
            "é",
            "été",
            "xé",
            "]",
            "a b",
            "x",
            "a/x",
            "a/b/x",
            "x/y",
            "line\nbreak",
            "web\n",
            "(a|b)+$^",
        ];
        for text in patterns {
            let Ok(glob) = globset::Glob::new(text) else { unreachable!("{text} is a pattern") };
            let Ok(pattern) = Pattern::new(text) else { unreachable!("{text} is a pattern") };
            let matcher = glob.compile_matcher();
            for name in names {
                assert_eq!(pattern.matches(name), matcher.is_match(name), "{text:?} for {name:?}");
            }
        }
    }

    #[test]
    fn a_name_need_not_be_utf_8() {
        assert!(Pattern::new("a?b").is_ok_and(|pattern| pattern.matches(b"a\xffb")));
    }

    #[test]
    fn a_mistake_is_told() {
        assert!(Pattern::new("[").is_err_and(|error| error.contains("unclosed character class")));
    }
}
