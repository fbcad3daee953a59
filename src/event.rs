//! The event that hooks are called for.

use std::sync::Arc;

use bytes::Bytes;

use crate::convention;
use crate::convention::rules::{Convention, Operation};
use crate::document::DocumentFormat;
use crate::stage::Stage;

/// Why an [`Event`] cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// A field contains a byte that is not allowed in a hook's arguments or in a one-line report.
    #[error("the {field} {value:?} contains {what}, which is not allowed in an event")]
    Unprintable {
        /// Which field: `object`, `operation`, `sub-operation` or `extra`.
        field: &'static str,
        /// The field's value.
        value: String,
        /// What is wrong with it: `a NUL byte` or `a newline`.
        what: &'static str,
    },
    /// The driver's name is also a file name in the hooks directory, and this name is not a valid one.
    #[error("{0:?} is not a driver's name: use letters, digits, `-` and `_`, and begin with a letter or digit")]
    Driver(String),
}

/// One thing that is about to happen to a guest, or has happened.
///
/// A hook is called as `<hook> <object> <operation> <sub-operation> <extra>`, with the document on stdin; `-` stands for
/// a field that is absent. Cloning an event is cheap: nothing is copied, the document is shared.
///
/// ```
/// use hookvisor::{Event, Stage};
///
/// let event = Event::new("qemu", "web1", "start")?.with_document("<domain/>");
/// assert_eq!(event.stage(), Stage::Start);
/// assert_eq!(event.arguments(), ["web1", "start", "begin", "-"]); // libvirt's own sub-operation
/// # Ok::<(), hookvisor::EventError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Event {
    fields: Arc<Fields>,
    document: Bytes,
    rule: Operation,
}

#[derive(Debug, Clone)]
struct Fields {
    driver: String,
    object: String,
    operation: String,
    /// `None`: the default of the driver's convention.
    sub_operation: Option<String>,
    extra: String,
}

impl Event {
    /// Creates an event of `driver` (which selects the hooks) for `object` (the guest).
    ///
    /// The sub-operation is the default of the driver's convention for this operation, or `-`. The extra argument is `-` and
    /// the document is empty.
    ///
    /// # Errors
    /// [`EventError`] if a field contains a NUL byte or a newline, or if the driver is not a valid file name.
    pub fn new(driver: &str, object: &str, operation: &str) -> Result<Self, EventError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !driver.starts_with(|c: char| c.is_ascii_alphanumeric()) || !driver.chars().all(plain) {
            return Err(EventError::Driver(driver.to_owned()));
        }
        let rule = convention::of_driver(driver).rule(operation);
        let fields = Fields {
            driver: driver.to_owned(),
            object: argument("object", object)?,
            operation: argument("operation", operation)?,
            sub_operation: None,
            extra: "-".to_owned(),
        };
        Ok(Self { fields: Arc::new(fields), document: Bytes::new(), rule })
    }

    /// Sets the sub-operation.
    ///
    /// # Errors
    /// [`EventError::Unprintable`] if it contains a NUL byte or a newline.
    pub fn with_sub_operation(mut self, sub_operation: &str) -> Result<Self, EventError> {
        Arc::make_mut(&mut self.fields).sub_operation = Some(argument("sub-operation", sub_operation)?);
        Ok(self)
    }

    /// Sets the extra argument.
    ///
    /// # Errors
    /// [`EventError::Unprintable`] if it contains a NUL byte or a newline.
    pub fn with_extra(mut self, extra: &str) -> Result<Self, EventError> {
        Arc::make_mut(&mut self.fields).extra = argument("extra", extra)?;
        Ok(self)
    }

    /// Creates the event of another operation for the same guest and document, for example `stopped` after `start`.
    ///
    /// The sub-operation is the default of the driver's convention for the new operation. The extra argument is `-`.
    ///
    /// ```
    /// let start = hookvisor::Event::new("qemu", "web1", "start")?.with_document("<domain/>");
    /// assert_eq!(start.then("stopped")?.arguments(), ["web1", "stopped", "end", "-"]);
    /// # Ok::<(), hookvisor::EventError>(())
    /// ```
    ///
    /// # Errors
    /// [`EventError::Unprintable`] if the operation contains a NUL byte or a newline.
    pub fn then(&self, operation: &str) -> Result<Self, EventError> {
        argument("operation", operation)?;
        Ok(self.with_operation(operation))
    }

    /// Like [`then`](Self::then), for an operation that is known to be valid.
    pub(crate) fn with_operation(&self, operation: &str) -> Self {
        let mut event = self.clone();
        event.rule = convention::of_driver(self.driver()).rule(operation);
        let fields = Arc::make_mut(&mut event.fields);
        fields.operation = operation.to_owned();
        fields.sub_operation = None;
        fields.extra = "-".to_owned();
        event
    }

    /// Sets the document. Hooks read all of it from stdin. It can be any bytes of any size.
    #[must_use]
    pub fn with_document(mut self, document: impl Into<Bytes>) -> Self {
        self.document = document.into();
        self
    }

    /// The driver. Its name selects the hooks.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.fields.driver
    }

    /// The guest.
    #[must_use]
    pub fn object(&self) -> &str {
        &self.fields.object
    }

    /// The operation.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.fields.operation
    }

    /// The sub-operation, or `-`.
    #[must_use]
    pub fn sub_operation(&self) -> &str {
        self.fields.sub_operation.as_deref().unwrap_or(&self.rule.sub_operation)
    }

    /// The extra argument, or `-`.
    #[must_use]
    pub fn extra(&self) -> &str {
        &self.fields.extra
    }

    /// The document.
    #[must_use]
    pub fn document(&self) -> &Bytes {
        &self.document
    }

    /// The hook's arguments, after its own path.
    #[must_use]
    pub fn arguments(&self) -> [&str; 4] {
        [self.object(), self.operation(), self.sub_operation(), self.extra()]
    }

    /// The stage of this operation in the driver's built-in convention. Unknown operations are in the start stage,
    /// where a failure has an effect. A runtime's [own convention](crate::RuntimeBuilder::convention) may differ:
    /// [`Report::stage`](crate::Report::stage) is the stage that the event ran in.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.rule.stage
    }

    /// Whether the guest already runs, so that a veto destroys it (libvirt's `reconnect`). Then only a nonzero exit status of a
    /// hook vetoes.
    #[must_use]
    pub fn guest_is_running(&self) -> bool {
        self.rule.guest_is_running
    }

    /// Whether hooks may replace the document by writing to stdout (libvirt's `migrate` and `restore`).
    #[must_use]
    pub fn is_filter(&self) -> bool {
        self.filter_format().is_some()
    }

    /// The format that such a document must have.
    pub(crate) fn filter_format(&self) -> Option<&DocumentFormat> {
        self.rule.filter.as_ref()
    }

    /// The event with the rules of a runtime's own convention.
    pub(crate) fn under(&self, convention: &Convention) -> Self {
        Self { rule: convention.rule(self.operation()), ..self.clone() }
    }
}

fn argument(field: &'static str, value: &str) -> Result<String, EventError> {
    let what = match value.find(['\0', '\n']).map(|at| value.as_bytes().get(at)) {
        None => return Ok(value.to_owned()),
        Some(Some(0)) => "a NUL byte",
        Some(_) => "a newline",
    };
    Err(EventError::Unprintable { field, value: value.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_that_cannot_be_passed_is_refused_by_name() {
        let nul = Event::new("qemu", "we\0b", "start").map(drop);
        let newline = Event::new("qemu", "web", "start").and_then(|e| e.with_extra("a\nb")).map(drop);
        assert_eq!(
            [nul, newline].map(|e| e.err().map(|e| e.to_string()).unwrap_or_default()),
            [
                "the object \"we\\0b\" contains a NUL byte, which is not allowed in an event",
                "the extra \"a\\nb\" contains a newline, which is not allowed in an event",
            ]
        );
    }

    #[test]
    fn a_driver_that_would_leave_the_hooks_directory_is_refused() {
        for driver in ["", "..", "../qemu", "a/b", ".hidden", "-", "qemu.d", "ü"] {
            assert_eq!(
                Event::new(driver, "web", "start").err(),
                Some(EventError::Driver(driver.to_owned())),
                "{driver}"
            );
        }
    }

    #[test]
    fn fields_hold_anything_that_an_argument_can() {
        let event = Event::new("qemu", "", "start").and_then(|e| e.with_sub_operation("a b\t√"));
        assert_eq!(
            event.map(|e| e.arguments().map(str::to_owned)),
            Ok(["", "start", "a b\t√", "-"].map(str::to_owned))
        );
    }
}
