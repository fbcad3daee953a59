//! Makes a hook's text safe to show on a terminal or in a log.

use std::fmt::Write;

/// The indentation of all lines of a hook's text but the first. No line of hookvisor itself begins with so many spaces.
const INDENT: &str = "    ";

/// Whether a character could move a terminal's cursor, hide text or change its order. A newline is one, a tab is not.
///
/// These are the control characters, and Unicode's line separators, directional marks and invisible formatting characters.
/// Joiners are not: several scripts need them.
#[must_use]
pub(crate) fn is_unsafe(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    is_format || (c.is_control() && c != '\t')
}

/// Makes untrusted text safe to show: control characters except newline and tab, and Unicode's directional and
/// invisible characters, are escaped as in Rust. A byte that is not UTF-8 becomes `\xff`.
///
/// ```
/// assert_eq!(hookvisor::printable(b"\x1b[2Kfine \xe2\x88\x9a\n\xff"), "\\u{1b}[2Kfine √\n\\xff");
/// ```
#[must_use]
pub fn printable(text: &[u8]) -> String {
    escaped(text, |c| is_unsafe(c) && c != '\n')
}

/// The same for a part of a line: newlines are escaped too.
#[must_use]
pub fn printable_line(text: &str) -> String {
    escaped(text.as_bytes(), is_unsafe)
}

fn escaped(text: &[u8], is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_escaped(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// The same for text that follows something on its line: lines after the first are indented.
#[must_use]
pub fn printable_block(text: &[u8]) -> String {
    printable(text).replace('\n', &format!("\n{INDENT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_hides_text_is_escaped() {
        for (text, shown) in [
            ("one\n\ttwo √ ï נ\u{200d}", "one\n\ttwo √ ï נ\u{200d}"),
            ("\u{1b}[2K\r\u{7}\u{7f}\0", "\\u{1b}[2K\\r\\u{7}\\u{7f}\\u{0}"),
            ("\u{9b}2J\u{85}", "\\u{9b}2J\\u{85}"),
            ("\u{202a}\u{202e}\u{2066}\u{2069}", "\\u{202a}\\u{202e}\\u{2066}\\u{2069}"),
            ("\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}", "\\u{200e}\\u{200f}\\u{61c}\\u{2028}\\u{2029}"),
            ("\u{feff}\u{200b}\u{e0041}", "\\u{feff}\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(printable(text.as_bytes()), shown);
        }
        assert_eq!(printable(b"\xff\xc3(\xe2\x88"), "\\xff\\xc3(\\xe2\\x88");
        assert_eq!(printable_line("a\nb\tc"), "a\\nb\tc");
    }

    #[test]
    fn every_line_after_the_first_is_indented() {
        assert_eq!(printable_block(b"one\n\n  note: two"), "one\n    \n      note: two");
    }
}
