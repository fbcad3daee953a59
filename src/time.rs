//! Durations as written in settings and in the configuration.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A nonzero duration such as `5s` or `1min 30s`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time(pub(crate) Duration);

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)
            .map_err(|e| de::Error::custom(format!("{}; write one like \"5s\"", e.to_string().trim_end())))?;
        let wrong = |why: &str| de::Error::custom(format!("{text:?}: {why}; write one like \"5s\" or \"1min 30s\""));
        match humantime::parse_duration(&text) {
            Ok(time) if !time.is_zero() => Ok(Self(time)),
            Ok(_) => Err(wrong("the duration must be greater than zero")),
            Err(why) => Err(wrong(&why.to_string())),
        }
    }
}
