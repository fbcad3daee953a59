//! Wrong arguments and unusable streams.

use std::ffi::OsString;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::{self, Stdio};

use hookvisor::{Event, Exec};
use insta::assert_snapshot;

use super::executable;
use crate::support::program::hookvisor;
use crate::support::{DRIVER, Hooks};

#[test]
fn arguments_that_cannot_be_passed() {
    let nul = Event::new("test", "we\0b", "start").map(drop).unwrap_err().to_string();
    assert_eq!(nul, r#"the object "we\0b" contains a NUL byte, which is not allowed in an event"#);

    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let module = hooks.path().join("module");
    executable(&module, wat::parse_str(r#"(module (func (export "_start")))"#).unwrap());
    let native_only = cfg!(not(feature = "wasm"));
    for file in [hooks.path().join(DRIVER), module].into_iter().take(if native_only { 1 } else { 2 }) {
        let with = |argument| Exec::new(&file).run(&["web1", argument], "").termination;
        assert!(with("two\nlines").is_success());
        let refused = with("a\0b");
        assert_eq!(
            (refused.to_string().as_str(), refused.exit_status()),
            (r#"could not be run: the argument "a\0b" contains a NUL byte, which cannot be passed to a hook"#, 126)
        );
    }
}

#[test]
fn usage_errors() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    let lines: &[&[&str]] = &[
        &["run", DRIVER, "two\nlines", "start"],
        &["run", DRIVER, "web1", "start\n"],
        &["run", DRIVER, "web1", "start", "-", "two\nlines"],
        &["run", "a/b", "web1", "start"],
        &["run", "..", "web1", "start"],
        &["run", "", "web1", "start"],
        &["run", "--timeout", "5x", DRIVER, "web1", "start"],
        &["run", "--timeout", "5", DRIVER, "web1", "start"],
        &["run", "--timeout", "0s", DRIVER, "web1", "start"],
        &["run", "--timeout", "", DRIVER, "web1", "start"],
        &["run", "--timeout=-5s", DRIVER, "web1", "start"],
        &["run", "--timeout", "99999999999999999999years", DRIVER, "web1", "start"],
        &["run", "--format", "xml", DRIVER, "web1", "start"],
        &["run"],
        &["run", DRIVER, "web1"],
        &["run", DRIVER, "web1", "start", "-", "-", "one too many"],
        &["list", DRIVER],
        &["check", "--timeout", "5s"],
    ];
    let mut text = String::new();
    let mut table = |line: &[OsString]| {
        let mut command = hookvisor();
        let ran = hooks.ran(command.args(line));
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{line:?}");
        assert!(ran.stderr.contains("\nUsage: hookvisor ") || ran.stderr.contains("try '--help'"), "{}", ran.stderr);
        let line: Vec<String> = line.iter().map(|word| word.to_string_lossy().escape_debug().to_string()).collect();
        writeln!(text, "$ hookvisor {}\n{}", line.join(" "), ran.stderr).unwrap();
    };
    for line in lines {
        table(&line.iter().map(OsString::from).collect::<Vec<_>>());
    }
    table(&["nosuch".into()]);
    table(&["exec".into()]);
    table(&["run".into(), DRIVER.into(), OsString::from_vec(b"web\xff".to_vec()), "start".into()]);
    assert_snapshot!("usage", text);
}

#[test]
fn an_unreadable_standard_input_is_not_an_empty_document() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    hooks.file("written~", "", 0o644);
    let run = "hookvisor run --hooks \"$HOOKS\" test web1 start";
    let exec = "hookvisor exec \"$HOOKS/test\"";
    for command in [run, exec] {
        let directory = hooks.shell(&format!("{command} < /"));
        let write_only = hooks.shell(&format!("{command} 0> \"$HOOKS/written~\""));
        let said = [directory, write_only].map(|ran| (ran.status, ran.stderr));
        let why = |why| format!("hookvisor: the document could not be read from standard input: {why}\n");
        assert_eq!(said, [(125, why("Is a directory (os error 21)")), (125, why("Bad file descriptor (os error 9)"))]);
    }
    // Without a standard input there is no document, so nothing is lost.
    assert_eq!(hooks.shell(&format!("{run} <&-")).status, 0);
}

#[test]
fn a_full_standard_output_is_a_failure_and_a_closed_one_is_not() {
    let hooks = Hooks::new().script("qemu", "cat").script(DRIVER, "echo said; exit 3");
    let full = "hookvisor: standard output could not be written: No space left on device (os error 28)\n";
    for command in [
        "run --hooks \"$HOOKS\" --format json qemu web1 start",
        // A lost document would look like an unchanged one.
        "run --hooks \"$HOOKS\" qemu web1 migrate",
        "list --hooks \"$HOOKS\"",
        "check --hooks \"$HOOKS\"",
        "exec \"$HOOKS/qemu\"",
    ] {
        let ran = hooks.shell(&format!("echo '<domain/>' | hookvisor {command} > /dev/full"));
        assert_eq!((ran.status, ran.stderr.as_str()), (125, full), "{command}");
        let ran = hooks.shell(&format!("echo '<domain/>' | hookvisor {command} 1< /dev/null"));
        assert_eq!(ran.status, 125, "{command}: {}", ran.stderr);
        // A pipe whose reader is gone before the first write.
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let mut shell = process::Command::new("sh");
        shell.args(["-c", &format!("{}hookvisor {command}", hooks.function())]).env("HOOKS", hooks.path());
        let ran = shell.stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert_eq!((ran.status.code(), String::from_utf8_lossy(&ran.stderr).as_ref()), (Some(0), ""), "{command}");
    }
    // The hook's own failure is reported even if its output cannot be written.
    let ran = hooks.shell("hookvisor exec \"$HOOKS/test\" < /dev/null > /dev/full");
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.starts_with(
        "Hook script execution failed: Hook script DIR/test failed with error code 3 and wrote nothing to stderr\n"
    ));
    let ran = hooks.shell("hookvisor run --hooks \"$HOOKS\" test web1 start < /dev/null 2> /dev/full");
    assert_eq!(ran.status, 3);
}
