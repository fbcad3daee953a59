//! The events that a hook's directory restricts it to.

use std::ffi::OsString;

use crate::event::Event;

/// The event of a per-event directory: `<driver>.d/<object>/<operation>/<sub-operation>/`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scope(pub(crate) Vec<OsString>);

impl Scope {
    pub(crate) fn includes(&self, event: &Event) -> bool {
        self.0.iter().zip(event.arguments()).all(|(name, argument)| name == argument)
    }
}
