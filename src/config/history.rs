//! `[history]`: what is recorded of each event, and where.

use std::num::NonZeroU32;
use std::path::PathBuf;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};

use crate::record::Record;

/// What is recorded of each event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HistoryConfig {
    /// Whether events are recorded. Default: true.
    pub enabled: bool,
    /// The file; `None` if not set.
    pub file: Option<PathBuf>,
    /// The size at which the file is rotated; `None` if not set.
    #[serde(deserialize_with = "bytes")]
    pub max_size: Option<u64>,
    /// How many old files are kept; `None` if not set.
    pub keep: Option<NonZeroU32>,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { enabled: true, file: None, max_size: None, keep: None }
    }
}

impl HistoryConfig {
    /// The record, in the configured file or else in `default`. `None` if recording is off.
    #[must_use]
    pub fn record(&self, default: PathBuf) -> Option<Record> {
        let mut record = Record::at(self.file.clone().unwrap_or(default));
        record = self.max_size.into_iter().fold(record, Record::max_size);
        record = self.keep.map(NonZeroU32::get).into_iter().fold(record, Record::keep);
        self.enabled.then_some(record)
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    ByteSize::deserialize(deserializer).map(|size| Some(size.0))
}
