//! Sends the log to standard error, a file or the journal.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hookvisor::{LogConfig, LogLevel, LogTo, printable_block, printable_line};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
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
    let ours = filter_fn(move |m| *m.level() <= level && m.target().starts_with("hookvisor") && m.target() != VETOED);
    match &log.to {
        LogTo::File(path) => {
            let file = append_to(path).with_context(|| format!("the log {} could not be opened", path.display()))?;
            install(
                layer().event_format(Style::Line).with_writer(Arc::new(file)).with_filter(ours).and_then(unrecorded()),
            );
        }
        LogTo::Journal => {
            let journal = tracing_journald::layer().context("the journal could not be reached")?;
            install(
                journal
                    .with_syslog_identifier("hookvisor".to_owned())
                    .with_field_prefix(None)
                    .with_filter(ours)
                    .and_then(unrecorded()),
            );
        }
        _ => stderr(Some(level), None),
    }
    Ok(())
}

/// Also prints errors from writing the record on standard error, wherever the log goes.
fn unrecorded() -> impl Layer<Registry> + Send + Sync {
    let wanted = filter_fn(|metadata| metadata.target() == RECORD);
    layer().event_format(Style::Message).with_writer(io::stderr).with_filter(wanted)
}

fn stderr(asked: Option<Level>, otherwise: Option<Level>) {
    let terminal = io::stderr().is_terminal();
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
    install(layer().event_format(Style::Message).with_writer(io::stderr).with_filter(filter_fn(wanted)));
}

/// Whether the event's report does not contain this warning. Slow hooks are mentioned only on a terminal.
fn is_news(target: &str, terminal: bool) -> bool {
    match target {
        "hookvisor::broken" => false,
        "hookvisor::slow" => terminal,
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

fn install(log: impl Layer<Registry> + Send + Sync) {
    registry().with(log).init();
}

/// Opens a log that several processes share: each line is one appending write. A FIFO without a reader is an error; opening
/// it must not block.
fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
}

/// The format of a log line.
#[derive(Debug, Clone, Copy)]
enum Style {
    /// For standard error: `hookvisor: ` and the message.
    Message,
    /// For a file: time, level, fields and message, escaped into one line.
    Line,
}

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = EventText::default();
        event.record(&mut text);
        match self {
            Self::Message => write!(writer, "hookvisor: {}", printable_block(text.message.as_bytes()))?,
            Self::Line => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {}{} ", event.metadata().level(), text.fields)?;
                writer.write_str(&printable_line(text.message.trim_end()))?;
            }
        }
        writeln!(writer)
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
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_slow_hook_is_mentioned_on_a_terminal_and_a_broken_one_by_the_report() {
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::slow", terminal)), [true, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::broken", terminal)), [false, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::runtime", terminal)), [true, true]);
        assert_eq!([true, false].map(|terminal| is_news("wasmtime", terminal)), [false, false]);
    }

    #[test]
    fn a_call_is_one_line_whatever_the_hook_wrote() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let log = layer().event_format(Style::Line).with_writer(move || Sink(Arc::clone(&sink)));
        tracing::subscriber::with_default(registry().with(log), || {
            let (driver, object, status) = ("qemu", "web 1", 1_u8);
            tracing::warn!(
                { hookvisor.driver = driver, hookvisor.object = object, hookvisor.status = status },
                "Hook script execution failed: one\ntwo \u{1b}[31mred √\n"
            );
        });
        let written = written.lock().map(|w| String::from_utf8_lossy(&w).into_owned()).unwrap_or_default();
        let after_the_time = written.split_once(' ').map(|(_, rest)| rest);
        let expected =
            "WARN driver=qemu object=\"web 1\" status=1 Hook script execution failed: one\\ntwo \\u{1b}[31mred √\n";
        assert_eq!(after_the_time, Some(expected));
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().map(|mut w| w.extend_from_slice(bytes)).map_err(|_| io::ErrorKind::Other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}
