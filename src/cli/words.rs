//! Keeps arguments of events and hooks from being parsed as options: an object may be named `--help`.

use std::ffi::OsString;

use clap::{Arg, Command};

/// Inserts `--` before the first word of an event or a hook.
pub(super) fn protect(program: &Command, subcommands: &[&str], mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.get(1).and_then(|name| name.to_str()).filter(|name| subcommands.contains(name));
    let Some(subcommand) = name.and_then(|name| program.find_subcommand(name)) else { return arguments };
    let mut at = 2;
    while let Some(option) = arguments.get(at).map(|word| word.to_string_lossy()).filter(|word| is_option(word)) {
        if option == "--" {
            return arguments;
        }
        at += if value_follows(subcommand, &option) { 2 } else { 1 };
    }
    if at < arguments.len() {
        arguments.insert(at, "--".into());
    }
    arguments
}

fn is_option(word: &str) -> bool {
    word.starts_with('-') && word != "-"
}

/// Whether the next word is the option's value.
fn value_follows(subcommand: &Command, option: &str) -> bool {
    let takes_value = |arg: &Arg| arg.get_action().takes_values();
    match option.strip_prefix("--") {
        Some(long) => subcommand.get_arguments().any(|arg| arg.get_long() == Some(long) && takes_value(arg)),
        None => option.chars().next_back().is_some_and(|short| {
            subcommand.get_arguments().any(|arg| arg.get_short() == Some(short) && takes_value(arg))
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, arg};

    use super::*;

    #[test]
    fn the_words_of_an_event_are_no_options() {
        let run = Command::new("run")
            .args([arg!(--hooks <DIR>), Arg::new("verbose").long("verbose").short('v').action(ArgAction::SetTrue)]);
        let program = Command::new("hookvisor").subcommand(run).subcommand(Command::new("list"));
        let protected = |line: &str| {
            let words = line.split(' ').map(OsString::from).collect();
            protect(&program, &["run"], words).iter().map(|w| w.to_string_lossy()).collect::<Vec<_>>().join(" ")
        };
        for (line, expected) in [
            ("hookvisor run qemu --help start", "hookvisor run -- qemu --help start"),
            ("hookvisor run --hooks /x qemu --hooks=/y", "hookvisor run --hooks /x -- qemu --hooks=/y"),
            ("hookvisor run --hooks=/x -v qemu -- -v", "hookvisor run --hooks=/x -v -- qemu -- -v"),
            ("hookvisor run -- --help start", "hookvisor run -- --help start"),
            ("hookvisor run --help", "hookvisor run --help"),
            ("hookvisor list --hooks x", "hookvisor list --hooks x"),
            ("hookvisor", "hookvisor"),
        ] {
            assert_eq!(protected(line), expected);
        }
    }
}
