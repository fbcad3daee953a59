//! The table: each case, what it is compared with, and its target.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::measure::{Measured, target_directory};

/// The limit for a case.
enum Target {
    /// At most this many microseconds.
    Time(f64),
    /// At most this many times the other case.
    Times(f64),
    /// At most this many microseconds more than the other case.
    Over(f64),
    /// No limit: other cases are compared with it.
    None,
}

use Target::{None as NoTarget, Over, Time, Times};

const STD: &str = "dash by std's Command";
const VETO: &str = "wasm, veto with stderr";
const TRUE: &str = "/bin/true";
const BASH: &str = "the hook in bash, by itself";
const DASH: &str = "the hook in dash, by itself";
const RUN_PARTS: &str = "run-parts, ten dash";

/// Case, what it is compared with, and its target.
const ROWS: [(&str, &str, Target); 36] = [
    (VETO, STD, Time(10.0)),
    (VETO, STD, Times(0.02)),
    ("wasm, proceed", STD, Time(5.0)),
    ("wasm, veto, inside tokio", VETO, Times(1.3)),
    ("wasmtime by its Python package", VETO, NoTarget),
    ("Extism by its Python package", VETO, NoTarget),
    ("dash by hookvisor", STD, Times(1.0)),
    (BASH, TRUE, NoTarget),
    ("drop-in, wasm", BASH, Times(1.0)),
    ("drop-in, wasm", TRUE, Times(1.5)),
    ("wasmtime's command line, wasm", "drop-in, wasm", NoTarget),
    ("drop-in, dash", DASH, Over(600.0)),
    ("drop-in, dash", "drop-in, dash, without the record", Over(100.0)),
    ("drop-in, ten dash", RUN_PARTS, Times(0.9)),
    ("drop-in run, wasm", BASH, Times(1.6)),
    ("drop-in run, dash", DASH, Over(1300.0)),
    ("drop-in run, ten dash", RUN_PARTS, Times(0.9)),
    ("hookvisor, wasm", BASH, Times(1.6)),
    ("hookvisor, wasm", TRUE, NoTarget),
    ("hookvisor, dash", DASH, Over(1300.0)),
    ("hookvisor, ten dash", RUN_PARTS, Times(0.9)),
    ("hookvisor run, ten dash", RUN_PARTS, Times(0.9)),
    ("bash, confined", "bash by hookvisor", Over(400.0)),
    ("bash in bubblewrap", "bash, confined", NoTarget),
    ("bash by hookvisor, one command", "bash by hookvisor", NoTarget),
    ("bash, confined, one command", "bash by hookvisor, one command", Over(1400.0)),
    ("a command, brokered", "a command, direct", Over(1000.0)),
    ("load ten wasm hooks, cached", "load ten wasm hooks, compile", Time(5000.0)),
    ("wasm, 1 kB read", "wasm, proceed", NoTarget),
    ("wasm, 1 MB read", "wasm, 1 kB read", NoTarget),
    ("wasm, 50 MB read", "wasm, 1 MB read", Times(50.0)),
    ("dash, 1 kB read", STD, NoTarget),
    ("dash, 1 MB read", "dash, 1 kB read", NoTarget),
    ("dash, 50 MB read", "dash, 1 MB read", Times(50.0)),
    (STD, TRUE, NoTarget),
    (DASH, TRUE, NoTarget),
];

pub(crate) fn table(measured: &Measured) -> String {
    let seen = &measured.cases;
    let mut table = "| case | median | fastest tenth | faults | switches | against | median | ratio | target | |\n\
                     |---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
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
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {name} | {} | {} | {:.0} | {:.1} | {against} | {} | {:.3} | {target} | {met} |",
            time(case.median),
            case.fast.map(time).unwrap_or_default(),
            case.faults,
            case.switches,
            time(base.median),
            case.median / base.median,
        );
    }
    let mut left_out = measured.left_out.clone();
    table += &sizes(&mut left_out);
    if !left_out.is_empty() {
        table += "\nLeft out:\n\n";
    }
    for (name, why) in left_out {
        let _ = writeln!(table, "- {name}: {}", why.lines().next().unwrap_or_default());
    }
    table
}

/// The size of an installation, from what is built.
fn sizes(left_out: &mut Vec<(String, String)>) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let size = |path: &Path| fs::metadata(path).map(|found| megabytes(found.len())).ok();
    let root = target_directory();
    let rows = [
        ("hookvisor", size(&root.join("release/hookvisor")), None),
        // The package's file is stripped. The built file has its symbols.
        ("drop-in, in the package", installed(&root, "./usr/bin/hookvisor-hook"), Some(5.0)),
        ("package hookvisor, installed", installed(&root, ""), Some(30.0)),
    ];
    let mut table = "\n| file | size | target | |\n|---|---|---|---|\n".to_owned();
    for (name, size, target) in rows {
        let Some(size) = size else {
            left_out.push((name.to_owned(), "it is not built: scripts/build-deb builds it".to_owned()));
            continue;
        };
        let (target, met) = target.map_or((String::new(), ""), |most: f64| {
            (format!("{most:.0} MB or less"), if size <= most { "met" } else { "missed" })
        });
        let _ = writeln!(table, "| {name} | {size:.1} MB | {target} | {met} |");
    }
    table
}

/// The size of a file in the package of `scripts/build-deb`, or of all its files.
fn installed(target: &Path, file: &str) -> Option<f64> {
    let is_package =
        |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("hookvisor_"));
    let mut debs = fs::read_dir(target.join("deb")).ok()?.flatten().map(|entry| entry.path());
    let deb = debs.find(|path| is_package(path) && path.extension().is_some_and(|end| end == "deb"))?;
    let listed = std::process::Command::new("dpkg-deb").arg("--contents").arg(deb).output().ok()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let columns = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sizes = columns.filter_map(|columns| {
        let (size, name) = (columns.get(2)?.parse::<u64>().ok()?, *columns.get(5)?);
        (file.is_empty() || name == file).then_some(size)
    });
    Some(sizes.sum::<u64>() as f64 / 1e6)
}

/// Seconds in a readable unit.
pub(crate) fn time(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.1} µs", seconds * 1e6) } else { format!("{:.2} ms", seconds * 1e3) }
}
