//! The patterns of `[[command]]` must allow exactly what a second, slower implementation allows.
//!
//! The input is text: the object, the operation, the patterns as a TOML array, and the arguments that a guest asks for,
//! separated by the character U+001F. A rule for stdin and a document may follow, each after the character U+001E.
#![no_main]

use hookvisor::fuzzing::{allows, allows_stdin};
use libfuzzer_sys::fuzz_target;
use regex_lite::Regex;
use toml::{Table, Value};

/// A longer stdin is refused.
const LONGEST_STDIN: usize = 256 << 10;

fuzz_target!(|text: &str| {
    let mut parts = text.split('\u{1e}');
    check_arguments(parts.next().unwrap_or_default());
    if let (Some(rule), Some(document)) = (parts.next(), parts.next()) {
        check_stdin(rule, document);
    }
});

fn check_arguments(text: &str) {
    let mut parts = text.split('\u{1f}');
    let mut next = || parts.next().unwrap_or_default();
    let (object, operation, args) = (next(), next(), next());
    let asked: Vec<String> = parts.map(str::to_owned).collect();
    // A longer input would contain further settings.
    let Ok(written) = format!("args = {args}").parse::<Table>() else { return };
    let Some(Value::Array(patterns)) = written.get("args").filter(|_| written.len() == 1) else { return };
    let Some(allowed) = allows(args, &asked, object, operation) else { return };
    let expected = all_match(patterns, &asked, object, operation);
    assert_eq!(allowed, expected, "{patterns:?} and {asked:?} for {object:?} {operation:?}");
}

fn check_stdin(rule: &str, document: &str) {
    // A longer input would contain further settings.
    let Ok(written) = format!("stdin = {rule}").parse::<Table>() else { return };
    let Some(value) = written.get("stdin").filter(|_| written.len() == 1) else { return };
    let Some(allowed) = allows_stdin(rule, document.as_bytes()) else { return };
    let Value::Table(table) = value else { panic!("{value:?} was accepted") };
    let matches = match (table.get("regex"), table.get("lines")) {
        (Some(regex), None) => expression_matches(regex, document),
        (None, Some(regex)) => lines(document).iter().all(|line| expression_matches(regex, line)),
        _ => panic!("{table:?} was accepted"),
    };
    assert_eq!(table.len(), 1, "{table:?}");
    assert_eq!(allowed, matches && document.len() <= LONGEST_STDIN, "{table:?} and {document:?}");
}

/// The lines of a text. The last one may lack its line end.
fn lines(text: &str) -> Vec<&str> {
    match text {
        "" => Vec::new(),
        text => text.strip_suffix('\n').unwrap_or(text).split('\n').collect(),
    }
}

fn all_match(patterns: &[Value], asked: &[String], object: &str, operation: &str) -> bool {
    match (patterns.split_first(), asked.split_first()) {
        (None, first) => first.is_none(),
        (Some((Value::String(stars), rest)), _) if stars == "**" => {
            assert!(rest.is_empty(), "{patterns:?} was accepted");
            asked.iter().all(|argument| is_operand(argument))
        }
        (Some(_), None) => false,
        (Some((pattern, patterns)), Some((argument, asked))) => {
            let first = matches(pattern, argument, object, operation);
            // The remaining patterns are checked in any case.
            all_match(patterns, asked, object, operation) && first
        }
    }
}

fn matches(pattern: &Value, argument: &str, object: &str, operation: &str) -> bool {
    match pattern {
        Value::String(star) if star == "*" => is_operand(argument),
        Value::String(text) => {
            let option = argument.starts_with('-') && !text.starts_with('-');
            let control = argument.chars().any(char::is_control) && !text.chars().any(char::is_control);
            !option && !control && filled(text, object, operation) == argument
        }
        Value::Table(table) => expression_matches(&table["regex"], argument),
        other => panic!("{other:?} was accepted"),
    }
}

fn is_operand(argument: &str) -> bool {
    !argument.is_empty() && !argument.starts_with('-') && !argument.chars().any(char::is_control)
}

fn expression_matches(regex: &Value, text: &str) -> bool {
    let regex = regex.as_str().expect("an expression is text");
    assert!(!regex.contains("{object}") && !regex.contains("{operation}"), "{regex:?} was accepted");
    // The expression must be valid alone, not only inside the added brackets.
    Regex::new(regex).unwrap_or_else(|error| panic!("{regex:?} was accepted: {error}"));
    let whole = Regex::new(&format!(r"\A(?:{regex})\z")).expect("in brackets it is one as well");
    !text.contains('\0') && whole.is_match(text)
}

/// The text with the event's names filled in, character by character.
fn filled(text: &str, object: &str, operation: &str) -> String {
    match text.chars().next() {
        None => String::new(),
        Some(first) => match (text.strip_prefix("{object}"), text.strip_prefix("{operation}")) {
            (Some(rest), _) => object.to_owned() + &filled(rest, object, operation),
            (_, Some(rest)) => operation.to_owned() + &filled(rest, object, operation),
            (None, None) => first.to_string() + &filled(&text[first.len_utf8()..], object, operation),
        },
    }
}
