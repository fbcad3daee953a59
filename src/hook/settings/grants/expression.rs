//! Regular expressions in grants.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

/// The size limit of a compiled expression. It also bounds the time for matching, since a hook chooses the text.
const LARGEST: usize = 256 << 10;

/// A regular expression that matches a text as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    /// As written in the settings.
    pub(super) text: String,
    anchored: Regex,
}

impl Expression {
    pub(super) fn new(text: String) -> Result<Self, String> {
        if let Some(name) = ["{object}", "{operation}"].into_iter().find(|name| text.contains(name)) {
            return Err(format!("{text:?}: {name} is not replaced in a regular expression: use it in a plain string"));
        }
        let compile = |pattern: &str| RegexBuilder::new(pattern).size_limit(LARGEST).build();
        // Compile it alone first: the added brackets would make `a)|(b` valid. Anchored, so that an alternative that
        // matches as a whole is found.
        let anchored = compile(&text).and_then(|_| compile(&format!("^(?:{text})$")));
        let anchored = anchored.map_err(|error| format!("{text:?}: {error}"))?;
        Ok(Self { text, anchored })
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        !text.contains('\0') && self.anchored.find(text).is_some_and(|found| found.range() == (0..text.len()))
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.text)
    }
}
