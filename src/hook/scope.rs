//! The events that a hook's directory stands for.

use std::ffi::OsString;

use crate::event::Event;

/// The event that a hook in a directory of its own is for: `<driver>.d/<object>/<operation>/<sub-operation>/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) Vec<OsString>);

impl Scope {
    pub(crate) fn includes(&self, event: &Event) -> bool {
        self.0.iter().zip(event.arguments()).all(|(name, argument)| name == argument)
    }
}
