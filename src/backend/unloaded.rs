//! Replaces the sandbox where hooks are only inspected: nothing is compiled or run.

use super::{Backend, Call, Completion, Program};
use crate::hook::error::LaunchError;
use crate::hook::file::HookFile;
use crate::hook::kind::Kind;
use crate::hook::settings::Settings;
use crate::limits::Limits;

pub(crate) struct Unloaded;

impl Backend for Unloaded {
    fn kind(&self) -> Kind {
        Kind::Wasm
    }

    fn load(&self, _: HookFile, _: &Settings, _: &Limits) -> Result<Box<dyn Program>, LaunchError> {
        Ok(Box::new(Self))
    }
}

impl Program for Unloaded {
    fn run(&self, _: &Call<'_>) -> Result<Completion, LaunchError> {
        Err(LaunchError::Refused("it was not loaded".to_owned()))
    }
}
