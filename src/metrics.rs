//! The names of what is counted and measured, for the [`metrics`](https://docs.rs/metrics) facade.
//!
//! A daemon that installs a recorder (such as `metrics-exporter-prometheus`) gets them; without one they cost next to
//! nothing.

/// Counter: hooks that were called, by `driver`, `operation`, `kind` (`native`, `wasm`) and `termination` (as in the report).
pub const CALLS: &str = "hookvisor_hook_calls_total";
/// Histogram: how long a hook's call took, in seconds, by `driver`, `operation` and `kind`.
pub const DURATION: &str = "hookvisor_hook_duration_seconds";
/// Gauge: hooks that are under way.
pub const IN_FLIGHT: &str = "hookvisor_hooks_in_flight";
/// Counter: starts that were vetoed, by `driver` and `operation`.
pub const VETOES: &str = "hookvisor_vetoes_total";
/// Counter: how often the hooks were loaded, the first time too, by `result` (`ok`, `failed`).
pub const RELOADS: &str = "hookvisor_reloads_total";
