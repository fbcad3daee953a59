//! The log, on standard error.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, layer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, registry};

use super::complain;

/// Logs to standard error: what HOOKVISOR_LOG asks for; without it, and if `by_default`, the warnings that the report of
/// an event does not bring anyway.
pub(super) fn to_stderr(by_default: bool) {
    let asked = std::env::var_os("HOOKVISOR_LOG").and_then(level);
    let terminal = io::stderr().is_terminal();
    let wanted = move |metadata: &Metadata<'_>| {
        let (level, target) = (*metadata.level(), metadata.target());
        match asked {
            Some(asked) => level <= asked && target.starts_with("hookvisor"),
            None => by_default && level <= Level::WARN && is_news(target, terminal),
        }
    };
    let lines = layer().event_format(Plain).with_writer(io::stderr).with_filter(filter_fn(wanted));
    registry().with(lines).init();
}

fn level(asked: OsString) -> Option<Level> {
    let level = asked.to_str().and_then(|asked| asked.parse().ok());
    if level.is_none() {
        let levels = "error, warn, info, debug and trace";
        let told =
            format!("hookvisor: HOOKVISOR_LOG is {asked:?}, and not one of {levels}: it is left out of account\n");
        complain(told.as_bytes());
    }
    level
}

/// Whether a warning says what the report of an event does not: nobody waits for a slow hook but at a terminal.
fn is_news(target: &str, terminal: bool) -> bool {
    match target {
        "hookvisor::broken" => false,
        "hookvisor::slow" => terminal,
        target => target.starts_with("hookvisor"),
    }
}

/// `hookvisor: ` and the message.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str("hookvisor: ")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::is_news;

    #[test]
    fn a_slow_hook_is_mentioned_on_a_terminal_and_a_broken_one_by_the_report() {
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::slow", terminal)), [true, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::broken", terminal)), [false, false]);
        assert_eq!([true, false].map(|terminal| is_news("hookvisor::runtime", terminal)), [true, true]);
        assert_eq!([true, false].map(|terminal| is_news("wasmtime", terminal)), [false, false]);
    }
}
