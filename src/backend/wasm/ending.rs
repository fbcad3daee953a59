//! Converts the end of a guest's call to the report's terms.

use std::path::Path;

use bytesize::ByteSize;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::engine::{NAMED_FRAMES, Resources};
use super::error::{one_line, refused};
use super::preview_1::ProcExit;
use super::store::MemoryQuota;
use crate::hook::error::LaunchError;
use crate::limits::Expired;
use crate::report::termination::Termination;

/// The maximum length of a quoted panic message, in characters.
const LONGEST_MESSAGE: usize = 500;

/// Why a guest ended before its program returned.
pub(super) enum Failure {
    /// During instantiation, which includes the module's own start function.
    Instantiating(wasmtime::Error),
    Running(wasmtime::Error),
}

/// What is known about a call in addition to its failure.
pub(super) struct Ended<'a> {
    /// The end of what the guest wrote to stderr.
    pub(super) stderr: &'a [u8],
    pub(super) quota: &'a MemoryQuota,
    /// The memory limit, and the settings file that can change it.
    pub(super) memory: usize,
    pub(super) settings_file: &'a Path,
    pub(super) notes: &'a mut Vec<String>,
}

impl Ended<'_> {
    /// The termination of a guest that failed. An error means that it never ran.
    pub(super) fn failed(mut self, failure: Failure) -> Result<Termination, LaunchError> {
        let (error, began) = match failure {
            Failure::Instantiating(error) => (error, false),
            Failure::Running(error) => (error, true),
        };
        if let Some(ProcExit(status)) = error.downcast_ref() {
            return Ok(self.exited(*status));
        }
        if let Some(I32Exit(status)) = error.downcast_ref() {
            return Ok(self.exited(u32::try_from(*status).unwrap_or(u32::MAX)));
        }
        if let Some(expired) = error.downcast_ref::<Expired>() {
            return Ok((*expired).into());
        }
        let backtrace = error.downcast_ref::<WasmBacktrace>();
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return Ok(Termination::Trapped(self.trapped(*trap, backtrace)));
        }
        if began {
            self.note_frames(backtrace);
            return Ok(Termination::Trapped(error.root_cause().to_string().replace('\n', "; ")));
        }
        Err(self.not_instantiated(&error))
    }

    fn exited(&mut self, status: u32) -> Termination {
        if status != 0 {
            self.note_memory();
        }
        Termination::Exited(u8::try_from(status).unwrap_or_else(|_| {
            self.notes.push(format!(
                "it asked for the exit status {status}, but the largest is 255, which is reported instead"
            ));
            u8::MAX
        }))
    }

    /// A trap as a short phrase.
    fn trapped(&mut self, trap: Trap, backtrace: Option<&WasmBacktrace>) -> String {
        let stderr = String::from_utf8_lossy(self.stderr);
        if trap == Trap::UnreachableCodeReached {
            if self.quota.exceeded {
                self.note_frames(backtrace);
                let what = stderr.lines().rfind(|line| line.starts_with("memory allocation of "));
                return format!("{} ({})", what.unwrap_or("out of memory"), self.limit());
            }
            if let Some(panic) = panic_message(&stderr) {
                self.note_frames(backtrace);
                return panic;
            }
        }
        self.note_memory();
        let what = trap.to_string();
        let what = what.strip_prefix("wasm trap: ").unwrap_or(&what);
        let names = names(backtrace);
        if names.is_empty() { what.to_owned() } else { format!("{what} in {names}") }
    }

    fn not_instantiated(&self, error: &wasmtime::Error) -> LaunchError {
        // The load has already checked the size of each single memory.
        if self.quota.exceeded {
            return refused(format!(
                "its memories together need more than its limit at the start, {}: raise `memory` in its settings",
                ByteSize(self.memory as u64)
            ));
        }
        let what = "it could not be instantiated";
        // A system error is the host's fault. Anything else is a limit that the hook exceeded.
        if error.chain().any(|cause| cause.is::<std::io::Error>() || cause.is::<rustix::io::Errno>()) {
            return LaunchError::Host { what, why: format!("{}{}", one_line(error), Resources::limit_text()) };
        }
        refused(format!("{what}: {}", one_line(error)))
    }

    fn limit(&self) -> String {
        format!("limit {}; `memory` in {}", ByteSize(self.memory as u64), self.settings_file.display())
    }

    /// Notes that the failed guest was refused memory.
    fn note_memory(&mut self) {
        if self.quota.exceeded {
            let limit = self.limit();
            self.notes.push(format!("it asked for more memory than it can have ({limit})"));
        }
        if let Some(why) = &self.quota.host_failure {
            let limit = Resources::limit_text();
            self.notes.push(format!("the host could not provide memory for it: {why}{limit}"));
        }
    }

    fn note_frames(&mut self, backtrace: Option<&WasmBacktrace>) {
        let names = names(backtrace);
        if !names.is_empty() {
            self.notes.push(format!("it ended in {names}"));
        }
    }
}

/// The functions on the stack, as `inner < outer < main`, from the guest's name section.
fn names(backtrace: Option<&WasmBacktrace>) -> String {
    let frames = backtrace.map(WasmBacktrace::frames).unwrap_or_default();
    let demangled = |name: &str| format!("{:#}", rustc_demangle::demangle(name));
    let names: Vec<String> = frames.iter().take(NAMED_FRAMES).filter_map(|f| f.func_name().map(demangled)).collect();
    names.join(" < ")
}

/// `panicked at src/main.rs:18: message`, if the last thing that a guest wrote is the message of a Rust panic.
fn panic_message(stderr: &str) -> Option<String> {
    let (_, panic) = stderr.rsplit_once(" panicked at ")?;
    let (location, rest) = panic.split_once(":\n")?;
    let (location, _column) = location.rsplit_once(':').filter(|(location, _)| !location.contains('\n'))?;
    let message: String = rest.lines().next()?.chars().take(LONGEST_MESSAGE).collect();
    Some(format!("panicked at {location}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::panic_message;

    #[test]
    fn a_panic_is_one_clause() {
        let stderr = "before\n\nthread 'main' (1) panicked at src/main.rs:18:5:\non purpose\nnote: run with\n";
        assert_eq!(panic_message(stderr).as_deref(), Some("panicked at src/main.rs:18: on purpose"));
        for other in
            ["", "it panicked at noon", "x panicked at \n:\n", "thread 'main' panicked at 'x', src/main.rs:1:2"]
        {
            assert_eq!(panic_message(other), None, "{other}");
        }
    }
}
