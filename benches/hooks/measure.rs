//! Measures: criterion for microseconds, and alternating turns for cases that start processes.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::Criterion;
use nix::sys::resource::{Usage, UsageWho, getrusage};

/// The measurements of one case, per call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// In seconds.
    pub(crate) median: f64,
    /// The fastest tenth of the calls took no longer. It is less disturbed than the median. Only for calls that are
    /// timed one by one.
    pub(crate) fast: Option<f64>,
    /// Page faults and context switches of this process and its children.
    pub(crate) faults: f64,
    pub(crate) switches: f64,
}

/// One case: its name and its action.
pub(crate) type Case<'a> = (&'a str, Box<dyn FnMut() + 'a>);

pub(crate) struct Measured {
    criterion: Criterion,
    /// `--quick`: a tenth of the turns, for a run of one minute.
    pub(crate) is_quick: bool,
    /// Measure only the cases with this in their names, and those that they are compared with.
    pub(crate) only: Option<String>,
    pub(crate) cases: BTreeMap<String, Seen>,
    /// Cases that could not be measured, each with the reason.
    pub(crate) left_out: Vec<(String, String)>,
}

impl Measured {
    pub(crate) fn new() -> Self {
        let is_quick = std::env::args().any(|argument| argument == "--quick");
        let times = if is_quick { [100, 400] } else { [500, 2000] };
        let [warm_up, measurement] = times.map(Duration::from_millis);
        let criterion = Criterion::default()
            .warm_up_time(warm_up)
            .measurement_time(measurement)
            .sample_size(if is_quick { 10 } else { 50 })
            .without_plots()
            .configure_from_args();
        let only = std::env::args().skip(1).rfind(|argument| !argument.starts_with('-'));
        Self { criterion, is_quick, only, cases: BTreeMap::new(), left_out: Vec::new() }
    }

    /// Whether to measure any of these cases.
    pub(crate) fn wants(&self, names: &[&str]) -> bool {
        self.only.as_ref().is_none_or(|only| names.iter().any(|name| name.contains(only.as_str())))
    }

    /// Names a case that cannot be measured here.
    pub(crate) fn leave_out(&mut self, name: &str, why: &str) {
        if self.wants(&[name]) {
            self.left_out.push((name.to_owned(), why.to_owned()));
        }
    }

    /// A case that takes microseconds.
    pub(crate) fn case(&mut self, name: &str, mut run: impl FnMut()) {
        if !self.wants(&[name]) {
            return;
        }
        self.criterion.bench_function(name, |bencher| bencher.iter(&mut run));
        // Criterion skips what the command line did not select.
        let Some(median) = median(name) else { return };
        let mut counted = turns(100, &mut [(name, Box::new(run))]);
        let Some(seen) = counted.remove(0) else { return };
        self.cases.insert(name.to_owned(), Seen { median, fast: None, ..seen });
    }

    /// Cases to compare, each once per turn, so that a disturbance affects all of them.
    pub(crate) fn in_turns(&mut self, count: usize, mut cases: Vec<Case<'_>>) {
        if !self.wants(&cases.iter().map(|(name, _)| *name).collect::<Vec<_>>()) {
            return;
        }
        let count = if self.is_quick { count.div_ceil(10) } else { count };
        turns(count.div_ceil(10), &mut cases);
        let seen = turns(count, &mut cases);
        for ((name, _), seen) in cases.iter().zip(seen) {
            self.cases.extend(seen.map(|seen| ((*name).to_owned(), seen)));
        }
    }

    /// What one case takes more than another.
    pub(crate) fn difference(&mut self, name: &str, more: &str, less: &str) {
        if let (Some(more), Some(less)) = (self.cases.get(more), self.cases.get(less)) {
            let fast = more.fast.zip(less.fast).map(|(more, less)| more - less);
            let (faults, switches) = (more.faults - less.faults, more.switches - less.switches);
            let seen = Seen { median: more.median - less.median, fast, faults, switches };
            self.cases.insert(name.to_owned(), seen);
        }
    }

    /// A case that another program has measured, in seconds.
    pub(crate) fn other(&mut self, name: &str, median: f64) {
        self.cases.insert(name.to_owned(), Seen { median, fast: None, faults: 0.0, switches: 0.0 });
    }

    pub(crate) fn finish(&mut self) {
        self.criterion.final_summary();
    }
}

fn turns(count: usize, cases: &mut [Case<'_>]) -> Vec<Option<Seen>> {
    let mut times = vec![Vec::with_capacity(count); cases.len()];
    let mut counts = vec![[0; 2]; cases.len()];
    for turn in 0..count {
        for case in order(turn, cases.len()) {
            let before = usage();
            let began = Instant::now();
            cases[case].1();
            times[case].push(began.elapsed().as_secs_f64());
            let after = usage();
            for (sum, (after, before)) in counts[case].iter_mut().zip(after.into_iter().zip(before)) {
                *sum += after - before;
            }
        }
    }
    let seen = |(times, counts): (&mut Vec<f64>, &[i64; 2])| {
        times.sort_by(f64::total_cmp);
        let [faults, switches] = counts.map(|sum| sum as f64 / count as f64);
        Some(Seen { median: *times.get(count / 2)?, fast: times.get(count / 10).copied(), faults, switches })
    };
    times.iter_mut().zip(&counts).map(seen).collect()
}

/// The cases in an order that differs in each turn, and not between runs. A case that always followed the same other one was
/// up to 0.15 ms slower or faster for that.
fn order(turn: usize, cases: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..cases).collect();
    order.sort_by_cached_key(|case| {
        let mut hasher = DefaultHasher::new();
        (turn, case).hash(&mut hasher);
        hasher.finish()
    });
    order
}

/// Page faults and context switches so far, of this process and of the children that it has waited for.
fn usage() -> [i64; 2] {
    let of = |who| getrusage(who).map(|usage: Usage| [usage.minor_page_faults(), switches(&usage)]).unwrap_or_default();
    let [own, children] = [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].map(of);
    [own[0] + children[0], own[1] + children[1]]
}

fn switches(usage: &Usage) -> i64 {
    usage.voluntary_context_switches() + usage.involuntary_context_switches()
}

/// The median of a case in seconds, from criterion's last measurement.
fn median(name: &str) -> Option<f64> {
    let estimates = target_directory().join("criterion").join(name).join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_str(&fs::read_to_string(estimates).ok()?).ok()?;
    Some(estimates["median"]["point_estimate"].as_f64()? / 1e9)
}

/// cargo's build directory.
pub(crate) fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("target")).to_owned()
}
