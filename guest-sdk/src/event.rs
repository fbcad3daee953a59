use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::str;
use std::sync::{Arc, OnceLock};

use crate::{EventError, Operation, Stage};

/// What stands for a field that the event does not have.
const ABSENT: &str = "-";

/// What the daemon asks or tells: its four arguments, and a document (for libvirt, the XML of the domain or network).
pub struct Event {
    object: String,
    operation: Operation,
    sub_operation: String,
    extra: String,
    /// Empty until the hook asks for it.
    document: OnceLock<Result<Vec<u8>, EventError>>,
}

impl Event {
    /// The event that this process was called for: `<hook> <object> <operation> <sub-operation> <extra>`.
    ///
    /// The sub-operation and the extra may be left out, for a hook that is tried by hand; further arguments are passed
    /// over. Stdin is not read before [`document`](Self::document) asks for it, so a hook that decides by the
    /// operation alone neither waits for a document nor needs the memory to hold it.
    ///
    /// # Errors
    /// The object or the operation is missing, or an argument is not UTF-8.
    pub fn from_env() -> Result<Self, EventError> {
        Self::from_arguments(env::args_os().skip(1))
    }

    /// An event for a test, with an empty document.
    ///
    /// The operation is an [`Operation`] or its name.
    pub fn new(object: impl Into<String>, operation: impl Into<Operation>) -> Self {
        Self {
            object: object.into(),
            operation: operation.into(),
            sub_operation: ABSENT.into(),
            extra: ABSENT.into(),
            document: OnceLock::from(Ok(Vec::new())),
        }
    }

    /// The same event with this sub-operation.
    #[must_use]
    pub fn with_sub_operation(mut self, sub_operation: impl Into<String>) -> Self {
        self.sub_operation = sub_operation.into();
        self
    }

    /// The same event with this extra.
    #[must_use]
    pub fn with_extra(mut self, extra: impl Into<String>) -> Self {
        self.extra = extra.into();
        self
    }

    /// The same event with this document.
    #[must_use]
    pub fn with_document(mut self, document: impl Into<Vec<u8>>) -> Self {
        self.document = OnceLock::from(Ok(document.into()));
        self
    }

    /// The guest or network that the event is about; `-` where it is about the daemon itself.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What is about to happen or has happened, such as `prepare`, `start`, `stopped` or `release`.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Whether it can still be vetoed. libvirt's daemon, which is the object `-`, announces its own start when it has
    /// started.
    pub fn stage(&self) -> Stage {
        match self.operation {
            Operation::Start if self.object == ABSENT => Stage::Shutdown,
            ref operation => operation.stage(),
        }
    }

    /// Whether hooks may replace the document, by [`Verdict::replace`](crate::Verdict::replace).
    pub fn is_filter(&self) -> bool {
        matches!(self.operation, Operation::Migrate | Operation::Restore)
    }

    /// Most often `begin` or `end`.
    pub fn sub_operation(&self) -> Option<&str> {
        present(&self.sub_operation)
    }

    /// What else there is to say; libvirt's `release` gives the reason here, such as `migrated`.
    pub fn extra(&self) -> Option<&str> {
        present(&self.extra)
    }

    /// Object, operation, sub-operation and extra as the hook was called with them, `-` where one is absent.
    pub fn arguments(&self) -> [&str; 4] {
        [&self.object, self.operation.as_str(), &self.sub_operation, &self.extra]
    }

    /// The document, read from stdin to its end on the first call and kept.
    ///
    /// It is held in memory once and never twice, so it may take most of what a sandboxed hook has. For one larger
    /// still, read [`std::io::stdin`] piece by piece and do not call this.
    ///
    /// # Errors
    /// Stdin fails, or the document does not fit in memory; every later call then fails alike.
    pub fn document(&self) -> Result<&[u8], EventError> {
        let document = self.document.get_or_init(|| {
            read_whole(&mut io::stdin().lock()).map_err(|error| EventError::Unreadable(Arc::new(error)))
        });
        document.as_deref().map_err(Clone::clone)
    }

    /// The document as text.
    ///
    /// # Errors
    /// As [`document`](Self::document), or the document is not UTF-8.
    pub fn document_str(&self) -> Result<&str, EventError> {
        str::from_utf8(self.document()?).map_err(EventError::DocumentNotUtf8)
    }

    fn from_arguments(mut given: impl Iterator<Item = OsString>) -> Result<Self, EventError> {
        let mut argument = |name, default: Option<&str>| match given.next() {
            Some(argument) => argument.into_string().map_err(|_| EventError::ArgumentNotUtf8(name)),
            None => default.map(String::from).ok_or(EventError::MissingArgument(name)),
        };
        Ok(Self {
            object: argument("object", None)?,
            operation: argument("operation", None)?.into(),
            sub_operation: argument("sub-operation", Some(ABSENT))?,
            extra: argument("extra", Some(ABSENT))?,
            document: OnceLock::new(),
        })
    }
}

/// Names the event and leaves its document out, which would fill the screen.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("arguments", &self.arguments()).finish_non_exhaustive()
    }
}

fn present(argument: &str) -> Option<&str> {
    (argument != ABSENT).then_some(argument)
}

/// The room for a document at first, which is enough for nearly all of them.
const ORDINARY: usize = 256 << 10;

/// The room to ask for when a document is no ordinary one.
const AMPLE: usize = 256 << 20;

/// Reads `source` to its end, and holds the document once.
///
/// A vector that fills up asks for twice its size and copies, so for a moment a document is in memory up to three
/// times: too much for a sandbox. One ample reservation, or as much of it as there is, needs no copy. It is cheap,
/// since memory that is not written to takes no page, and what the document left is given back.
fn read_whole(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut document = Vec::new();
    loop {
        make_room(&mut document)?;
        let room = document.capacity() - document.len();
        if source.by_ref().take(room as u64).read_to_end(&mut document)? < room {
            document.shrink_to_fit();
            return Ok(document);
        }
    }
}

fn make_room(document: &mut Vec<u8>) -> io::Result<()> {
    let mut room = if document.is_empty() { ORDINARY } else { AMPLE };
    while document.try_reserve_exact(room).is_err() {
        room -= room.div_ceil(8);
        if room == 0 {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    fn called_with(arguments: &[&str]) -> Result<Event, EventError> {
        Event::from_arguments(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_dash_is_an_absent_field() -> Result<(), EventError> {
        let event = called_with(&["web1", "release", "end", "migrated"])?;
        assert_eq!((event.object(), event.operation()), ("web1", &Operation::Release));
        assert_eq!((event.sub_operation(), event.extra()), (Some("end"), Some("migrated")));

        let event = called_with(&["-", "start", "-", "-"])?;
        assert_eq!((event.object(), event.operation()), ("-", &Operation::Start));
        assert_eq!((event.sub_operation(), event.extra()), (None, None));
        assert_eq!(event.arguments(), ["-", "start", "-", "-"]);
        Ok(())
    }

    #[test]
    fn an_empty_argument_is_not_an_absent_one() -> Result<(), EventError> {
        assert_eq!(called_with(&["web 1", "start", "", "ü"])?.arguments(), ["web 1", "start", "", "ü"]);
        assert_eq!(called_with(&["web 1", "start", "", "ü"])?.sub_operation(), Some(""));
        Ok(())
    }

    #[test]
    fn trying_a_hook_by_hand_takes_two_arguments() -> Result<(), EventError> {
        assert_eq!(called_with(&["web1", "start"])?.arguments(), ["web1", "start", "-", "-"]);
        assert_eq!(called_with(&["a", "b", "c", "d", "e"])?.arguments(), ["a", "b", "c", "d"]);
        Ok(())
    }

    #[test]
    fn a_missing_argument_is_named() {
        let message =
            |arguments: &[&str]| called_with(arguments).map_or_else(|error| error.to_string(), |_| String::new());
        assert!(message(&[]).starts_with("no object given"));
        assert!(message(&["web1"]).starts_with("no operation given"));
    }

    #[test]
    fn an_event_for_a_test_holds_what_it_was_given() -> Result<(), EventError> {
        let event = Event::new("web1", "start").with_sub_operation("begin").with_extra("x").with_document("<domain/>");
        assert_eq!(event.arguments(), ["web1", "start", "begin", "x"]);
        assert_eq!(event.document()?, b"<domain/>");
        assert_eq!(Event::new("web1", "start").document_str()?, "");
        Ok(())
    }

    #[test]
    fn what_has_happened_cannot_be_vetoed() {
        let stage = |object: &str, operation: &str| Event::new(object, operation).stage();
        for operation in ["prepare", "start", "started", "migrate", "reconnect", "port-created", "pre-stop", "resize"] {
            assert_eq!(stage("web1", operation), Stage::Start, "{operation}");
        }
        for operation in ["stopped", "release", "port-deleted", "updated", "post-stop"] {
            assert_eq!(stage("web1", operation), Stage::Shutdown, "{operation}");
        }
        for operation in ["start", "shutdown", "reload"] {
            assert_eq!(stage("-", operation), Stage::Shutdown, "{operation}");
        }
    }

    #[test]
    fn two_operations_can_replace_the_document() {
        let filters = ["prepare", "start", "migrate", "restore", "release"].map(|o| Event::new("web1", o).is_filter());
        assert_eq!(filters, [false, false, true, true, false]);
    }

    #[test]
    fn a_document_that_is_not_text_is_still_bytes() -> Result<(), Box<dyn Error>> {
        let event = Event::new("web1", "start").with_document([b'<', 0xff]);
        assert_eq!(event.document()?, [b'<', 0xff]);
        let error = event.document_str().err().ok_or("not UTF-8, and yet a str")?;
        assert_eq!(error.to_string(), "the document is not UTF-8");
        Ok(())
    }

    #[test]
    fn documents_of_every_size_arrive_whole() -> io::Result<()> {
        for size in [0, 1, ORDINARY - 1, ORDINARY, ORDINARY + 1, 20 * ORDINARY + 7] {
            let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let document = read_whole(&mut sent.as_slice())?;
            assert!(document == sent, "{size} bytes");
            assert_eq!(document.capacity(), size);
        }
        Ok(())
    }
}
