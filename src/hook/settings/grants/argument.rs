//! The forms of a command's arguments.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, de};

use super::expression::Expression;
use super::names::{Names, substitute};

/// The form of one argument.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    /// `"*"`: any one argument that is not empty, contains no control character, and does not begin with `-` like an
    /// option.
    Any,
    /// `"**"` at the end: any number of arguments, each as `"*"` allows.
    Rest,
    /// `{ regex = "…" }`: an argument that the expression matches as a whole.
    Regex(Expression),
    /// Anything else: this text, with `{object}` and `{operation}` replaced by the event's names.
    Text(String),
}

impl Pattern {
    pub(super) fn allows(&self, argument: &str, names: Names<'_>) -> bool {
        match self {
            Self::Any | Self::Rest => {
                !argument.is_empty() && !argument.starts_with('-') && !argument.contains(char::is_control)
            }
            Self::Regex(expression) => expression.matches(argument),
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

pub(super) fn all_allow(patterns: &[Pattern], arguments: &[String], names: Names<'_>) -> bool {
    patterns.len() == arguments.len()
        && patterns.iter().zip(arguments).all(|(pattern, argument)| pattern.allows(argument, names))
}

pub(super) fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Pattern>, D::Error> {
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
        Expression::new(regex).map(Pattern::Regex).map_err(de::Error::custom)
    }
}
