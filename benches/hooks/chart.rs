//! Draws the table as a chart: one bar per case. The scale is logarithmic, since a sandboxed call takes a hundredth of
//! a process's time.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::measure::Seen;
use crate::table::time;

const ROW: usize = 22;
const LABELS: usize = 250;
const WIDTH: usize = 760;
/// The ends of the scale, in seconds.
const LEAST: f64 = 1e-6;
const MOST: f64 = 1.0;

pub(crate) fn svg(cases: &BTreeMap<String, Seen>) -> String {
    let mut rows: Vec<_> = cases.iter().map(|(name, seen)| (name.as_str(), seen.median)).collect();
    rows.sort_by(|(_, one), (_, other)| one.total_cmp(other));
    let height = (rows.len() + 2) * ROW;
    let room = (WIDTH - LABELS - 80) as f64;
    let at = |seconds: f64| ((seconds / LEAST).log10() / (MOST / LEAST).log10()).clamp(0.0, 1.0) * room;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for power in -6..=0 {
        let (x, label) = (LABELS as f64 + at(10_f64.powi(power)), time(10_f64.powi(power)));
        // Writing to a string does not fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.0}\" y1=\"{ROW}\" x2=\"{x:.0}\" y2=\"{height}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.0}\" y=\"14\" text-anchor=\"middle\" fill=\"#666\">{label}</text>"
        );
    }
    for (number, (name, median)) in rows.iter().enumerate() {
        let (y, wide) = ((number + 1) * ROW, at(*median));
        let colour = if is_ours(name) { "#2a6f97" } else { "#b0b0b0" };
        let (text, label) = (y + 15, LABELS - 8);
        let _ = writeln!(
            svg,
            "<text x=\"{label}\" y=\"{text}\" text-anchor=\"end\">{name}</text>\
             <rect x=\"{LABELS}\" y=\"{}\" width=\"{wide:.0}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.0}\" y=\"{text}\">{}</text>",
            y + 3,
            ROW - 6,
            LABELS as f64 + wide + 6.0,
            time(*median)
        );
    }
    svg + "</svg>\n"
}

/// The other cases are the comparison.
fn is_ours(name: &str) -> bool {
    const COMPARED: [&str; 10] = [
        "/bin/true",
        "by itself",
        "by std",
        "run-parts",
        "by its Python package",
        "command line",
        "bubblewrap",
        "compile",
        "without the record",
        "direct",
    ];
    !COMPARED.iter().any(|compared| name.contains(compared))
}
