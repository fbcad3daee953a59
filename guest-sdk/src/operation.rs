use std::fmt;

/// The operation that an event reports.
///
/// The named variants are the operations of libvirt and of the generic convention. Operations of other daemons are
/// [`Other`](Self::Other). Later versions may add variants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A guest is about to be set up.
    Prepare,
    /// A guest is about to start. For libvirt's daemon itself: it has started.
    Start,
    /// The guest has started. A veto stops it.
    Started,
    /// The guest has stopped.
    Stopped,
    /// All resources of the guest have been released.
    Release,
    /// A guest is migrated to this host. The hook may replace its document.
    Migrate,
    /// A guest is restored from a file. The hook may replace its document.
    Restore,
    /// The daemon has restarted and found the guest running. A veto stops the guest.
    Reconnect,
    /// The daemon attaches to a guest that it did not start.
    Attach,
    /// A guest's network port is about to be created.
    PortCreated,
    /// A guest's network port has been deleted.
    PortDeleted,
    /// A network has been updated.
    Updated,
    /// libvirt's daemon shuts down.
    Shutdown,
    /// libvirt's daemon reloads its configuration.
    Reload,
    /// Any other operation, by name.
    Other(String),
}

/// Whether a failing hook vetoes the operation or is only reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The operation has yet to happen. A failing hook vetoes it.
    Start,
    /// The operation has happened. A failing hook is reported; nothing is undone.
    Shutdown,
}

impl Operation {
    const KNOWN: [Self; 14] = [
        Self::Prepare,
        Self::Start,
        Self::Started,
        Self::Stopped,
        Self::Release,
        Self::Migrate,
        Self::Restore,
        Self::Reconnect,
        Self::Attach,
        Self::PortCreated,
        Self::PortDeleted,
        Self::Updated,
        Self::Shutdown,
        Self::Reload,
    ];

    /// The name of the operation, as passed to the hook.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Release => "release",
            Self::Migrate => "migrate",
            Self::Restore => "restore",
            Self::Reconnect => "reconnect",
            Self::Attach => "attach",
            Self::PortCreated => "port-created",
            Self::PortDeleted => "port-deleted",
            Self::Updated => "updated",
            Self::Shutdown => "shutdown",
            Self::Reload => "reload",
            Self::Other(name) => name,
        }
    }

    /// The stage of this operation on a guest or a network. An unknown operation is in the start stage unless its name
    /// begins with `post-`.
    pub(crate) fn stage(&self) -> Stage {
        match self {
            Self::Stopped | Self::Release | Self::PortDeleted | Self::Updated | Self::Shutdown | Self::Reload => {
                Stage::Shutdown
            }
            Self::Other(name) if name.starts_with("post-") => Stage::Shutdown,
            Self::Prepare
            | Self::Start
            | Self::Started
            | Self::Migrate
            | Self::Restore
            | Self::Reconnect
            | Self::Attach
            | Self::PortCreated
            | Self::Other(_) => Stage::Start,
        }
    }
}

impl From<&str> for Operation {
    fn from(name: &str) -> Self {
        Self::KNOWN.into_iter().find(|known| known.as_str() == name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl From<String> for Operation {
    fn from(name: String) -> Self {
        Self::from(name.as_str())
    }
}

impl PartialEq<str> for Operation {
    fn eq(&self, name: &str) -> bool {
        self.as_str() == name
    }
}

impl PartialEq<&str> for Operation {
    fn eq(&self, name: &&str) -> bool {
        self.as_str() == *name
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_known_by_its_name() {
        for operation in Operation::KNOWN {
            assert_eq!(Operation::from(operation.as_str()), operation);
        }
        assert_eq!(Operation::from("resize"), Operation::Other("resize".into()));
        assert_eq!(Operation::from(String::from("port-created")), Operation::PortCreated);
        assert!(Operation::Start == "start" && Operation::Start != "Start");
    }
}
