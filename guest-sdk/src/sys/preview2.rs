//! A WASI 0.2 component: the runtime's functions are imports of the world in `wit/hookvisor.wit`.

use std::io::{self, Write};
use std::process::ExitCode;

use self::hook::hookvisor::hook::commands::{self, Termination};
use crate::{Command, CommandError, ExitStatus, Output};

/// What wit-bindgen makes of the WIT.
mod hook {
    wit_bindgen::generate!({ path: "wit", world: "hook" });
}

/// Rust's own standard library leaves a component with success or failure alone; 0.2.12 brings the status.
mod exit {
    wit_bindgen::generate!({
        inline: "
            package hookvisor:exit-status;

            world exit-status {
                import wasi:cli/exit@0.2.12;
            }

            package wasi:cli@0.2.12 {
                interface exit {
                    exit: func(status: result);
                    exit-with-code: func(status-code: u8);
                }
            }
        ",
        generate_all,
    });
}

pub(crate) fn run(command: &Command) -> Result<Output, CommandError> {
    let output = commands::run(command.program(), command.arguments(), command.input()).map_err(|error| {
        let program = command.program().to_owned();
        match error {
            commands::Error::Refused(reason) => CommandError::Refused { program, reason },
            commands::Error::Failed(reason) => CommandError::NotStarted { program, reason },
        }
    })?;
    let status = match output.termination {
        Termination::Exited(code) => ExitStatus::Exited(code),
        Termination::Signaled(signal) => ExitStatus::Signaled(signal),
        Termination::TimedOut => ExitStatus::TimedOut,
    };
    Ok(Output {
        stdout_dropped: output.stdout_dropped,
        stderr_dropped: output.stderr_dropped,
        ..Output::new(status, output.stdout, output.stderr)
    })
}

#[cfg(feature = "log")]
pub(crate) fn log(level: ::log::Level, message: &str) {
    use self::hook::hookvisor::hook::logging;
    let level = match level {
        ::log::Level::Error => logging::Level::Error,
        ::log::Level::Warn => logging::Level::Warn,
        ::log::Level::Info => logging::Level::Info,
        ::log::Level::Debug => logging::Level::Debug,
        ::log::Level::Trace => logging::Level::Trace,
    };
    logging::log(level, message);
}

pub(crate) fn end_with(status: u8) -> ExitCode {
    if status > 1 {
        // What std would do at the end of `main`, which is not reached. Nobody is left to tell that it failed.
        let _ = io::stdout().flush();
        exit::wasi::cli::exit::exit_with_code(status);
    }
    ExitCode::from(status)
}
