//! The patterns of `[[command]]` must allow exactly what a second, slower implementation allows.
//!
//! The input is text: the object, the operation, the patterns as a TOML array, and the arguments that a guest asks for,
//! separated by the character U+001F.
#![no_main]

use hookvisor::fuzzing::allows;
use libfuzzer_sys::fuzz_target;
use regex_lite::Regex;
use toml::{Table, Value};

fuzz_target!(|text: &str| {
    let mut parts = text.split('\u{1f}');
    let mut next = || parts.next().unwrap_or_default();
    let (object, operation, args) = (next(), next(), next());
    let asked: Vec<String> = parts.map(str::to_owned).collect();
    // A longer input would contain further settings.
    let Ok(written) = format!("args = {args}").parse::<Table>() else { return };
    let Some(Value::Array(patterns)) = written.get("args").filter(|_| written.len() == 1) else { return };
    let Some(allowed) = allows(args, &asked, object, operation) else { return };
    let expected =
        patterns.len() == asked.len() && patterns.iter().zip(&asked).all(|(p, a)| matches(p, a, object, operation));
    assert_eq!(allowed, expected, "{patterns:?} and {asked:?} for {object:?} {operation:?}");
});

fn matches(pattern: &Value, argument: &str, object: &str, operation: &str) -> bool {
    match pattern {
        Value::String(star) if star == "*" => {
            !argument.is_empty() && !argument.starts_with('-') && !argument.chars().any(char::is_control)
        }
        Value::String(text) => {
            let option = argument.starts_with('-') && !text.starts_with('-');
            let control = argument.chars().any(char::is_control) && !text.chars().any(char::is_control);
            !option && !control && filled(text, object, operation) == argument
        }
        Value::Table(table) => {
            let regex = table["regex"].as_str().expect("an expression is text");
            // The expression must be valid alone, not only inside the added brackets.
            Regex::new(regex).unwrap_or_else(|error| panic!("{regex:?} was accepted: {error}"));
            let whole = Regex::new(&format!(r"\A(?:{regex})\z")).expect("in brackets it is one as well");
            !argument.contains('\0') && whole.is_match(argument)
        }
        other => panic!("{other:?} was accepted"),
    }
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
