//! Conventions and their operations.

use std::borrow::Cow;

use crate::document::DocumentFormat;
use crate::stage::Stage;

/// The rules of one operation: its stage, and whether hooks may rewrite the document.
///
/// ```
/// use hookvisor::{DocumentFormat, Operation};
///
/// let configure = Operation::filter(DocumentFormat::Json).sub_operation("begin");
/// # drop(configure);
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Operation {
    pub(crate) stage: Stage,
    pub(crate) filter: Option<DocumentFormat>,
    pub(crate) sub_operation: Cow<'static, str>,
    pub(crate) refused: Option<Cow<'static, str>>,
    pub(crate) guest_is_running: bool,
}

impl Operation {
    /// An operation that is announced before it happens. A failing hook vetoes it.
    pub const fn start() -> Self {
        Self {
            stage: Stage::Start,
            filter: None,
            sub_operation: Cow::Borrowed("-"),
            refused: None,
            guest_is_running: false,
        }
    }

    /// An operation whose hooks can also rewrite the document. A failing hook vetoes it, and so does a hook that writes a
    /// document of another format.
    pub const fn filter(format: DocumentFormat) -> Self {
        Self {
            stage: Stage::Start,
            filter: Some(format),
            sub_operation: Cow::Borrowed("-"),
            refused: None,
            guest_is_running: false,
        }
    }

    /// An operation that is announced after it has happened. A failing hook is reported.
    pub const fn shutdown() -> Self {
        Self {
            stage: Stage::Shutdown,
            filter: None,
            sub_operation: Cow::Borrowed("-"),
            refused: None,
            guest_is_running: false,
        }
    }

    /// An operation that exists, but for which hooks cannot be called. An event with it is vetoed, for this reason.
    pub fn refused(why: impl Into<Cow<'static, str>>) -> Self {
        Self { refused: Some(why.into()), ..Self::start() }
    }

    /// Marks the guest as already running, as for libvirt's `reconnect`, where a veto destroys the guest. Only a nonzero exit
    /// status of a hook vetoes. A hook that cannot be run or times out is only reported.
    pub const fn guest_is_running(mut self) -> Self {
        self.guest_is_running = true;
        self
    }

    /// Sets the sub-operation that hooks get where the event has none. Default: `-`.
    pub fn sub_operation(mut self, sub_operation: impl Into<Cow<'static, str>>) -> Self {
        self.sub_operation = sub_operation.into();
        self
    }
}

/// Which of a start event's hooks still run after one of them has vetoed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterVeto {
    /// None of them.
    #[default]
    Stop,
    /// All of them. The first failure decides the exit status.
    RunAll,
}

/// A driver's operations: which exist, which stage each belongs to, and which may rewrite the document.
///
/// libvirt's drivers and OCI's have built-in conventions; any other driver has the generic one. A daemon that has
/// operations of its own describes them once:
///
/// ```
/// use hookvisor::{Convention, DocumentFormat, Operation};
///
/// let convention = Convention::new("vmm")
///     .operation("create", Operation::start())
///     .operation("configure", Operation::filter(DocumentFormat::Json))
///     .operation("delete", Operation::shutdown())
///     .ended_by("delete")
///     .closed();
/// # drop(convention);
/// ```
///
/// and passes it to [`RuntimeBuilder::convention`](crate::RuntimeBuilder::convention). The same in `hookvisor.toml`:
///
/// ```toml
/// [convention.vmm]
/// closed = true
/// ended_by = "delete"
///
/// [convention.vmm.operations]
/// create = "start"
/// configure = { stage = "start", filter = "json" }
/// delete = "shutdown"
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Convention {
    pub(crate) driver: Cow<'static, str>,
    pub(crate) operations: Vec<(Cow<'static, str>, Operation)>,
    pub(crate) closed: bool,
    pub(crate) after_veto: AfterVeto,
    pub(crate) ended_by: Cow<'static, str>,
}

impl Convention {
    /// A convention for this driver, without operations yet.
    pub fn new(driver: impl Into<Cow<'static, str>>) -> Self {
        Self {
            driver: driver.into(),
            operations: Vec::new(),
            closed: false,
            after_veto: AfterVeto::Stop,
            ended_by: Cow::Borrowed("stopped"),
        }
    }

    /// Adds an operation. A name that ends in `*` matches all operations with that prefix; the longest match applies. A later
    /// operation replaces an earlier one of the same name.
    pub fn operation(mut self, name: impl Into<Cow<'static, str>>, operation: Operation) -> Self {
        let name = name.into();
        self.operations.retain(|(known, _)| *known != name);
        self.operations.push((name, operation));
        self
    }

    /// Allows no other operations: an event with one is vetoed. Without this, the generic convention holds for an operation
    /// that is not listed: `stopped`, `shutdown`, `release` and `post-*` are shutdown operations, and any other is a start
    /// operation, so that hooks can veto it.
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Sets which hooks still run after a veto. Default: [`AfterVeto::Stop`].
    pub fn after_veto(mut self, after_veto: AfterVeto) -> Self {
        self.after_veto = after_veto;
        self
    }

    /// Sets the operation by which [`Guest::stopped`](crate::Guest::stopped) announces a guest's end. Default: `stopped`.
    pub fn ended_by(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.ended_by = operation.into();
        self
    }

    /// The driver that it is for.
    #[must_use]
    pub fn driver(&self) -> &str {
        &self.driver
    }

    /// The names of the operations that it lists.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.operations.iter().map(|(name, _)| &**name)
    }

    /// Whether operations that it does not list are refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// What holds for an operation.
    pub(crate) fn rule(&self, operation: &str) -> Operation {
        match self.listed(operation) {
            Some(listed) => listed.clone(),
            None if self.closed => Operation::start(),
            None => generic(operation),
        }
    }

    /// Whether hooks can be called for an operation.
    pub(crate) fn check(&self, operation: &str) -> Result<(), UnknownOperation> {
        let error = |why| UnknownOperation { driver: self.driver.to_string(), operation: operation.to_owned(), why };
        match self.listed(operation) {
            Some(Operation { refused: Some(why), .. }) => Err(error(Why::Refused(why.to_string()))),
            None if self.closed => Err(error(Why::NotListed(self.operations().collect::<Vec<_>>().join(", ")))),
            Some(_) | None => Ok(()),
        }
    }

    fn listed(&self, operation: &str) -> Option<&Operation> {
        let fits = |name: &str| match name.strip_suffix('*') {
            Some(beginning) => operation.starts_with(beginning),
            None => operation == name,
        };
        let fitting = self.operations.iter().filter(|(name, _)| fits(name));
        // An exact name and a pattern of the same length: the pattern's star counts for nothing.
        fitting.max_by_key(|(name, _)| (name.trim_end_matches('*').len(), !name.ends_with('*'))).map(|(_, rule)| rule)
    }

    /// Checks the convention for mistakes.
    pub(crate) fn validate(&self) -> Result<(), ConventionError> {
        let error = |why: String| ConventionError { driver: self.driver.to_string(), why };
        let one_argument = |text: &str| !text.is_empty() && !text.contains(['\0', '\n']);
        for (name, operation) in &self.operations {
            if !one_argument(name) {
                return Err(error(format!("the operation {name:?} needs a name of one line")));
            }
            if !one_argument(&operation.sub_operation) {
                let sub = &operation.sub_operation;
                return Err(error(format!("the sub-operation {sub:?} of {name} needs one line of text, or \"-\"")));
            }
        }
        let end = self.rule(&self.ended_by);
        if self.check(&self.ended_by).is_err() || end.stage != Stage::Shutdown {
            let end = &self.ended_by;
            let why = format!(
                "`ended_by` is {end:?}, which is not one of its shutdown operations: add that operation, or name another one"
            );
            return Err(error(why));
        }
        Ok(())
    }
}

/// The generic convention: only operations whose names say that something has ended are in the shutdown stage.
fn generic(operation: &str) -> Operation {
    match operation {
        "stopped" | "shutdown" | "release" => Operation::shutdown(),
        _ if operation.starts_with("post-") => Operation::shutdown(),
        _ => Operation::start(),
    }
}

/// Why hooks cannot be called for an operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("driver {driver} has no operation {operation:?}: {why}")]
pub(crate) struct UnknownOperation {
    pub(crate) driver: String,
    pub(crate) operation: String,
    why: Why,
}

impl UnknownOperation {
    pub(crate) fn is_unlisted(&self) -> bool {
        matches!(self.why, Why::NotListed(_))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("its operations are {0}")]
    NotListed(String),
    #[error("{0}")]
    Refused(String),
}

/// Why a convention cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the convention of driver {driver:?}: {why}")]
pub struct ConventionError {
    driver: String,
    why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_past_events_are_in_the_generic_shutdown_stage() {
        let generic = Convention::new("podman");
        for operation in ["prepare", "start", "started", "pre-stop", "resize", "", "Stopped"] {
            assert_eq!(generic.rule(operation).stage, Stage::Start, "{operation}");
        }
        for operation in ["stopped", "shutdown", "release", "post-stop"] {
            assert_eq!(generic.rule(operation).stage, Stage::Shutdown, "{operation}");
        }
    }

    #[test]
    fn the_longest_matching_name_wins() {
        let convention = Convention::new("vmm")
            .operation("disk-*", Operation::shutdown())
            .operation("disk-at*", Operation::start())
            .operation("disk-attached", Operation::shutdown())
            .operation("*", Operation::start().sub_operation("other"));
        let rule = |operation| {
            let rule = convention.rule(operation);
            (rule.stage, rule.sub_operation)
        };
        assert_eq!(rule("disk-full"), (Stage::Shutdown, "-".into()));
        assert_eq!(rule("disk-attach"), (Stage::Start, "-".into()));
        assert_eq!(rule("disk-attached"), (Stage::Shutdown, "-".into()));
        assert_eq!(rule("stopped"), (Stage::Start, "other".into()));
    }
}
