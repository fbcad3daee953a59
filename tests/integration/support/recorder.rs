//! The metrics as a daemon would show them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use metrics::{Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn};
use metrics::{Key, KeyName, Metadata, SharedString, Unit};

/// Keeps the sum of each counter and gauge, and the number of values of each histogram.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<BTreeMap<String, Arc<Sum>>>);

#[derive(Default)]
struct Sum(Mutex<f64>);

impl Recorder {
    /// One line for each, sorted by name.
    pub(crate) fn text(&self) -> String {
        let sums = self.0.lock().unwrap();
        sums.iter().fold(String::new(), |mut text, (name, sum)| {
            writeln!(text, "{name} {}", sum.0.lock().unwrap()).unwrap();
            text
        })
    }

    fn sum(&self, key: &Key) -> Arc<Sum> {
        let labels: Vec<String> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        Arc::clone(self.0.lock().unwrap().entry(format!("{}{{{}}}", key.name(), labels.join(","))).or_default())
    }
}

impl Sum {
    fn add(&self, value: f64) {
        *self.0.lock().unwrap() += value;
    }
}

#[expect(clippy::cast_precision_loss, reason = "the tests count to ten")]
impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.add(value as f64);
    }

    fn absolute(&self, value: u64) {
        *self.0.lock().unwrap() = value as f64;
    }
}

impl GaugeFn for Sum {
    fn increment(&self, value: f64) {
        self.add(value);
    }

    fn decrement(&self, value: f64) {
        self.add(-value);
    }

    fn set(&self, value: f64) {
        *self.0.lock().unwrap() = value;
    }
}

impl HistogramFn for Sum {
    fn record(&self, value: f64) {
        assert!(value > 0.0 && value < 60.0, "{value} seconds");
        self.add(1.0);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.sum(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.sum(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.sum(key))
    }
}
