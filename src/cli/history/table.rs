//! Prints the record's entries as text.

use std::fmt::Write;
use std::time::Duration;

use hookvisor::{Recorded, RecordedChange, RecordedEvent, printable_line as plain};

use super::when::local;

/// One entry: a line, and the failed hooks below it. With `all`, every hook.
pub(super) fn entry(entry: &Recorded, all: bool) -> String {
    match entry {
        Recorded::Event(event) => self::event(event, all),
        Recorded::Change(change) => self::change(change),
        _ => String::new(),
    }
}

fn event(event: &RecordedEvent, all: bool) -> String {
    let mut text = String::new();
    let operation = format!("{} {}", event.operation, event.sub_operation);
    let extra = if event.extra == "-" { String::new() } else { format!(" {}", plain(&event.extra)) };
    let _ = write!(
        text,
        "{}  {:<8} {:<12} {:<16} {:<9} {:>8}",
        local(&event.time),
        event.driver,
        plain(&event.object),
        plain(&operation) + &extra,
        event.decision,
        duration(event.duration_us),
    );
    let _ = match event.hooks.len() {
        0 => writeln!(text, "  no hook"),
        1 => writeln!(text, "  1 hook"),
        hooks => writeln!(text, "  {hooks} hooks"),
    };
    if all {
        let _ = writeln!(text, "  asked by {}", plain(&event.caller));
        for hook in &event.hooks {
            let state = hook.verdict.as_deref().unwrap_or(if hook.failure.is_some() { "failed" } else { "ok" });
            let digest = hook.sha256.as_ref().map(|digest| format!("  sha256 {digest}")).unwrap_or_default();
            let time = duration(hook.duration_us);
            let _ = writeln!(text, "  {state:<10} {:<6} {}  {time}{digest}", hook.kind, plain(&hook.path));
        }
        for skipped in &event.skipped {
            let _ =
                writeln!(text, "  {:<10} {:<6} {}: {}", "skipped", "", plain(&skipped.path), plain(&skipped.reason));
        }
    }
    for line in event.to_text().lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

fn change(change: &RecordedChange) -> String {
    let until = change.until.as_ref().map(|until| format!(" until {}", local(until))).unwrap_or_default();
    let reason = change.reason.as_ref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
    let (path, by) = (plain(&change.path), plain(&change.by));
    format!("{}  {} {path}{until} by {by}{reason}\n", local(&change.time), change.change)
}

/// A duration in the unit that suits it.
pub(super) fn duration(micros: u64) -> String {
    let seconds = Duration::from_micros(micros).as_secs_f64();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000..60_000_000 => format!("{seconds:.1} s"),
        _ => format!("{:.0} min", seconds / 60.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_that_suits_them() {
        let shown = [7, 1_180, 12_400, 999_000, 5_250_000, 600_000_000].map(duration);
        assert_eq!(shown, ["7 µs", "1.2 ms", "12 ms", "999 ms", "5.2 s", "10 min"]);
    }
}
