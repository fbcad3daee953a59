//! `hookvisor disable` and `enable`: switch a hook off and on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Parser;
use hookvisor::{Disabled, MaskError, Recorded, RecordedChange, disable_hook, enable_hook};
use jiff::Timestamp;

use super::history::when;
use super::installed::Installed;
use super::layout::Layout;
use super::options::{DirectoryArgs, Format};
use super::streams::{complain, print};

/// Disable a hook, for a time or until `enable`
#[derive(Debug, Parser)]
#[command(after_help = "\
A link to /dev/null replaces the hook, and the hook itself is kept next to it. libvirt's hook sees the change at the next \
event, a daemon that embeds hookvisor at its next reload.

Example: hookvisor disable qemu.d/20-policy --until \"in 2 hours\" --reason \"false alarm, see #4711\"")]
pub(super) struct Args {
    /// The hook: a path, or a name in the hooks directory such as qemu.d/20-policy
    hook: PathBuf,
    /// Enable the hook again at this time: "in 2 hours", tomorrow, 13:30, "2026-11-24 13:30"
    #[arg(long, value_name = "TIME", value_parser = when::future)]
    until: Option<Timestamp>,
    /// The reason, which `list`, `check`, `explain` and `history` show
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    place: DirectoryArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Enable a disabled hook again
#[derive(Debug, Parser)]
pub(super) struct EnableArgs {
    /// The hook: a path, or a name in the hooks directory such as qemu.d/20-policy
    hook: PathBuf,
    #[command(flatten)]
    place: DirectoryArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn disable(args: Args) -> anyhow::Result<u8> {
    let installed = Installed::of(args.place)?;
    let hook = find(&args.hook, &installed.config.hooks);
    let user = user();
    let mut disabled = Disabled::by(&user);
    if let Some(until) = args.until {
        let seconds = u64::try_from(until.as_second())?;
        disabled = disabled.until(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }
    if let Some(reason) = args.reason {
        disabled = disabled.reason(reason);
    }
    disable_hook(&hook, &disabled).map_err(|error| explained(error, &args.hook, &hook, &installed))?;
    let mut change = RecordedChange::now("disabled", &hook, &user);
    (change.until, change.reason) = (disabled.until, disabled.reason);
    tell(&installed, change, args.format)
}

pub(super) fn enable(args: EnableArgs) -> anyhow::Result<u8> {
    let installed = Installed::of(args.place)?;
    let hook = find(&args.hook, &installed.config.hooks);
    enable_hook(&hook).map_err(|error| explained(error, &args.hook, &hook, &installed))?;
    tell(&installed, RecordedChange::now("enabled", &hook, &user()), args.format)
}

/// Resolves a name in the hooks directory. A path stays a path.
fn find(hook: &Path, hooks: &Path) -> PathBuf {
    let is_path = hook.is_absolute() || hook.starts_with(".") || hook.starts_with("..");
    let hook = if is_path { hook.to_owned() } else { hooks.join(hook) };
    std::path::absolute(&hook).unwrap_or(hook)
}

/// The error. For a hook that does not exist, it says how the name was read, and what may have been meant.
fn explained(error: MaskError, asked: &Path, hook: &Path, installed: &Installed) -> anyhow::Error {
    if hook.symlink_metadata().is_ok() {
        return error.into();
    }
    let drivers = fs::read_dir(&installed.config.hooks).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut drivers: Vec<PathBuf> = drivers.filter(|path| path.extension().is_some_and(|end| end == "d")).collect();
    drivers.sort();
    let similar = drivers.iter().map(|driver| driver.join(asked)).find(|path| path.is_file() || path.is_symlink());
    let hint = match similar.as_deref().and_then(|path| path.strip_prefix(&installed.config.hooks).ok()) {
        Some(name) => format!("did you mean {}?", name.display()),
        None if asked.is_relative() && asked.exists() => {
            format!("for the file in the current directory, write ./{}", asked.display())
        }
        None => "`hookvisor list` shows the hooks".to_owned(),
    };
    anyhow::anyhow!("there is no hook {}: {hint}", hook.display())
}

/// Records the change and prints it.
fn tell(installed: &Installed, change: RecordedChange, format: Format) -> anyhow::Result<u8> {
    let path = Path::new(&change.path);
    let is_called = path.starts_with(&installed.config.hooks) || Layout::keeps(path);
    if let Some(record) = installed.record().filter(|_| is_called)
        && let Err(error) = record.change(&change)
    {
        complain(
            format!("hookvisor: the record {} could not be written: {error}\n", record.path().display()).as_bytes(),
        );
    }
    let text = match format {
        Format::Json => Recorded::Change(change).to_json(),
        Format::Text => {
            let until = change.until.as_ref().map(|until| format!(" until {}", when::local(until))).unwrap_or_default();
            format!("{} {}{until}", change.change, change.path)
        }
    };
    print(format!("{text}\n").as_bytes())?;
    Ok(0)
}

/// The name of the calling user; under sudo, the user who ran sudo.
fn user() -> String {
    let name = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let behind = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    behind.or_else(name).unwrap_or_else(|| nix::unistd::getuid().to_string())
}
