use log::{LevelFilter, Log, Metadata, Record};

use crate::sys;

/// The variable that sets a native hook's log level.
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

/// Sends messages of the [`log`] crate to the runtime's log.
///
/// [`hook`](crate::hook) calls this. In the sandbox all levels go to the runtime, which filters them. A native hook
/// writes to stderr: `info` and above, or from the level in the variable `HOOKVISOR_LOG`.
///
/// If the program already has a logger, this does nothing.
pub fn log_to_runtime() {
    let level = match cfg!(target_os = "wasi") {
        true => LevelFilter::Trace,
        false => std::env::var(LEVEL).ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info),
    };
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(level);
    }
}
