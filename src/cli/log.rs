//! Sends the log to standard error, a file or the journal.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::SystemTime;

use anyhow::Context as _;
use hookvisor::{LogConfig, LogLevel, LogTo, printable_block, printable_line};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

use super::streams::complain;

/// Target of messages that go to standard error in any case: a log on standard error skips them.
const REPORTED: &str = "hookvisor::reported";

/// Target of errors from writing the record of events.
const RECORD: &str = "hookvisor::record";

/// Target of vetoes: the failed hook's own line already reports them.
const VETOED: &str = "hookvisor::vetoed";

/// Reports a failure of hookvisor itself.
pub(super) fn failed(why: &str) {
    tracing::error!(target: REPORTED, "{why}");
    complain(format!("hookvisor: {why}\n").as_bytes());
}

/// Logs to standard error at the level of HOOKVISOR_LOG. Without that variable and with `by_default`, logs the warnings
/// that the event's report does not contain.
pub(super) fn to_stderr(by_default: bool) {
    let asked = std::env::var_os("HOOKVISOR_LOG").and_then(level);
    stderr(asked, if by_default { Some(Level::WARN) } else { None });
}

/// Logs to the configured place; by default to standard error, without what the report contains. If the log cannot be
/// opened, it goes to standard error and the event continues.
pub(super) fn as_configured(log: Option<&LogConfig>) {
    let Some(log) = log else { return stderr(None, Some(Level::WARN)) };
    if let Err(error) = to_configured(log) {
        stderr(None, Some(Level::WARN));
        complain(format!("hookvisor: {error:#}; logging to standard error\n").as_bytes());
    }
}

fn to_configured(log: &LogConfig) -> anyhow::Result<()> {
    let level = match log.level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Debug => Level::DEBUG,
        _ => Level::INFO,
    };
    let ours =
        move |m: &Metadata<'_>| *m.level() <= level && m.target().starts_with("hookvisor") && m.target() != VETOED;
    match &log.to {
        LogTo::File(path) => {
            let file = append_to(path).with_context(|| format!("the log {} could not be opened", path.display()))?;
            Lines(vec![Output { wanted: Box::new(ours), style: Style::Line, to: Box::new(file) }, unrecorded()]).init();
        }
        LogTo::Journal => {
            let journal = tracing_journald::layer().context("the journal could not be reached")?;
            let journal = journal.with_syslog_identifier("hookvisor".to_owned()).with_field_prefix(None);
            let unrecorded = Lines(vec![unrecorded()]).with_filter(filter_fn(is_of_record));
            registry().with(journal.with_filter(filter_fn(ours)).and_then(unrecorded)).init();
        }
        _ => stderr(Some(level), None),
    }
    Ok(())
}

/// Also prints errors from writing the record on standard error, wherever the log goes.
fn unrecorded() -> Output {
    Output { wanted: Box::new(is_of_record), style: Style::Message, to: Box::new(io::stderr()) }
}

fn is_of_record(metadata: &Metadata<'_>) -> bool {
    metadata.target() == RECORD
}

fn stderr(asked: Option<Level>, otherwise: Option<Level>) {
    let terminal = || io::stderr().is_terminal();
    let wanted = move |metadata: &Metadata<'_>| {
        let (level, target) = (*metadata.level(), metadata.target());
        let reported = target == REPORTED || (target == "hookvisor::call" && level == Level::WARN);
        target.starts_with("hookvisor")
            && target != VETOED
            && !reported
            && match (asked, otherwise) {
                (Some(asked), _) => level <= asked,
                (None, Some(otherwise)) => level <= otherwise && is_news(target, terminal),
                (None, None) => false,
            }
    };
    Lines(vec![Output { wanted: Box::new(wanted), style: Style::Message, to: Box::new(io::stderr()) }]).init();
}

/// Whether the event's report does not contain this warning. Slow hooks are mentioned only on a terminal.
fn is_news(target: &str, terminal: impl Fn() -> bool) -> bool {
    match target {
        "hookvisor::broken" => false,
        "hookvisor::slow" => terminal(),
        target => target.starts_with("hookvisor"),
    }
}

fn level(asked: OsString) -> Option<Level> {
    let level = asked.to_str().and_then(|asked| asked.parse().ok());
    if level.is_none() {
        let value = asked.to_string_lossy();
        let warning = format!("hookvisor: HOOKVISOR_LOG={value} is ignored: use error, warn, info, debug or trace\n");
        complain(warning.as_bytes());
    }
    level
}

/// Opens a log that several processes share: each line is one appending write. A FIFO without a reader is an error; opening
/// it must not block.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// Writes events as lines. It ignores spans, which no line shows, so it costs a short run less than a registry of spans.
struct Lines(Vec<Output>);

/// A place for some of the events.
struct Output {
    wanted: Box<dyn Fn(&Metadata<'_>) -> bool + Send + Sync>,
    style: Style,
    to: Box<dyn WriteShared + Send + Sync>,
}

/// Writes at any time, from any thread. A line is one call.
trait WriteShared {
    fn write(&self, line: &[u8]) -> io::Result<()>;
}

impl<W> WriteShared for W
where
    for<'a> &'a W: io::Write,
{
    fn write(&self, line: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &*self, line)
    }
}

impl Lines {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.0.iter().any(|output| (output.wanted)(metadata))
    }

    fn write(&self, event: &Event<'_>) {
        let mut text = EventText::default();
        event.record(&mut text);
        for output in self.0.iter().filter(|output| (output.wanted)(event.metadata())) {
            let line = output.style.line(&text, *event.metadata().level());
            if let Err(error) = output.to.write(line.as_bytes()) {
                complain(format!("hookvisor: the log could not be written: {error}\n{line}").as_bytes());
            }
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wants(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        self.write(event);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.write(event);
    }
}

/// The format of a log line.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// For standard error: `hookvisor: ` and the message.
    Message,
    /// For a file: time, level, fields and message, escaped into one line.
    Line,
}

impl Style {
    fn line(self, text: &EventText, level: Level) -> String {
        match self {
            Self::Message => format!("hookvisor: {}\n", printable_block(text.message.as_bytes())),
            Self::Line => {
                let time = humantime::format_rfc3339_micros(SystemTime::now());
                format!("{time} {level}{} {}\n", text.fields, printable_line(text.message.trim_end()))
            }
        }
    }
}

/// An event's message, and its fields as ` name=value`.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = |c: char| !c.is_whitespace() && c != '"' && c != '=';
        let is_plain = !value.is_empty() && value.chars().all(plain) && printable_line(value) == value;
        // Writing to a string does not fail.
        let _ = match field.name().trim_start_matches("hookvisor.") {
            "message" => self.message.write_str(value),
            name if is_plain => write!(self.fields, " {name}={value}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_slow_hook_is_mentioned_on_a_terminal_and_a_broken_one_by_the_report() {
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::slow", || terminal)), [true, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::broken", || terminal)), [false, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::runtime", || terminal)), [true, true]);
        assert_eq!([true, false].map(|terminal| is_news("wasmtime", || terminal)), [false, false]);
    }

    #[test]
    fn a_call_is_one_line_whatever_the_hook_wrote() -> io::Result<()> {
        let written = tempfile::tempfile()?;
        let output = Output { wanted: Box::new(|_| true), style: Style::Line, to: Box::new(written.try_clone()?) };
        tracing::subscriber::with_default(Lines(vec![output]), || {
            let (driver, object, status) = ("qemu", "web 1", 1_u8);
            tracing::warn!(
                { hookvisor.driver = driver, hookvisor.object = object, hookvisor.status = status },
                "Hook script execution failed: one\ntwo \u{1b}[31mred √\n"
            );
        });
        let mut text = String::new();
        (&written).rewind()?;
        (&written).read_to_string(&mut text)?;
        let after_the_time = text.split_once(' ').map(|(_, rest)| rest);
        let expected =
            "WARN driver=qemu object=\"web 1\" status=1 Hook script execution failed: one\\ntwo \\u{1b}[31mred √\n";
        assert_eq!(after_the_time, Some(expected));
        Ok(())
    }
}
