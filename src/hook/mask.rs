//! Disabled hooks: a link to `/dev/null` takes the hook's place, and the hook is kept next to it.
//!
//! `disable` exchanges the hook `NAME` and a new link in one step, so that there is no moment without either. The hook is then
//! `.NAME.disabled`, which no daemon calls; `.NAME.disabled.info` has the reason and the end. `enable` renames it back.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::file;
use super::trust::Trust;
use super::trusted_toml;

/// The last second that RFC 3339 can write, since 1970.
const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);

/// Why a hook could not be disabled or enabled. The text is a whole sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MaskError(String);

/// Why and for how long a hook is disabled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Disabled {
    /// The reason, if given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it is enabled again, if given: RFC 3339 in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// The user who did it.
    pub by: String,
}

impl Disabled {
    /// Disabled by this user, without a reason or an end.
    #[must_use]
    pub fn by(user: impl Into<String>) -> Self {
        Self { by: user.into(), ..Self::default() }
    }

    /// Sets the reason.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Sets when it is enabled again: between the years 1970 and 9999.
    #[must_use]
    pub fn until(mut self, until: SystemTime) -> Self {
        // No other time can be written.
        let until = until.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + END_OF_9999);
        self.until = Some(humantime::format_rfc3339_seconds(until).to_string());
        self
    }

    /// When it ends; `None` for never. An end that cannot be read counts as past: a hook that runs too early is safer
    /// than none.
    pub(crate) fn end(&self) -> Option<SystemTime> {
        self.until.as_ref().map(|until| humantime::parse_rfc3339(until).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    /// The state in words, for a listing.
    pub(crate) fn words(&self) -> String {
        let until = self.until.as_ref().map(|until| format!(" until {until}")).unwrap_or_default();
        let reason = self.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("it was disabled by {}{until}{reason}", self.by)
    }
}

/// Disables a hook until [`enable_hook`] or the end in `disabled`. Running daemons see the change after a reload.
///
/// If the hook is already disabled, its reason and end are replaced.
///
/// # Errors
/// [`MaskError`] if the hook does not exist, was masked by hand, or its directory is not writable. Nothing has changed then.
pub fn disable_hook(hook: &Path, disabled: &Disabled) -> Result<(), MaskError> {
    let hook = absolute(hook)?;
    let (aside, info) = (aside(&hook), info(&hook));
    let path = hook.display();
    let found = hook.symlink_metadata().map_err(|error| MaskError(format!("{path} could not be disabled: {error}")))?;
    let failed = |error: io::Error| MaskError(format!("{path} could not be disabled: {error}"));
    if file::is_mask(&hook) {
        if aside.symlink_metadata().is_err() {
            return Err(MaskError(format!("{path} is already masked by a link to /dev/null")));
        }
        return write_info(&info, disabled).map_err(failed);
    }
    if found.is_dir() {
        return Err(MaskError(format!("{path} is a directory: name one hook")));
    }
    if aside.symlink_metadata().is_ok() {
        let aside = aside.display();
        return Err(MaskError(format!(
            "{path} could not be disabled: {aside} is left from an earlier disable: remove the file that you do not need"
        )));
    }
    write_info(&info, disabled).map_err(failed)?;
    let done = symlink("/dev/null", &aside).and_then(|()| {
        exchange(&hook, &aside).inspect_err(|_| {
            let _ = fs::remove_file(&aside);
        })
    });
    done.map_err(|error| {
        let _ = fs::remove_file(&info);
        failed(error)
    })
}

/// Enables a disabled hook again, unchanged. Running daemons see the change after a reload.
///
/// # Errors
/// [`MaskError`] if the hook is not disabled, or its directory is not writable. Nothing has changed then.
pub fn enable_hook(hook: &Path) -> Result<(), MaskError> {
    let hook = absolute(hook)?;
    let (path, aside) = (hook.display(), aside(&hook));
    if aside.symlink_metadata().is_err() {
        return Err(MaskError(if file::is_mask(&hook) {
            format!(
                "{path} was not disabled by hookvisor: the link to /dev/null was made by hand, so remove it by hand"
            )
        } else {
            format!("{path} is not disabled")
        }));
    }
    if hook.symlink_metadata().is_ok() && !file::is_mask(&hook) {
        return Err(MaskError(format!(
            "{path} could not be enabled: another file is in its place: remove one of {path} and {}",
            aside.display()
        )));
    }
    fs::rename(&aside, &hook).map_err(|error| MaskError(format!("{path} could not be enabled: {error}")))?;
    let _ = fs::remove_file(info(&hook));
    Ok(())
}

/// Why a masked hook is disabled; `None` if the mask was made by hand.
pub(crate) fn disabled(hook: &Path, trust: Trust) -> Option<Disabled> {
    aside(hook).symlink_metadata().ok()?;
    let unknown = Disabled::by("an unknown user");
    Some(trusted_toml::read(&info(hook), trust).ok().flatten().unwrap_or(unknown))
}

/// `.NAME.disabled`: names that begin with a dot are not hooks.
fn aside(hook: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(hook.file_name().unwrap_or_default());
    name.push(".disabled");
    hook.with_file_name(name)
}

/// Whether a name belongs to a disabled hook or its information. Listings show these with the link.
pub(crate) fn is_aside(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && (name.ends_with(b".disabled") || name.ends_with(b".disabled.info"))
}

fn info(hook: &Path) -> PathBuf {
    let mut name = aside(hook).into_os_string();
    name.push(".info");
    name.into()
}

fn absolute(hook: &Path) -> Result<PathBuf, MaskError> {
    std::path::absolute(hook).map_err(|error| MaskError(format!("{}: {error}", hook.display())))
}

fn write_info(info: &Path, disabled: &Disabled) -> io::Result<()> {
    let text = toml::to_string(disabled).map_err(io::Error::other)?;
    let mut new = info.to_owned().into_os_string();
    new.push(".new");
    fs::write(&new, format!("# `hookvisor disable` wrote this file, and `hookvisor enable` removes it.\n{text}"))?;
    fs::rename(&new, info)
}

/// Exchanges two files atomically. Where the file system cannot, the first is briefly absent, which is harmless: it is being
/// disabled.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::rename(one, other)?;
            symlink("/dev/null", one).inspect_err(|_| {
                let _ = fs::rename(other, one);
            })
        }
        Err(error) => Err(error.into()),
    }
}
