//! The names of the metrics, for the [`metrics`](https://docs.rs/metrics) facade.
//!
//! A daemon that installs a recorder (such as `metrics-exporter-prometheus`) receives them. Without a recorder they
//! cost almost nothing. `examples/daemon` serves them to Prometheus.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Counter: hook calls, by `driver`, `operation`, `kind` (`native`, `wasm`) and `termination` (as in the report).
pub const CALLS: &str = "hookvisor_hook_calls_total";
/// Histogram: duration of a hook call in seconds, by `driver`, `operation` and `kind`.
pub const DURATION: &str = "hookvisor_hook_duration_seconds";
/// Gauge: hooks that are running.
pub const IN_FLIGHT: &str = "hookvisor_hooks_in_flight";
/// Counter: vetoed starts, by `driver` and `operation`.
pub const VETOES: &str = "hookvisor_vetoes_total";
/// Counter: loads of the hooks, including the first, by `result` (`ok`, `failed`).
pub const RELOADS: &str = "hookvisor_reloads_total";

/// Passes a description of each metric to the recorder. Call it after the recorder is installed.
pub fn describe() {
    describe_counter!(CALLS, "Hook calls");
    describe_histogram!(DURATION, Unit::Seconds, "Duration of a hook call");
    describe_gauge!(IN_FLIGHT, "Hooks that are running");
    describe_counter!(VETOES, "Vetoed starts");
    describe_counter!(RELOADS, "Loads of the hooks, including the first");
}
