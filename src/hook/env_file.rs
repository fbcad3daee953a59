//! `env_file`: environment variables that must not appear in listings or in backups of the settings.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::file;
use super::trust::Trust;

/// The longest file, so that its variables fit into the arguments of execve(2).
const MAX_SIZE: u64 = 64 << 10;
const OTHERS_READ: u32 = 0o044;

/// Reads the variables of a file.
///
/// # Errors
/// One clause that says what is wrong with the file, and on which line. It quotes no value.
pub(crate) fn read(path: &Path, trust: Trust) -> Result<Vec<(String, String)>, String> {
    let (file, found) = file::open_trusted(path, trust).map_err(|error| error.to_string())?;
    // The group's bits are also the mask of an access control list.
    if found.mode() & OTHERS_READ != 0 {
        let (mode, path) = (found.mode() & 0o7777, path.display());
        return Err(format!("it can be read by others (mode {mode:04o}): run `chmod 600 {path}`"));
    }
    let mut text = String::new();
    match file.take(MAX_SIZE + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 > MAX_SIZE => Err(format!("it is longer than {} KiB", MAX_SIZE >> 10)),
        Ok(_) => variables(&text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Err("it is not UTF-8 text: save it as UTF-8".to_owned())
        }
        Err(error) => Err(format!("it could not be read: {error}")),
    }
}

fn variables(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables = Vec::new();
    let mut names = BTreeSet::new();
    for (number, line) in text.split('\n').enumerate().map(|(index, line)| (index + 1, line)) {
        if line.trim_ascii().is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {number}: it has no `=`: write NAME=VALUE"));
        };
        if !is_name(name) {
            return Err(format!(
                "line {number}: the text before the `=` is not a variable's name: use letters, digits and `_`"
            ));
        }
        if value.contains(['\0', '\r']) {
            return Err(format!(
                "line {number}: the value has a NUL or a carriage return: save the file with Unix line ends"
            ));
        }
        if !names.insert(name) {
            return Err(format!("line {number}: {name} is set twice"));
        }
        variables.push((name.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

/// Whether this is a variable's name that a shell can use.
pub(crate) fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::variables;

    #[test]
    fn a_line_is_a_variable_and_its_value_as_it_stands() {
        let read = variables("# a remark\n\nTOKEN=a b=\"c\" #d\n_X1=\n");
        let expected =
            [("TOKEN", "a b=\"c\" #d"), ("_X1", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, Ok(expected.to_vec()));
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_without_a_value() {
        for (text, why) in [
            ("A=1\ns3cret", "line 2: it has no `=`: write NAME=VALUE"),
            (
                "export A=s3cret",
                "line 1: the text before the `=` is not a variable's name: use letters, digits and `_`",
            ),
            ("=s3cret", "line 1: the text before the `=` is not a variable's name: use letters, digits and `_`"),
            ("1A=s3cret", "line 1: the text before the `=` is not a variable's name: use letters, digits and `_`"),
            ("A=s3cret\r\n", "line 1: the value has a NUL or a carriage return: save the file with Unix line ends"),
            ("A=1\nA=s3cret\n", "line 2: A is set twice"),
        ] {
            assert_eq!(variables(text), Err(why.to_owned()), "{text:?}");
        }
    }
}
