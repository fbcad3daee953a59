use std::error::Error;
use std::io::{self, Write};
use std::iter;
use std::process::{ExitCode, Termination};

use crate::{Event, sys};

/// The hook's decision. Return it from `main`.
///
/// In the start stage, a veto blocks the operation. In the shutdown stage, a veto is only reported as a failed hook.
#[must_use = "a verdict takes effect when `main` returns it"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: u8,
    message: String,
    document: Vec<u8>,
}

impl Verdict {
    /// Allows the operation: exit status 0, no output.
    pub fn proceed() -> Self {
        Self { status: 0, message: String::new(), document: Vec::new() }
    }

    /// Allows the operation and replaces the event's document: exit status 0, the document on stdout.
    ///
    /// Use it only if [`Event::is_filter`] returns true; for other operations, the runtime discards the document. An
    /// empty document replaces nothing.
    pub fn replace(document: impl Into<Vec<u8>>) -> Self {
        Self { document: document.into(), ..Self::proceed() }
    }

    /// Blocks the operation: exit status 1, the message on stderr.
    ///
    /// Write one line that names the guest and says what to change. The guest's user sees it.
    pub fn veto(message: impl Into<String>) -> Self {
        Self::veto_with_status(1, message)
    }

    /// Blocks the operation with this exit status. A status of 0 is changed to 1.
    pub fn veto_with_status(status: u8, message: impl Into<String>) -> Self {
        Self { status: status.max(1), message: message.into(), document: Vec::new() }
    }

    /// Whether this is a veto.
    #[must_use]
    pub fn is_veto(&self) -> bool {
        self.status != 0
    }

    /// The hook's exit status.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        self.status
    }

    /// The veto's message. Empty if this is not a veto.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The document that replaces the event's. Empty if it is not replaced.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }

    /// Writes the document. A failure becomes a veto: the runtime would accept a truncated document as complete.
    fn after_document(self, mut to: impl Write) -> Self {
        if self.document.is_empty() {
            return self;
        }
        match to.write_all(&self.document).and_then(|()| to.flush()) {
            Ok(()) => self,
            Err(error) => Self::veto(format!("the new document cannot be written: {error}")),
        }
    }

    /// The text for stderr: the message and one newline, or nothing if there is no message.
    fn to_stderr(&self) -> String {
        match self.message.trim_end_matches('\n') {
            "" => String::new(),
            message => format!("{message}\n"),
        }
    }
}

impl Termination for Verdict {
    fn report(self) -> ExitCode {
        let verdict = self.after_document(io::stdout().lock());
        // One write, so that output of other processes is not mixed in. A closed stderr must not change the verdict.
        let _ = io::stderr().write_all(verdict.to_stderr().as_bytes());
        sys::end_with(verdict.status)
    }
}

/// An error becomes a veto. Its message is the error and its sources on one line: `a: b: c`.
impl<E: Into<Box<dyn Error>>> From<Result<Verdict, E>> for Verdict {
    fn from(decision: Result<Verdict, E>) -> Self {
        decision.unwrap_or_else(|error| Self::veto(chain(error.into().as_ref())))
    }
}

/// Runs a hook on this process's event. An error becomes a veto, so `?` fails closed.
///
/// ```no_run
/// use hookvisor_guest::{Verdict, hook};
///
/// fn main() -> Verdict {
///     hook(|event| {
///         let vlan: u16 = event.extra().ok_or("no VLAN given")?.parse()?;
///         if vlan == 1 {
///             return Ok(Verdict::veto("VLAN 1 is the host's own"));
///         }
///         Ok(Verdict::proceed())
///     })
/// }
/// ```
///
/// If `decide` has its own error type, use `hook(|event| Ok(decide(event)?))`.
pub fn hook(decide: impl FnOnce(&Event) -> Result<Verdict, Box<dyn Error>>) -> Verdict {
    #[cfg(feature = "log")]
    crate::log_to_runtime();
    Event::from_env().map_err(Into::into).and_then(|event| decide(&event)).into()
}

fn chain(error: &dyn Error) -> String {
    iter::successors(Some(error), |&error| error.source())
        .map(|error| one_line(&error.to_string()))
        .collect::<Vec<_>>()
        .join(": ")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Unfit(io::Error);

    impl fmt::Display for Unfit {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the host\n  is unfit")
        }
    }

    impl Error for Unfit {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn an_error_vetoes_with_its_chain_on_one_line() {
        let failed: Result<Verdict, Unfit> = Err(Unfit(io::Error::other("no\nnetwork")));
        assert_eq!(Verdict::from(failed), Verdict::veto("the host is unfit: no network"));
    }

    #[test]
    fn any_error_will_do() {
        assert_eq!(Verdict::from(Err("a str")), Verdict::veto("a str"));
        assert_eq!(Verdict::from(Err(String::from("a String"))), Verdict::veto("a String"));
    }

    #[test]
    fn a_decision_stays_as_it_was_made() {
        let decided: Result<Verdict, io::Error> = Ok(Verdict::veto_with_status(77, "skipped"));
        assert_eq!(Verdict::from(decided), Verdict::veto_with_status(77, "skipped"));
    }

    #[test]
    fn no_veto_has_status_0() {
        assert_eq!(Verdict::veto_with_status(0, "no").exit_status(), 1);
        assert!(Verdict::veto("no").is_veto());
        assert!(!Verdict::proceed().is_veto());
    }

    #[test]
    fn a_new_document_proceeds_unless_it_cannot_be_written() {
        let mut written = Vec::new();
        let verdict = Verdict::replace("<domain/>");
        assert_eq!(verdict.clone().after_document(&mut written), verdict);
        assert_eq!((written.as_slice(), verdict.is_veto()), (b"<domain/>".as_slice(), false));
        assert_eq!(Verdict::replace("<domain/>").after_document([0; 4].as_mut_slice()).exit_status(), 1);
        assert_eq!(Verdict::proceed().after_document([].as_mut_slice()), Verdict::proceed());
    }

    #[test]
    fn a_message_ends_in_one_newline() {
        assert_eq!(Verdict::veto("no").to_stderr(), "no\n");
        assert_eq!(Verdict::veto("no\n").to_stderr(), "no\n");
        assert_eq!(Verdict::veto("first\nsecond\n\n").to_stderr(), "first\nsecond\n");
        assert_eq!(Verdict::veto("").to_stderr(), "");
        assert_eq!(Verdict::proceed().to_stderr(), "");
    }
}
