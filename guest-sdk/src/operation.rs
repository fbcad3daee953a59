use std::fmt;

/// What happens to the object of an event.
///
/// These are libvirt's operations, and those of the generic convention. A daemon may have others, and a later version
/// of this crate may know more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Before anything has been set up for the guest.
    Prepare,
    /// Right before the guest starts; of libvirt's daemon itself: it has started.
    Start,
    /// The guest has started. A veto ends it.
    Started,
    /// The guest has stopped.
    Stopped,
    /// All that was set up for the guest has been released.
    Release,
    /// A guest comes in by migration; its document can be replaced.
    Migrate,
    /// A guest comes back from a file; its document can be replaced.
    Restore,
    /// The daemon has started anew and found the guest running. A veto ends the guest.
    Reconnect,
    /// The daemon takes over a guest that it did not start.
    Attach,
    /// A guest is about to get a port in a network.
    PortCreated,
    /// A guest's port in a network is gone.
    PortDeleted,
    /// A network has been changed.
    Updated,
    /// libvirt's daemon itself ends.
    Shutdown,
    /// libvirt's daemon itself reads its configuration again.
    Reload,
    /// Any other, by its name.
    Other(String),
}

/// When an event is announced, and so what a failing hook means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the thing happens: a hook can veto it.
    Start,
    /// After it has happened: a failing hook is reported, and nothing is undone.
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

    /// Its name, as the hook is called with it.
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

    /// The stage of this operation on a guest or a network. Of an unknown one, a name that begins with `post-` tells
    /// that it is over; everything else can still be vetoed.
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
