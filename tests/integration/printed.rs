//! A hook's text can neither move a terminal's cursor nor imitate a line of hookvisor.

use std::fs;

use serde_json::Value;

use crate::support::program::{command, hookvisor};
use crate::support::{DRIVER, Hooks, skip};

/// A forged line of the report, between characters that move the cursor on a terminal or in Unicode text.
const FORGED: &str = "up\u{1b}[1A\r\u{9b}2K\u{202e}\u{2066}\tend\nHook script execution failed: Hook script /etc/x test forged\n  note: forged";
/// The same, as a terminal or a log shows it.
const SHOWN: &str = "up\\u{1b}[1A\\r\\u{9b}2K\\u{202e}\\u{2066}\tend\n    Hook script execution failed: Hook script /etc/x test forged\n      note: forged\n";

/// A hook that writes the text to this stream, with this exit status.
fn writes(stream: u8, status: u8) -> Hooks {
    let hooks = Hooks::new().script(DRIVER, &format!("cat \"$0.bak\" >&{stream}; exit {status}"));
    hooks.file("test.bak", FORGED, 0o644);
    hooks
}

/// The output of a hookvisor command on a terminal.
fn on_a_terminal(hooks: &Hooks, line: &str) -> Option<String> {
    let mut script = command("script");
    let line = format!("{}hookvisor {line}", hooks.function());
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("HOOKS", hooks.path());
    match script.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            skip("printed", "the program script of util-linux is missing");
            None
        }
        output => {
            let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
            Some(text.replace("\r\n", "\n").replace(&hooks.path().display().to_string(), "DIR"))
        }
    }
}

#[test]
fn on_a_terminal_a_hook_s_text_is_escaped_and_indented() {
    let Some(seen) = on_a_terminal(&writes(2, 1), "run --hooks \"$HOOKS\" test web1 start </dev/null") else { return };
    let entry = "Hook script execution failed: Hook script DIR/test failed with error code 1: ";
    assert_eq!(seen, format!("{entry}{SHOWN}"));
    let seen = on_a_terminal(&writes(2, 0), "run --verbose --hooks \"$HOOKS\" test web1 start </dev/null").unwrap();
    assert_eq!(seen, format!("Hook script DIR/test succeeded and wrote to stderr: {SHOWN}"));
    let seen = on_a_terminal(&writes(2, 1), "exec \"$HOOKS/test\" </dev/null").unwrap();
    assert_eq!(seen, format!("Hook script execution failed: Hook script DIR/test failed with error code 1: {SHOWN}"));
}

/// A program that reads a pipe gets what the hook wrote.
#[test]
fn a_pipe_gets_the_bytes_of_a_hook_and_a_terminal_does_not() {
    let passed_on = |hooks: &Hooks, arguments: &[&str]| hooks.call(arguments).stdout;
    let run = ["run", "--stdout", DRIVER, "web1", "start"];
    assert_eq!(passed_on(&writes(1, 0), &run), FORGED);
    assert_eq!(writes(1, 0).exec("test", &[], "").stdout, FORGED);
    let report = writes(2, 1).call(&["run", DRIVER, "web1", "start"]).stderr;
    assert!(report.ends_with(&format!(" failed with error code 1: {FORGED}\n")), "{report:?}");
    for line in ["run --stdout --hooks \"$HOOKS\" test web1 start </dev/null", "exec \"$HOOKS/test\" </dev/null"] {
        let Some(seen) = on_a_terminal(&writes(1, 0), line) else { return };
        assert!(!seen.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{2066}', '\r']), "{seen:?}");
    }
}

#[test]
fn json_has_the_text_as_the_hook_wrote_it() {
    let report = writes(2, 1).call(&["run", "--format", "json", DRIVER, "web1", "start"]).stdout;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["hooks"][0]["stderr"], FORGED);
}

#[test]
fn the_log_and_the_history_have_no_forged_line() {
    let hooks = writes(2, 0);
    let mut logged = hooks.command("run");
    logged.env("HOOKVISOR_LOG", "info").arg("--hooks").arg(hooks.path()).args([DRIVER, "web1", "start"]);
    let log = hooks.ran(&mut logged).stderr;
    assert_eq!(log, format!("hookvisor: Hook script DIR/test succeeded and wrote to stderr: {SHOWN}"));

    let hooks = writes(2, 1);
    let record = hooks.path().join("history.bak");
    let record = record.to_str().unwrap();
    assert_eq!(hooks.call(&["run", "--record", record, DRIVER, "web1", "start"]).status, 1);
    let history = hooks.ran(hookvisor().args(["history", "--record", record])).stdout;
    let indented: String = SHOWN.lines().skip(1).map(|line| format!("  {line}\n")).collect();
    assert!(history.ends_with(&indented), "{history}");
    assert!(!history.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\r']), "{history:?}");
    let recorded: Value = serde_json::from_str(fs::read_to_string(record).unwrap().trim()).unwrap();
    assert_eq!(recorded["hooks"][0]["stderr"], FORGED);
}

/// A process can choose its name.
#[test]
fn a_process_that_is_named_in_a_note_forges_nothing() {
    let body = "cp /bin/sleep \"$0.bak/$(printf 'x\\n\\033[A')\" && \"$0.bak/$(printf 'x\\n\\033[A')\" 5 & exit 3";
    let hooks = Hooks::new().script(DRIVER, body);
    fs::create_dir(hooks.path().join("test.bak")).unwrap();
    let report = hooks.call(&["run", DRIVER, "web1", "start"]).stderr;
    assert!(report.contains("hookvisor did not wait for it: x\\n\\u{1b}[A (pid "), "{report:?}");
    assert!(!report.contains('\u{1b}'), "{report:?}");
}

/// A module chooses the names of its imports.
#[cfg(feature = "compiler")]
#[test]
fn a_module_that_is_refused_forges_no_line_of_check() {
    let module = "(module (import \"a\\n\\1b[2Kok native /etc/x\" \"f\" (func)) (memory (export \"memory\") 1) (func (export \"_start\")))";
    let hooks = Hooks::new();
    hooks.file("test.d/10-a", wat::parse_str(module).unwrap(), 0o755);
    for subcommand in ["check", "list"] {
        let ran = hooks.call(&[subcommand]);
        assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{ran:?}");
        assert!(
            !ran.stdout.lines().chain(ran.stderr.lines()).any(|line| line.contains("[2Kok") && line.starts_with("\\u")),
            "{ran:?}"
        );
    }
    let checked = hooks.call(&["check"]).stdout;
    assert!(checked.contains("a\\n\\u{1b}[2Kok native /etc/x"), "{checked}");
}
