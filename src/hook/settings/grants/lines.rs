//! The lines of TOML that would grant what a hook was refused.

use std::path::Path;

use crate::printable::is_unsafe;

/// The grant for a refused command, for its note: three lines of TOML, whatever the guest asked for.
pub(crate) fn lines_to_grant(program: &Path, arguments: &[String]) -> String {
    // Only this argument, even if its text is a pattern.
    let is_pattern =
        |text: &str| text == "*" || text == "**" || text.contains("{object}") || text.contains("{operation}");
    let written = |argument: &String| match argument {
        text if is_pattern(text) => format!("{{ regex = {} }}", quoted(&regex_lite::escape(text))),
        text => quoted(text),
    };
    let args: Vec<String> = arguments.iter().map(written).collect();
    let program = quoted(&program.to_string_lossy());
    format!("\n    [[command]]\n    program = {program}\n    args = [{}]", args.join(", "))
}

/// The lines that would grant a directory, each after a newline.
pub(crate) fn lines_to_grant_directory(directory: &str, writes: bool) -> String {
    let access = if writes { "\n    access = \"read-write\"" } else { "" };
    format!("\n    [[dir]]\n    host = {}{access}", quoted(directory))
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        c if c.is_control() || is_unsafe(c) => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::settings::Settings;
    use crate::hook::settings::grants::Names;

    const NAMES: Names<'_> = Names { object: "web1", operation: "start" };

    #[test]
    fn the_lines_that_would_grant_a_command_do_grant_it() {
        let arguments = ["a\nb", "\"'\\", "\t\u{7f}\u{85}", "é", "", "*", "{object}"].map(str::to_owned);
        let lines = lines_to_grant(Path::new("/bin/x y"), &arguments);
        assert!(!lines.contains(|c: char| c.is_control() && c != '\n'), "{lines:?}");
        assert_eq!(lines.trim_start().lines().count(), 3, "{lines}");
        let settings: Option<Settings> = toml::from_str(&lines).ok();
        let command = settings.map(|settings| settings.commands).and_then(|mut commands| commands.pop());
        let allows = |asked: &[String]| command.as_ref().is_some_and(|c| c.allows("/bin/x y", asked, NAMES));
        assert!(allows(&arguments), "{lines}");
        for (at, other) in [(5, "other"), (6, NAMES.object)] {
            let mut others = arguments.clone();
            others[at] = other.to_owned();
            assert!(!allows(&others), "{lines}");
        }
    }
}
