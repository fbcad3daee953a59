use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::path::Path;
use std::str;
use std::sync::{Arc, OnceLock};

use crate::{EventError, Operation, Stage};

/// The placeholder for an absent field.
const ABSENT: &str = "-";

/// The driver by the path of the hook: `<driver>`, `<driver>.d/<hook>`, or `<driver>.d/<object>/<operation>/<sub-operation>/<hook>`.
fn driver_of(hook: &Path, event: &Event) -> Option<String> {
    let directory_of = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".d").map(str::to_owned);
    let event_directory = Path::new(&event.object).join(event.operation.as_str()).join(&event.sub_operation);
    let directory = hook.parent()?;
    let of_one_event = || directory.ends_with(&event_directory).then(|| directory_of(directory.ancestors().nth(3)?))?;
    let of_the_file = || hook.file_name()?.to_str().map(|name| name.strip_suffix(".wasm").unwrap_or(name).to_owned());
    directory_of(directory).or_else(of_one_event).or_else(of_the_file)
}

/// One call of the hook: four arguments and a document (for libvirt, the XML of the domain or network).
pub struct Event {
    object: String,
    operation: Operation,
    sub_operation: String,
    extra: String,
    /// The hook's own path, as it was called.
    hook: Option<OsString>,
    /// Taken from the path on first use.
    driver: OnceLock<Option<String>>,
    /// Read from stdin on first use.
    document: OnceLock<Result<Vec<u8>, EventError>>,
}

impl Event {
    /// Creates the event from this process's arguments: `<hook> <object> <operation> <sub-operation> <extra>`.
    ///
    /// The sub-operation and the extra may be omitted when you run a hook by hand. Further arguments are ignored. Stdin
    /// is read only when [`document`](Self::document) is called, so a hook that needs only the operation neither waits
    /// for the document nor holds it in memory.
    ///
    /// # Errors
    /// The object or the operation is missing, or an argument is not UTF-8.
    pub fn from_env() -> Result<Self, EventError> {
        let mut arguments = env::args_os();
        let hook = arguments.next();
        Ok(Self { hook, ..Self::from_arguments(arguments)? })
    }

    /// Creates an event for a test, with an empty document.
    ///
    /// `operation` is an [`Operation`] or its name.
    pub fn new(object: impl Into<String>, operation: impl Into<Operation>) -> Self {
        Self {
            object: object.into(),
            operation: operation.into(),
            sub_operation: ABSENT.into(),
            extra: ABSENT.into(),
            hook: None,
            driver: OnceLock::new(),
            document: OnceLock::from(Ok(Vec::new())),
        }
    }

    /// Sets the sub-operation.
    #[must_use]
    pub fn with_sub_operation(mut self, sub_operation: impl Into<String>) -> Self {
        self.sub_operation = sub_operation.into();
        self
    }

    /// Sets the extra argument.
    #[must_use]
    pub fn with_extra(mut self, extra: impl Into<String>) -> Self {
        self.extra = extra.into();
        self
    }

    /// Sets the driver.
    #[must_use]
    pub fn with_driver(mut self, driver: impl Into<String>) -> Self {
        self.driver = OnceLock::from(Some(driver.into()));
        self
    }

    /// Sets the document.
    #[must_use]
    pub fn with_document(mut self, document: impl Into<Vec<u8>>) -> Self {
        self.document = OnceLock::from(Ok(document.into()));
        self
    }

    /// The name of the guest or network; `-` if the event is about the daemon itself.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// The operation, such as `prepare`, `start`, `stopped` or `release`.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Whether the event can be vetoed ([`Stage::Start`]) or not ([`Stage::Shutdown`]).
    ///
    /// libvirt's daemon (the object `-`) reports its own `start` after it has started, so that event is in the shutdown
    /// stage.
    pub fn stage(&self) -> Stage {
        match self.operation {
            Operation::Start if self.object == ABSENT => Stage::Shutdown,
            ref operation => operation.stage(),
        }
    }

    /// Whether hooks may replace the document with [`Verdict::replace`](crate::Verdict::replace).
    pub fn is_filter(&self) -> bool {
        matches!(self.operation, Operation::Migrate | Operation::Restore)
    }

    /// The sub-operation, usually `begin` or `end`.
    pub fn sub_operation(&self) -> Option<&str> {
        present(&self.sub_operation)
    }

    /// The extra argument. For libvirt's `release` it is the reason, such as `migrated`.
    pub fn extra(&self) -> Option<&str> {
        present(&self.extra)
    }

    /// The driver of the event, such as `qemu` or `network`. The hook's own path says it: `DIR/<driver>`, or a file in
    /// `DIR/<driver>.d`. So it is wrong for `DIR/<driver>` if the name of the hooks directory ends in `.d`.
    ///
    /// `None` in a test that does not set it.
    pub fn driver(&self) -> Option<&str> {
        self.driver.get_or_init(|| driver_of(Path::new(self.hook.as_ref()?), self)).as_deref()
    }

    /// The object, operation, sub-operation and extra, as passed to the hook. An absent one is `-`.
    pub fn arguments(&self) -> [&str; 4] {
        [&self.object, self.operation.as_str(), &self.sub_operation, &self.extra]
    }

    /// The document. The first call reads it from stdin; later calls return the same bytes.
    ///
    /// Only one copy is held in memory, so a document may use most of a sandboxed hook's memory limit. To process a
    /// larger document, read [`std::io::stdin`] in pieces instead of calling this.
    ///
    /// # Errors
    /// Reading stdin fails, or the document does not fit into memory. Later calls return the same error.
    pub fn document(&self) -> Result<&[u8], EventError> {
        let document = self.document.get_or_init(|| {
            read_whole(&mut io::stdin().lock()).map_err(|error| EventError::Unreadable(Arc::new(error)))
        });
        document.as_deref().map_err(Clone::clone)
    }

    /// The document as text.
    ///
    /// # Errors
    /// The same as for [`document`](Self::document), or the document is not UTF-8.
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
            hook: None,
            driver: OnceLock::new(),
            document: OnceLock::new(),
        })
    }
}

/// Omits the document, which may be long.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("arguments", &self.arguments()).finish_non_exhaustive()
    }
}

fn present(argument: &str) -> Option<&str> {
    (argument != ABSENT).then_some(argument)
}

/// The first allocation, large enough for most documents.
const ORDINARY: usize = 256 << 10;

/// The size of each further allocation.
const AMPLE: usize = 256 << 20;

/// Reads `source` to its end without a second copy in memory.
///
/// A full vector doubles its size and copies, so it can briefly hold up to three times the document: too much for a
/// sandbox. One large reservation avoids the copy. It costs little, because untouched memory uses no pages.
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
        assert_eq!(event.driver(), None);
        assert_eq!(Event::new("web1", "start").with_driver("qemu").driver(), Some("qemu"));
        assert_eq!(event.document()?, b"<domain/>");
        assert_eq!(Event::new("web1", "start").document_str()?, "");
        Ok(())
    }

    #[test]
    fn past_events_cannot_be_vetoed() {
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
    fn the_path_of_the_hook_says_the_driver() {
        let event = Event::new("web.d", "start").with_sub_operation("begin");
        for (hook, driver) in [
            ("/etc/hooks/qemu", "qemu"),
            ("/etc/hooks/qemu.wasm", "qemu"),
            ("/etc/hooks/my.daemon", "my.daemon"),
            ("/etc/hooks.d/qemu.d/10-policy.wasm", "qemu"),
            ("/etc/hooks/qemu.d/web.d/start/begin/10-policy.wasm", "qemu"),
        ] {
            assert_eq!(driver_of(Path::new(hook), &event).as_deref(), Some(driver), "{hook}");
        }
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
