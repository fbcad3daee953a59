//! Checks the grants of a hook's settings when the hook is loaded.

use crate::hook::error::LaunchError;
use crate::hook::file::{self, HookFile};
use crate::hook::settings::Settings;
use crate::hook::trust::Trust;

/// Refuses grants that a call could not use.
pub(crate) fn check(settings: &Settings, trust: Trust) -> Result<(), LaunchError> {
    let grants = |what: String| Err(LaunchError::Refused(format!("its settings grant {what}")));
    for directory in &settings.directories {
        let host = directory.host.display();
        if let Err(error) = file::open_granted_directory(&directory.host, trust) {
            return grants(format!("the directory {host}, which cannot be used: {error}"));
        }
    }
    for command in &settings.commands {
        let program = command.program.display();
        match HookFile::open(&command.program, trust) {
            Ok(file) if file.is_executable() => {}
            Ok(_) => return grants(format!("the program {program}, which is not executable")),
            Err(LaunchError::NotFound(_)) => return grants(format!("the program {program}, which is not there")),
            Err(why) => return grants(format!("the program {program}: {why}")),
        }
    }
    Ok(())
}
