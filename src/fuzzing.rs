//! Entry points for the fuzz targets. Only built by cargo-fuzz.

use crate::hook::settings::Settings;
use crate::hook::settings::grants::{CommandGrant, Names};
use crate::hook::trusted_toml::one_line;

/// Parses a hook's settings, and describes what they allow.
///
/// # Errors
/// What is wrong with them, as the report has it.
pub fn settings(text: &str) -> Result<Vec<String>, String> {
    let settings: Settings = toml::from_str(text).map_err(|e| one_line(text, &e))?;
    Ok(settings.may())
}

/// Whether `[[command]]`'s `args`, a TOML array, allow these arguments; `None` if the array is refused.
#[must_use]
pub fn allows(args: &str, arguments: &[String], object: &str, operation: &str) -> Option<bool> {
    let command: CommandGrant = toml::from_str(&format!("program = \"/bin/true\"\nargs = {args}")).ok()?;
    Some(command.allows("/bin/true", arguments, Names { object, operation }))
}

/// Whether `[[command]]`'s `stdin`, a TOML table, allows this input; `None` if the table is refused.
#[must_use]
pub fn allows_stdin(rule: &str, input: &[u8]) -> Option<bool> {
    let command: CommandGrant = toml::from_str(&format!("program = \"/bin/true\"\nstdin = {rule}")).ok()?;
    Some(command.stdin?.check(input).is_ok())
}
