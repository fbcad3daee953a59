//! The table: each case beside the one that it is measured against, and its target.

#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::collections::BTreeMap;

use crate::measure::Seen;

/// What a case must not take longer than.
enum Target {
    /// So many microseconds.
    Time(f64),
    /// So many times the other case.
    Times(f64),
    /// So many microseconds more than the other case.
    Over(f64),
    /// There is none: the case is there to compare with.
    None,
}

use Target::{None as NoTarget, Over, Time, Times};

const STD: &str = "dash by std's Command";
const VETO: &str = "wasm, veto with stderr";
const TRUE: &str = "/bin/true";
const BASH: &str = "the hook in bash, by itself";
const DASH: &str = "the hook in dash, by itself";
const RUN_PARTS: &str = "run-parts, ten dash";

/// Case, the case that it is measured against, and its target.
const ROWS: [(&str, &str, Target); 24] = [
    (VETO, STD, Time(20.0)),
    (VETO, STD, Times(0.02)),
    ("wasm, proceed", STD, Time(10.0)),
    ("wasm, veto, inside tokio", VETO, Times(1.3)),
    ("dash by hookvisor", STD, Times(1.05)),
    (BASH, TRUE, NoTarget),
    ("hookvisor run, wasm", BASH, Times(1.0)),
    ("hookvisor run, wasm", TRUE, Times(1.3)),
    ("static hookvisor run, wasm", BASH, Times(1.0)),
    ("static hookvisor run, wasm", TRUE, Times(1.3)),
    ("hookvisor run, dash", DASH, Over(1000.0)),
    ("static hookvisor run, dash", DASH, Over(1000.0)),
    ("hookvisor run, dash, recorded", "hookvisor run, dash", Over(100.0)),
    ("static hookvisor run, dash, recorded", "static hookvisor run, dash", Over(100.0)),
    ("hookvisor run, ten dash", RUN_PARTS, Times(1.0)),
    ("static hookvisor run, ten dash", RUN_PARTS, Times(1.0)),
    ("load ten wasm hooks, cached", "load ten wasm hooks, compile", Time(5000.0)),
    ("wasm, 1 kB read", "wasm, proceed", NoTarget),
    ("wasm, 1 MB read", "wasm, 1 kB read", NoTarget),
    ("wasm, 50 MB read", "wasm, 1 MB read", Times(50.0)),
    ("dash, 1 kB read", DASH, NoTarget),
    ("dash, 1 MB read", "dash, 1 kB read", NoTarget),
    ("dash, 50 MB read", "dash, 1 MB read", Times(50.0)),
    (STD, TRUE, NoTarget),
];

pub(crate) fn print(seen: &BTreeMap<String, Seen>) {
    println!();
    println!("| case | median | fastest tenth | faults | switches | against | median | ratio | target | |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (name, against, target) in ROWS {
        let (Some(case), Some(base)) = (seen.get(name), seen.get(against)) else { continue };
        let (target, met) = match target {
            Time(most) => (format!("{} or less", time(most / 1e6)), Some(case.median * 1e6 <= most)),
            Times(most) => (format!("{most} times or less"), Some(case.median / base.median <= most)),
            Over(most) => {
                (format!("{} more or less", time(most / 1e6)), Some((case.median - base.median) * 1e6 <= most))
            }
            NoTarget => (String::new(), None),
        };
        let met = met.map_or("", |met| if met { "met" } else { "missed" });
        println!(
            "| {name} | {} | {} | {:.0} | {:.1} | {against} | {} | {:.3} | {target} | {met} |",
            time(case.median),
            case.fast.map(time).unwrap_or_default(),
            case.faults,
            case.switches,
            time(base.median),
            case.median / base.median,
        );
    }
}

/// Seconds, as a person reads them.
fn time(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} µs", seconds * 1e6) } else { format!("{:.2} ms", seconds * 1e3) }
}
