//! Reads a TOML file that decides what runs, or what a hook may reach.

use std::io::{self, Read};
use std::iter;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;

use super::file;
use super::trust::Trust;

/// Longer than any hand-written file, and short enough to read at once.
const MAX_SIZE: u64 = 1 << 20;

/// Reads a trusted file; `None` if it does not exist.
///
/// # Errors
/// One sentence that says what is wrong with the file, and on which line.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, trust: Trust) -> Result<Option<T>, String> {
    if path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let (file, found) = file::open_trusted(path, trust).map_err(|error| error.to_string())?;
    let too_long = || format!("it is larger than {} MiB: remove what does not belong in it", MAX_SIZE >> 20);
    if found.len() > MAX_SIZE {
        return Err(too_long());
    }
    let mut text = String::with_capacity(usize::try_from(found.len()).unwrap_or_default());
    let size = file.take(MAX_SIZE + 1).read_to_string(&mut text).map_err(|e| unread(&e))?;
    if size as u64 > MAX_SIZE {
        return Err(too_long());
    }
    // Most files say nothing, and a parser takes its time for that too.
    let nothing = MapDeserializer::<_, toml::de::Error>::new(iter::empty::<(&str, &str)>());
    if says_nothing(&text)
        && let Ok(defaults) = T::deserialize(nothing)
    {
        return Ok(Some(defaults));
    }
    toml::from_str(&text).map(Some).map_err(|e| one_line(&text, &e))
}

/// Whether a text has only comments and blank lines. A control character may be an error, so such a text is parsed.
fn says_nothing(text: &str) -> bool {
    let is_nothing = |line: &str| {
        let line = line.trim_start_matches([' ', '\t']);
        line.is_empty() || line.starts_with('#')
    };
    let is_plain = |byte: u8| matches!(byte, b'\n' | b'\t') || !byte.is_ascii_control();
    text.bytes().all(is_plain) && text.lines().all(is_nothing)
}

fn unread(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => "it is not UTF-8 text: save it as UTF-8".to_owned(),
        _ => format!("it could not be read: {error}"),
    }
}

/// A parser's error with its line number.
pub(crate) fn one_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().matches('\n').count() + 1);
    let line = line.map(|n| format!("line {n}: ")).unwrap_or_default();
    let message = nearest(error.message()).unwrap_or_else(|| error.message().to_owned());
    // A key in quotes may contain a line break.
    format!("{line}{}", message.replace('\n', "; "))
}

/// If there are more keys than this, the error names only the one that is probably meant.
const LISTED: usize = 12;

/// The text for a misspelt key, if there are many keys and one is similar.
fn nearest(message: &str) -> Option<String> {
    let (unknown, keys) = message.strip_prefix("unknown field `")?.split_once("`, expected one of ")?;
    let keys: Vec<&str> = keys.split(", ").map(|key| key.trim_matches('`')).collect();
    let distance = |key: &&&str| strsim::osa_distance(unknown, key);
    let near = keys.iter().min_by_key(distance).filter(|key| distance(key) <= 2)?;
    (keys.len() > LISTED).then(|| format!("unknown field `{unknown}`: did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::says_nothing;

    #[test]
    fn a_text_without_keys_says_nothing() {
        for nothing in ["", "\n", "# one\n\n  \t# hooks = \"/srv\"", " "] {
            assert!(
                says_nothing(nothing) && toml::from_str::<toml::Table>(nothing).is_ok_and(|table| table.is_empty())
            );
        }
        for something in ["a = 1", "# one\n[limits]", "\u{1}", "# \u{1}", "# one\r# two", "x", "\u{feff}"] {
            assert!(!says_nothing(something), "{something:?}");
        }
    }
}
