//! Statistics of each hook in the record: calls, failures, vetoes and durations.

use std::collections::BTreeMap;
use std::fmt::Write;

use hookvisor::Recorded;
use serde::Serialize;

use super::table::duration;
use crate::cli::options::Format;

/// The columns of the chart. The first is for calls up to 250 µs, and each further one for up to twice as long.
const COLUMNS: usize = 16;
const FIRST_COLUMN: u64 = 250;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// For a terminal without UTF-8.
const ASCII_BARS: [char; 8] = ['.', ':', '-', '=', '+', '*', '%', '#'];

/// The statistics of each hook, by path.
#[derive(Debug, Default)]
pub(super) struct Stats {
    hooks: BTreeMap<String, HookStatistics>,
}

#[derive(Debug, Default)]
struct HookStatistics {
    failures: u64,
    vetoes: u64,
    would_veto: u64,
    /// How long each call took, in microseconds.
    durations: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Summary<'a> {
    path: &'a str,
    calls: usize,
    failures: u64,
    vetoes: u64,
    would_veto: u64,
    p50_us: u64,
    p95_us: u64,
    max_us: u64,
}

impl Stats {
    pub(super) fn add(&mut self, entry: &Recorded) {
        let Recorded::Event(event) = entry else { return };
        for hook in &event.hooks {
            let calls = self.hooks.entry(hook.path.clone()).or_default();
            let would_veto = hook.verdict.as_deref() == Some("would-veto");
            let failed = hook.failure.is_some();
            calls.failures += u64::from(failed);
            calls.vetoes += u64::from(failed && !would_veto && event.stage == "start");
            calls.would_veto += u64::from(would_veto);
            calls.durations.push(hook.duration_us);
        }
    }

    pub(super) fn shown(mut self, format: Format) -> anyhow::Result<String> {
        self.hooks.values_mut().for_each(|calls| calls.durations.sort_unstable());
        let summaries = self.hooks.iter().map(|(path, calls)| calls.summary(path));
        match format {
            Format::Json => Ok(serde_json::to_string_pretty(&Hooks { hooks: summaries.collect() })? + "\n"),
            Format::Text => Ok(self.table(&summaries.collect::<Vec<_>>(), if is_utf8() { BARS } else { ASCII_BARS })),
        }
    }

    fn table(&self, summaries: &[Summary<'_>], bars: [char; 8]) -> String {
        if summaries.is_empty() {
            return "no hook was called\n".to_owned();
        }
        let scale = format!("{} to {} or more", duration(FIRST_COLUMN), duration(FIRST_COLUMN << (COLUMNS - 1)));
        let mut text = format!(
            "{:>7} {:>8} {:>7} {:>11} {:>8} {:>8} {:>8}  {:<COLUMNS$}  HOOK\n",
            "CALLS", "FAILURES", "VETOES", "WOULD-VETO", "P50", "P95", "MAX", "DURATIONS"
        );
        for (summary, calls) in summaries.iter().zip(self.hooks.values()) {
            let _ = writeln!(
                text,
                "{:>7} {:>8} {:>7} {:>11} {:>8} {:>8} {:>8}  {}  {}",
                summary.calls,
                summary.failures,
                summary.vetoes,
                summary.would_veto,
                duration(summary.p50_us),
                duration(summary.p95_us),
                duration(summary.max_us),
                chart(&calls.durations, bars),
                summary.path,
            );
        }
        let _ = writeln!(text, "durations: {scale}, each column twice the one before it");
        text
    }
}

#[derive(Serialize)]
struct Hooks<'a> {
    hooks: Vec<Summary<'a>>,
}

impl HookStatistics {
    fn summary<'a>(&self, path: &'a str) -> Summary<'a> {
        Summary {
            path,
            calls: self.durations.len(),
            failures: self.failures,
            vetoes: self.vetoes,
            would_veto: self.would_veto,
            p50_us: percentile(&self.durations, 50),
            p95_us: percentile(&self.durations, 95),
            max_us: self.durations.last().copied().unwrap_or_default(),
        }
    }
}

/// The smallest duration that this percentage of the calls did not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// A column for each doubling of the duration.
fn chart(durations: &[u64], bars: [char; 8]) -> String {
    let mut counts = [0_usize; COLUMNS];
    for duration in durations {
        let column = duration.div_ceil(FIRST_COLUMN).max(1).next_power_of_two().trailing_zeros() as usize;
        counts[column.min(COLUMNS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let bar = |count: &usize| if *count == 0 { ' ' } else { bars[(count * bars.len()).div_ceil(most) - 1] };
    counts.iter().map(bar).collect()
}

/// Whether the terminal supports UTF-8, according to the environment.
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].iter().filter_map(std::env::var_os).find(|value| !value.is_empty());
    let set = set.unwrap_or_default().to_string_lossy().to_ascii_uppercase();
    set.contains("UTF-8") || set.contains("UTF8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_a_call_took() {
        let durations: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 95].map(|percent| percentile(&durations, percent)), [50, 95]);
        assert_eq!([50, 95].map(|percent| percentile(&[7], percent)), [7, 7]);
        assert_eq!(percentile(&[], 95), 0);
    }

    #[test]
    fn the_chart_has_a_column_for_each_doubling() {
        let line = chart(&[1, 250, 251, 500, 600, u64::MAX / 2], BARS);
        assert_eq!(line, "██▄            ▄");
        assert_eq!(line.chars().count(), COLUMNS);
        assert_eq!(chart(&[], ASCII_BARS).trim(), "");
        assert_eq!(chart(&[300], ASCII_BARS).trim(), "#");
    }
}
