//! How values are written as JSON.

use std::path::Path;
use std::time::Duration;

use serde::Serializer;

/// A path as text. JSON has no bytes, so what is not UTF-8 becomes U+FFFD.
pub(crate) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// A duration as a number of seconds.
pub(crate) fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
