//! `hookvisor disable` and `enable`: one hook, off and on.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Parser;
use hookvisor::{Config, Disabled, RecordedChange, disable_hook, enable_hook};
use jiff::Timestamp;

use super::history::when;
use super::layout::Layout;
use super::record;
use super::streams::{complain, print};

/// Switch a hook off; `enable` undoes it exactly
#[derive(Debug, Parser)]
#[command(after_help = "\
The hook is replaced by a link to /dev/null, and kept beside it. `list`, `check`, `explain` and `history` show that it is \
disabled. A daemon that embeds hookvisor sees the change after its next reload; libvirt's hook sees it at once.

Example: hookvisor disable qemu.d/20-policy --until \"in 2 hours\" --reason \"false alarm, see #4711\"")]
pub(super) struct Args {
    /// The hook: its path, or its name below the hooks directory, such as qemu.d/20-policy
    hook: PathBuf,
    /// When it is enabled again by itself: "in 2 hours", tomorrow, 13:30, "2026-11-24 13:30"
    #[arg(long, value_name = "TIME", value_parser = when::future)]
    until: Option<Timestamp>,
    /// Why, for those who wonder later
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The hooks directory [default: as hookvisor.toml says]
    #[arg(long, value_name = "DIR")]
    hooks: Option<PathBuf>,
}

/// Switch a hook on that `disable` switched off
#[derive(Debug, Parser)]
pub(super) struct EnableArgs {
    /// The hook: its path, or its name below the hooks directory, such as qemu.d/20-policy
    hook: PathBuf,
    /// The hooks directory [default: as hookvisor.toml says]
    #[arg(long, value_name = "DIR")]
    hooks: Option<PathBuf>,
}

pub(super) fn disable(args: Args) -> anyhow::Result<u8> {
    let (layout, config) = installation()?;
    let hook = find(&args.hook, args.hooks.as_deref().unwrap_or(&config.hooks));
    let user = user();
    let mut disabled = Disabled::by(&user);
    if let Some(until) = args.until {
        let seconds = u64::try_from(until.as_second())?;
        disabled = disabled.until(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
    }
    if let Some(reason) = args.reason {
        disabled = disabled.reason(reason);
    }
    disable_hook(&hook, &disabled)?;
    let mut change = RecordedChange::now("disabled", &hook, &user);
    (change.until, change.reason) = (disabled.until, disabled.reason);
    tell(&layout, &config, &change)?;
    Ok(0)
}

pub(super) fn enable(args: EnableArgs) -> anyhow::Result<u8> {
    let (layout, config) = installation()?;
    let hook = find(&args.hook, args.hooks.as_deref().unwrap_or(&config.hooks));
    enable_hook(&hook)?;
    tell(&layout, &config, &RecordedChange::now("enabled", &hook, &user()))?;
    Ok(0)
}

fn installation() -> anyhow::Result<(Layout, Config)> {
    let layout = Layout::of_this_machine();
    let config = Config::read(&layout.config())?;
    Ok((layout, config))
}

/// A name is one below the hooks directory; anything that is a path is that.
fn find(hook: &Path, hooks: &Path) -> PathBuf {
    let is_path = hook.is_absolute() || hook.starts_with(".") || hook.starts_with("..");
    if is_path { std::path::absolute(hook).unwrap_or(hook.to_owned()) } else { hooks.join(hook) }
}

/// Writes the change down, and says what was done.
fn tell(layout: &Layout, config: &Config, change: &RecordedChange) -> anyhow::Result<()> {
    let is_installed = Path::new(&change.path).starts_with(&config.hooks);
    if let Some(record) = record::of(layout, config).filter(|_| is_installed)
        && let Err(error) = record.change(change)
    {
        complain(
            format!("hookvisor: the record {} could not be written: {error}\n", record.path().display()).as_bytes(),
        );
    }
    let until = change.until.as_ref().map(|until| format!(" until {}", when::local(until))).unwrap_or_default();
    print(format!("{} {}{until}\n", change.change, change.path).as_bytes())
}

/// Who does this: with sudo, the user behind it.
fn user() -> String {
    let name = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let behind = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    behind.or_else(name).unwrap_or_else(|| nix::unistd::getuid().to_string())
}
