use std::error::Error;
use std::fmt;
use std::io;
use std::str::Utf8Error;
use std::sync::Arc;

/// Why an event could not be read. A hook that returns it with `?` vetoes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum EventError {
    /// A required argument is missing: `object` or `operation`.
    MissingArgument(&'static str),
    /// This argument is not UTF-8.
    ArgumentNotUtf8(&'static str),
    /// Reading stdin failed, or the document does not fit into the hook's memory.
    Unreadable(Arc<io::Error>),
    /// The document was requested as text but is not UTF-8.
    DocumentNotUtf8(Utf8Error),
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingArgument(name) => {
                write!(f, "no {name} given: a hook's arguments are object, operation, sub-operation and extra")
            }
            Self::ArgumentNotUtf8(name) => write!(f, "the {name} is not UTF-8"),
            Self::Unreadable(_) => f.write_str("the document cannot be read"),
            Self::DocumentNotUtf8(_) => f.write_str("the document is not UTF-8"),
        }
    }
}

impl Error for EventError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::MissingArgument(_) | Self::ArgumentNotUtf8(_) => None,
            Self::Unreadable(error) => Some(error.as_ref()),
            Self::DocumentNotUtf8(error) => Some(error),
        }
    }
}
