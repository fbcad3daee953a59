//! `hookvisor disable` and `enable`: switch a hook off and on.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::Parser;
use hookvisor::{Config, Disabled, RecordedChange, disable_hook, enable_hook};
use jiff::Timestamp;

use super::history::when;
use super::layout::Layout;
use super::record;
use super::streams::{complain, print};

/// Switch a hook off until `enable` restores it
#[derive(Debug, Parser)]
#[command(after_help = "\
The hook is replaced by a link to /dev/null, and the original is kept next to it. `list`, `check`, `explain` and \
`history` show that it is disabled. The change takes effect immediately in libvirt's hook, and at the next reload in a \
daemon that embeds hookvisor.

Example: hookvisor disable qemu.d/20-policy --until \"in 2 hours\" --reason \"false alarm, see #4711\"")]
pub(super) struct Args {
    /// The hook: a path, or a name in the hooks directory such as qemu.d/20-policy
    hook: PathBuf,
    /// Enable the hook again at this time: "in 2 hours", tomorrow, 13:30, "2026-11-24 13:30"
    #[arg(long, value_name = "TIME", value_parser = when::future)]
    until: Option<Timestamp>,
    /// The reason, recorded in the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The hooks directory [default: from hookvisor.toml]
    #[arg(long, value_name = "DIR")]
    hooks: Option<PathBuf>,
}

/// Switch a hook on that `disable` switched off
#[derive(Debug, Parser)]
pub(super) struct EnableArgs {
    /// The hook: a path, or a name in the hooks directory such as qemu.d/20-policy
    hook: PathBuf,
    /// The hooks directory [default: from hookvisor.toml]
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

/// Resolves a name in the hooks directory. A path stays a path.
fn find(hook: &Path, hooks: &Path) -> PathBuf {
    let is_path = hook.is_absolute() || hook.starts_with(".") || hook.starts_with("..");
    if is_path { std::path::absolute(hook).unwrap_or(hook.to_owned()) } else { hooks.join(hook) }
}

/// Records the change and prints it.
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

/// The name of the calling user; under sudo, the user who ran sudo.
fn user() -> String {
    let name = || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    let behind = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    behind.or_else(name).unwrap_or_else(|| nix::unistd::getuid().to_string())
}
