//! A convention as written in `hookvisor.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rules::{AfterVeto, Convention, Operation};
use crate::document::DocumentFormat;
use crate::stage::Stage;

/// `[convention.DRIVER]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConvention {
    operations: BTreeMap<String, RawOperation>,
    #[serde(default)]
    closed: bool,
    #[serde(default)]
    after_veto: RawAfterVeto,
    ended_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an operation is \"start\", \"shutdown\", or a table such as { stage = \"start\", filter = \"json\", sub_operation = \"begin\" }"
)]
enum RawOperation {
    Stage(RawStage),
    Table(RawTable),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    stage: RawStage,
    filter: Option<RawFormat>,
    sub_operation: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawStage {
    Start,
    Shutdown,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFormat {
    Xml,
    Json,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawAfterVeto {
    #[default]
    Stop,
    RunAll,
}

impl RawConvention {
    pub(crate) fn into_convention(self, driver: String) -> Result<Convention, String> {
        let mut convention = Convention::new(driver);
        convention.closed = self.closed;
        convention.after_veto = match self.after_veto {
            RawAfterVeto::Stop => AfterVeto::Stop,
            RawAfterVeto::RunAll => AfterVeto::RunAll,
        };
        if let Some(operation) = self.ended_by {
            convention = convention.ended_by(operation);
        }
        for (name, raw) in self.operations {
            let operation =
                raw.into_operation().map_err(|why| format!("[convention.{}] {name}: {why}", convention.driver))?;
            convention = convention.operation(name, operation);
        }
        convention.validate().map_err(|error| error.to_string())?;
        Ok(convention)
    }
}

impl RawOperation {
    fn into_operation(self) -> Result<Operation, String> {
        let table = match self {
            Self::Stage(stage) => RawTable { stage, filter: None, sub_operation: None },
            Self::Table(table) => table,
        };
        let stage = match table.stage {
            RawStage::Start => Stage::Start,
            RawStage::Shutdown => Stage::Shutdown,
        };
        let filter = table.filter.map(|format| match format {
            RawFormat::Xml => DocumentFormat::Xml,
            RawFormat::Json => DocumentFormat::Json,
        });
        if stage == Stage::Shutdown && filter.is_some() {
            return Err("a filter needs stage = \"start\", since nothing can be changed after a shutdown".to_owned());
        }
        let plain = Operation { stage, filter, ..Operation::start() };
        Ok(match table.sub_operation {
            Some(sub_operation) => plain.sub_operation(sub_operation),
            None => plain,
        })
    }
}
