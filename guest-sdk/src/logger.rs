use log::{LevelFilter, Log, Metadata, Record};

use crate::sys;

/// The variable that says how much a native hook logs.
const LEVEL: &str = "HOOKVISOR_LOG";

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        #[cfg(feature = "testing")]
        if crate::testing::logged(record.level(), &message) {
            return;
        }
        sys::log(record.level(), &message);
    }

    fn flush(&self) {}
}

/// Sends what the [`log`] crate's macros write to the runtime's log.
///
/// [`hook`](crate::hook) does so by itself. In the sandbox every level goes to the runtime, which knows what is wanted.
/// Natively, lines go to stderr: `info` and above, or what the variable `HOOKVISOR_LOG` names.
///
/// A program that has a logger already keeps it.
pub fn log_to_runtime() {
    let level = match cfg!(target_os = "wasi") {
        true => LevelFilter::Trace,
        false => std::env::var(LEVEL).ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info),
    };
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
}
