//! `hookvisor history`: shows recorded decisions.

/// A private module of the library.
#[path = "../hook/pattern.rs"]
mod pattern;
mod stats;
mod table;
pub(super) mod when;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, ValueEnum};
use hookvisor::{Entries, Record, Recorded, RecordedEvent};
use jiff::Timestamp;

use self::pattern::Pattern;
use self::stats::Stats;
use super::installed::Installed;
use super::options::{ConfigArgs, Format};
use super::streams::{complain, print};

/// How often `--follow` checks for new entries.
const PAUSE: Duration = Duration::from_millis(200);

/// Show past decisions: when, for which guest, and by which hook
#[derive(Debug, Parser)]
#[command(after_help = "\
libvirt's hook and `hookvisor run` record each event in /var/log/hookvisor/history.jsonl. To use another file or to turn \
the record off, set [history] in hookvisor.toml. Times are local. With --format json, each entry is one line of JSON on standard output.

Examples:
  hookvisor history --last                               what failed last, and why?
  hookvisor history --decision vetoed --since yesterday  why did guests not start?
  hookvisor history --stats                              calls, failures and durations of each hook")]
pub(super) struct Args {
    /// Only events of this guest; a shell pattern such as 'web*'
    #[arg(long, value_name = "PATTERN", value_parser = Pattern::new)]
    object: Option<Pattern>,
    /// Only events of this driver
    #[arg(long, value_name = "DRIVER")]
    driver: Option<String>,
    /// Only events with this decision
    #[arg(long, value_enum)]
    decision: Option<Decided>,
    /// Only events that called this hook: its path, or the last part of it such as 10-xyzzy
    #[arg(long, value_name = "HOOK")]
    hook: Option<String>,
    /// Only events since this time: "2 hours ago", yesterday, 13:30, "2026-11-24 13:30"
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    since: Option<Timestamp>,
    /// Only events before this time
    #[arg(long, value_name = "TIME", value_parser = when::past)]
    until: Option<Timestamp>,
    /// Only the last N matching events in which a hook failed, with every hook that was called [default N: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    last: Option<usize>,
    /// Only the last N matching events
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "last")]
    lines: Option<usize>,
    /// Show all hooks, not only those that failed
    #[arg(short, long)]
    verbose: bool,
    /// Wait for new events and print them, until interrupted
    #[arg(short, long, conflicts_with = "stats")]
    follow: bool,
    /// Show statistics for each hook instead: calls, failures, vetoes and durations
    #[arg(long)]
    stats: bool,
    /// Read this file instead of the configured one
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// The decision for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Decided {
    /// The start was allowed
    Proceed,
    /// The start was vetoed
    Vetoed,
    /// The hooks were told that a guest stopped
    Notified,
    /// A hook in monitor mode would have vetoed the start
    WouldVeto,
}

pub(super) fn history(mut args: Args) -> anyhow::Result<u8> {
    let record = match args.record.take() {
        Some(file) => Record::at(file),
        None => recorded(&args.config)?,
    };
    let mut entries = record.entries();
    let wanted = entries.by_ref().filter(|entry| args.wants(entry));
    if args.stats {
        let mut stats = Stats::default();
        wanted.for_each(|entry| stats.add(&entry));
        warn(&record, &mut entries)?;
        print(stats.shown(args.format)?.as_bytes())?;
        return Ok(0);
    }
    let shown = args.show(wanted)?;
    warn(&record, &mut entries)?;
    if !args.follow {
        if shown == 0 && args.format == Format::Text {
            print(nothing(&record).as_bytes())?;
        }
        return Ok(0);
    }
    loop {
        thread::sleep(PAUSE);
        entries
            .by_ref()
            .filter(|entry| args.wants(entry))
            .try_for_each(|entry| print(args.shown(&entry).as_bytes()))?;
    }
}

/// The configured record. libvirt's hook records events although the configuration is invalid, so they are shown too.
fn recorded(config: &ConfigArgs) -> anyhow::Result<Record> {
    let (installed, error) = match Installed::of(config.clone()) {
        Ok(installed) => (installed, None),
        Err(error) => (Installed::despite_errors(config.clone()), Some(error)),
    };
    let Some(record) = installed.history() else {
        bail!("{} has `enabled = false` in [history]: nothing is recorded", config.file.display());
    };
    if let Some(error) = error {
        complain(format!("hookvisor: {error}\nhookvisor: showing {}\n", record.path().display()).as_bytes());
    }
    Ok(record)
}

/// Says why nothing is shown.
fn nothing(record: &Record) -> String {
    match record.path().try_exists() {
        Ok(false) => format!("no events yet: {} does not exist\n", record.path().display()),
        _ => "no matching events\n".to_owned(),
    }
}

/// Reports unreadable entries.
fn warn(record: &Record, entries: &mut Entries) -> anyhow::Result<()> {
    if let Some(error) = entries.take_error() {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied { ": only its owner may read it" } else { "" };
        bail!("the record {} could not be read: {error}{hint}", record.path().display());
    }
    match entries.torn() {
        0 => {}
        torn => {
            let file = record.path().display();
            complain(format!("hookvisor: {file}: {torn} incomplete lines are skipped\n").as_bytes());
        }
    }
    Ok(())
}

impl Args {
    /// Prints the entries, or the last of them, and returns their number.
    fn show(&self, wanted: impl Iterator<Item = Recorded>) -> anyhow::Result<usize> {
        let show = |entry: Recorded| print(self.shown(&entry).as_bytes()).map(|()| 1_usize);
        let Some(last) = self.last.or(self.lines) else { return wanted.map(show).sum() };
        let mut kept = VecDeque::new();
        for entry in wanted {
            kept.push_back(entry);
            if kept.len() > last {
                kept.pop_front();
            }
        }
        kept.into_iter().map(show).sum()
    }

    fn wants(&self, entry: &Recorded) -> bool {
        let time = entry.time().parse::<Timestamp>().ok();
        let since = self.since.is_none_or(|since| time.is_some_and(|time| time >= since));
        let until = self.until.is_none_or(|until| time.is_some_and(|time| time < until));
        since && until && self.wants_event(entry)
    }

    fn wants_event(&self, entry: &Recorded) -> bool {
        match entry {
            Recorded::Event(event) => {
                self.object.as_ref().is_none_or(|pattern| pattern.matches(&event.object))
                    && (self.last.is_none() || event.failures().next().is_some() || event.refused.is_some())
                    && self.driver.as_ref().is_none_or(|driver| *driver == event.driver)
                    && self.decision.is_none_or(|decision| decision.is_of(event))
                    && self
                        .hook
                        .as_ref()
                        .is_none_or(|hook| event.hooks.iter().any(|called| is_named(&called.path, hook)))
            }
            Recorded::Change(change) => {
                let of_events =
                    self.last.is_some() || self.object.is_some() || self.driver.is_some() || self.decision.is_some();
                !of_events && self.hook.as_ref().is_none_or(|hook| is_named(&change.path, hook))
            }
            _ => true,
        }
    }

    fn shown(&self, entry: &Recorded) -> String {
        match self.format {
            Format::Json => entry.to_json() + "\n",
            Format::Text => table::entry(entry, self.verbose || self.last.is_some()),
        }
    }
}

impl Decided {
    fn is_of(self, event: &RecordedEvent) -> bool {
        match self {
            Self::Proceed => event.decision == "proceed",
            Self::Vetoed => event.decision == "vetoed",
            Self::Notified => event.decision == "notified",
            Self::WouldVeto => event.hooks.iter().any(|hook| hook.verdict.as_deref() == Some("would-veto")),
        }
    }
}

/// Whether the path equals or ends with this name.
fn is_named(path: &str, name: &str) -> bool {
    std::path::Path::new(path).ends_with(name.trim_start_matches("./"))
}
