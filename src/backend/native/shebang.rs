//! Checks whether the system can execute a file, and explains why not better than execve's errno does.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::hook::error::LaunchError;

const ELF: &[u8] = b"\x7fELF";

/// Examines the first bytes of a file as execve(2) does. `search` is the hook's PATH.
pub(super) fn check(path: &Path, head: &[u8], search: &OsStr) -> Result<(), LaunchError> {
    let refused = |why: String| Err(LaunchError::Refused(why));
    if head.starts_with(ELF) {
        return Ok(());
    }
    if head.is_empty() {
        return refused("it is empty: a script begins with a line such as `#!/bin/sh`".to_owned());
    }
    let Some(line) = head.strip_prefix(b"#!") else {
        return refused(
            "it is neither a program nor a script: a script begins with a line such as `#!/bin/sh`".to_owned(),
        );
    };
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default();
    if let Some(interpreter) = line.strip_suffix(b"\r") {
        let interpreter = String::from_utf8_lossy(interpreter.trim_ascii()).into_owned();
        return refused(format!(
            "its lines end in CRLF, as on Windows, so the system would look for an interpreter named \"{interpreter}\\r\": \
             run `sed -i 's/\\r$//' {}`",
            path.display()
        ));
    }
    let line = line.trim_ascii();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let (interpreter, argument) = (&line[..end], line[end..].trim_ascii());
    if interpreter.is_empty() {
        return refused("its first line names no interpreter: write one such as `#!/bin/sh`".to_owned());
    }
    // Hooks run in /, so a relative name is relative to it.
    let interpreter = Path::new("/").join(OsStr::from_bytes(interpreter));
    executable(&interpreter)?;
    if interpreter.file_name() == Some(OsStr::new("env")) { env_finds(argument, search) } else { Ok(()) }
}

/// The programs that execute a script with this beginning: its interpreter, and the program that `env` runs. Empty if
/// it is not a script.
pub(super) fn interpreters(head: &[u8], search: &OsStr) -> Vec<PathBuf> {
    let Some(line) = head.strip_prefix(b"#!") else { return Vec::new() };
    let line = line.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    let interpreter = Path::new("/").join(OsStr::from_bytes(&line[..end]));
    let mut found = vec![interpreter.clone()];
    if interpreter.file_name() == Some(OsStr::new("env"))
        && let Some(program) = program_of_env(line[end..].trim_ascii())
    {
        let directories = std::env::split_paths(search).map(|directory| Path::new("/").join(directory).join(program));
        found.extend(directories.into_iter().find(|path| executable(path).is_ok()));
    }
    found
}

fn executable(interpreter: &Path) -> Result<(), LaunchError> {
    let name = interpreter.display();
    match fs::metadata(interpreter) {
        Err(_) => Err(LaunchError::NotFound(format!(
            "its interpreter {name} does not exist: install it, or correct the first line"
        ))),
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => Err(LaunchError::Refused(format!(
            "its interpreter {name} is not an executable file: correct the first line, or run `chmod +x {name}`"
        ))),
        Ok(_) => Ok(()),
    }
}

/// Checks that `env` finds its program.
fn env_finds(argument: &[u8], search: &OsStr) -> Result<(), LaunchError> {
    let Some(program) = program_of_env(argument) else { return Ok(()) };
    if program.as_bytes().contains(&b'/') {
        return executable(&Path::new("/").join(program));
    }
    let runs = |dir: PathBuf| executable(&Path::new("/").join(dir).join(program)).is_ok();
    if std::env::split_paths(search).any(runs) {
        return Ok(());
    }
    let hint = if program.as_bytes().contains(&b' ') { " (arguments need `env -S`)" } else { "" };
    Err(LaunchError::NotFound(format!(
        "its interpreter \"{}\" is not in the PATH that hooks get, {}: install it, or correct the first line{hint}",
        program.display(),
        search.display()
    )))
}

/// The program that `env` runs. `None` for anything more than `env [-S] PROGRAM`.
fn program_of_env(argument: &[u8]) -> Option<&OsStr> {
    let split = argument.strip_prefix(b"-S").or_else(|| argument.strip_prefix(b"--split-string "));
    // Without -S, the system passes the rest of the line as one argument, including spaces.
    let program = split
        .map_or(argument, |words| words.trim_ascii_start().split(u8::is_ascii_whitespace).next().unwrap_or_default());
    let unclear = program.is_empty() || program.starts_with(b"-") || program.iter().any(|b| b"='\"".contains(b));
    (!unclear).then(|| OsStr::from_bytes(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result_of(first_line: &str) -> String {
        let path = Path::new("/hooks/qemu");
        match check(path, first_line.as_bytes(), OsStr::new("/usr/bin:/bin")) {
            Ok(()) => "runs".to_owned(),
            Err(why) => format!("{}: {why}", why.exit_status()),
        }
    }

    #[test]
    fn files_that_the_system_can_execute_are_accepted() {
        for line in [
            "#!/bin/sh\n",
            "#! /bin/sh -e\nexit 0\n",
            "#!/bin/sh",
            "#!/usr/bin/env sh\n",
            "#!/usr/bin/env -S sh -e\n",
            "#!/usr/bin/env -i sh\n",
            "#!/usr/bin/env -S MODE=strict sh\n",
            "\x7fELF…",
        ] {
            assert_eq!(result_of(line), "runs", "{line:?}");
        }
    }

    #[test]
    fn other_files_are_refused_with_the_reason_and_the_fix() {
        let refused = [
            ("", "126: it is empty: a script begins with a line such as `#!/bin/sh`"),
            (
                "echo hello\n",
                "126: it is neither a program nor a script: a script begins with a line such as `#!/bin/sh`",
            ),
            ("#!\n", "126: its first line names no interpreter: write one such as `#!/bin/sh`"),
            (
                "#!/bin/sh\r\nexit 0\r\n",
                "126: its lines end in CRLF, as on Windows, so the system would look for an interpreter named \"/bin/sh\\r\": \
                 run `sed -i 's/\\r$//' /hooks/qemu`",
            ),
            ("#!/no/such -x\n", "127: its interpreter /no/such does not exist: install it, or correct the first line"),
            (
                "#!/etc/passwd\n",
                "126: its interpreter /etc/passwd is not an executable file: correct the first line, or run `chmod +x /etc/passwd`",
            ),
            (
                "#!/usr/bin/env nosuch\n",
                "127: its interpreter \"nosuch\" is not in the PATH that hooks get, /usr/bin:/bin: install it, or correct the \
                 first line",
            ),
            (
                "#!/usr/bin/env sh -e\n",
                "127: its interpreter \"sh -e\" is not in the PATH that hooks get, /usr/bin:/bin: install it, or correct the \
                 first line (arguments need `env -S`)",
            ),
        ];
        for (line, expected) in refused {
            assert_eq!(result_of(line), expected, "{line:?}");
        }
    }
}
