//! The two stages of an event.

use std::fmt;

use serde::Serialize;

/// When an event is announced, which also decides what a failing hook means.
///
/// Source of the rule: libvirt's hooks page. A hook can abort `prepare`, `start` and similar operations. Its result
/// after `stopped` and `release` is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before it happens. The caller waits, and a failing hook vetoes.
    Start,
    /// After it has happened. A failing hook is reported, nothing is undone, and every hook still runs.
    Shutdown,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Start => "start",
            Stage::Shutdown => "shutdown",
        })
    }
}
