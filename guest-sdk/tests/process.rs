//! What a daemon observes of a native hook: its exit status and its stderr.
//!
//! This test is its own hook. With arguments it decides; without, it runs itself with arguments.

use std::env;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, ExitCode, Output, Stdio, Termination};

use hookvisor_guest::{Event, Verdict, hook, log};

type TestResult = Result<(), Box<dyn Error>>;

type Test = (&'static str, fn() -> TestResult);

const TESTS: [Test; 9] = [
    ("every exit status survives", every_exit_status_survives),
    ("a veto is one write", a_veto_is_one_write),
    ("a broken stderr does not change the status", a_broken_stderr_does_not_change_the_status),
    ("the document is stdin", the_document_is_stdin),
    ("a new document goes to stdout alone", a_new_document_goes_to_stdout_alone),
    ("a new document that cannot be written vetoes", a_new_document_that_cannot_be_written_vetoes),
    ("the log goes to stderr", the_log_goes_to_stderr),
    ("a document that nobody asks for is left alone", a_document_that_is_not_requested_is_not_read),
    ("a call without an operation vetoes", a_call_without_an_operation_vetoes),
];

fn main() -> ExitCode {
    if env::var_os("HOOK").is_some() {
        return hook(decide).report();
    }
    let mut status = ExitCode::SUCCESS;
    for (name, test) in TESTS {
        let outcome = test().map_or_else(|error| error.to_string(), |()| "ok".into());
        if outcome != "ok" {
            status = ExitCode::FAILURE;
        }
        let _ = writeln!(io::stdout(), "test {name} ... {outcome}");
    }
    status
}

/// Decides by the operation: `measure` vetoes with the document's size, any other with a status.
fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    match event.operation().as_str() {
        "measure" => Ok(Verdict::veto(format!("{} bytes", event.document()?.len()))),
        "shout" => Ok(Verdict::replace(event.document()?.to_ascii_uppercase())),
        "log" => {
            log::debug!("nobody asked for this");
            log::warn!("{} is slow", event.object());
            Ok(Verdict::veto("too slow"))
        }
        "text" => Ok(Verdict::veto(event.document_str()?)),
        status => match status.parse()? {
            0 => Ok(Verdict::proceed()),
            status => Ok(Verdict::veto_with_status(status, format!("{} says no", event.object()))),
        },
    }
}

fn called_with(arguments: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.env("HOOK", "").args(arguments).stdin(Stdio::null());
    Ok(command)
}

fn given(document: &[u8], arguments: &[&str]) -> io::Result<Output> {
    let mut child =
        called_with(arguments)?.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(document));
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => child.wait_with_output(),
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn every_exit_status_survives() -> TestResult {
    for status in 0..=255 {
        let output = called_with(&["web1", &status.to_string(), "begin", "-"])?.output()?;
        assert_eq!(output.status.code(), Some(status));
        assert_eq!(stderr(&output), if status == 0 { "" } else { "web1 says no\n" });
        assert!(output.stdout.is_empty());
    }
    Ok(())
}

fn a_veto_is_one_write() -> TestResult {
    let (reader, writer) = UnixDatagram::pair()?;
    let status = called_with(&["web1", "1"])?.stderr(OwnedFd::from(writer)).status()?;
    assert_eq!(status.code(), Some(1));
    let mut datagram = [0; 64];
    let length = reader.recv(&mut datagram)?;
    assert_eq!(&datagram[..length], b"web1 says no\n");
    Ok(())
}

fn a_broken_stderr_does_not_change_the_status() -> TestResult {
    let (reader, writer) = io::pipe()?;
    drop(reader);
    let status = called_with(&["web1", "42"])?.stderr(writer).status()?;
    assert_eq!(status.code(), Some(42));
    Ok(())
}

fn the_document_is_stdin() -> TestResult {
    let output = given(&vec![b'x'; 5_000_000], &["web1", "measure"])?;
    assert_eq!(stderr(&output), "5000000 bytes\n");

    let output = given(b"<domain\xff>", &["web1", "text"])?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "the document is not UTF-8: invalid utf-8 sequence of 1 bytes from index 7\n");
    Ok(())
}

fn a_new_document_goes_to_stdout_alone() -> TestResult {
    let output = given(&vec![b'x'; 5_000_000], &["web1", "shout"])?;
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    assert!(output.stdout == vec![b'X'; 5_000_000]);
    Ok(())
}

fn a_new_document_that_cannot_be_written_vetoes() -> TestResult {
    let full = OpenOptions::new().write(true).open("/dev/full")?;
    let mut hook = called_with(&["web1", "shout"])?;
    let mut child = hook.stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"<domain/>"))?;
    let output = child.wait_with_output()?;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("the new document cannot be written: No space left"), "{output:?}");
    Ok(())
}

fn the_log_goes_to_stderr() -> TestResult {
    let output = called_with(&["web1", "log"])?.output()?;
    assert_eq!(stderr(&output), "warn: web1 is slow\ntoo slow\n");
    let output = called_with(&["web1", "log"])?.env("HOOKVISOR_LOG", "off").output()?;
    assert_eq!(stderr(&output), "too slow\n");
    Ok(())
}

fn a_document_that_is_not_requested_is_not_read() -> TestResult {
    let output = given(&vec![b'x'; 5_000_000], &["web1", "0"])?;
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));
    Ok(())
}

fn a_call_without_an_operation_vetoes() -> TestResult {
    let output = called_with(&["web1"])?.output()?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "no operation given: a hook's arguments are object, operation, sub-operation and extra\n"
    );
    Ok(())
}
