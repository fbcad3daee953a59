use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crate::sys;

/// A program of the host, with the shape of [`std::process::Command`].
///
/// In the sandbox the runtime runs it for the hook, if a `[[command]]` of the hook's settings allows this program with
/// these arguments. Natively it is run directly. Either way the program has a clean environment, `/` as its working
/// directory and pipes as its streams, and no shell sees its arguments.
///
/// ```no_run
/// use hookvisor_guest::Command;
///
/// # let rules = String::new();
/// Command::new("/usr/sbin/nft").args(["-f", "-"]).stdin(rules).run()?;
/// # Ok::<(), hookvisor_guest::CommandError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    program: String,
    args: Vec<String>,
    stdin: Vec<u8>,
}

impl Command {
    /// The program at an absolute path. A bare name stands for the program of that name which the settings list;
    /// natively, for the one in `PATH`.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), args: Vec::new(), stdin: Vec::new() }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<str>) -> &mut Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    pub fn args<A: AsRef<str>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What the program finds on its stdin, before end of file.
    pub fn stdin(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Self {
        self.stdin = bytes.into();
        self
    }

    /// The program's path.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The arguments so far.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.args
    }

    /// What its stdin will be.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.stdin
    }

    /// Runs it to its end. That it failed is told by [`Output::status`].
    ///
    /// # Errors
    /// It was refused, or could not be run.
    pub fn output(&self) -> Result<Output, CommandError> {
        #[cfg(feature = "testing")]
        if let Some(answer) = crate::testing::answer(self) {
            return answer;
        }
        sys::run(self)
    }

    /// Runs it to its end. What it writes to stderr goes to the hook's own; what it writes to stdout is dropped.
    ///
    /// # Errors
    /// It was refused, or could not be run.
    pub fn status(&self) -> Result<ExitStatus, CommandError> {
        let output = self.output()?;
        // That nobody reads it does not change how the program ended.
        let _ = io::stderr().write_all(&output.stderr);
        Ok(output.status)
    }

    /// Runs it, and takes nothing but success for one: with `?`, a program that fails vetoes, in its own words.
    ///
    /// # Errors
    /// It was refused, could not be run, or did not exit with 0.
    pub fn run(&self) -> Result<Output, CommandError> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output);
        }
        Err(CommandError::Failed { program: self.program.clone(), output })
    }
}

/// The command as a person would type it, for a message; not for a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| match arg.contains(|c: char| c.is_whitespace()) || arg.is_empty() {
            true => write!(f, " {arg:?}"),
            false => write!(f, " {arg}"),
        })
    }
}

/// What came of a program that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout, as far as the runtime keeps it.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr, as far as the runtime keeps it.
    pub stderr: Vec<u8>,
    /// How many bytes of stdout were not kept.
    pub stdout_dropped: u64,
    /// How many bytes of stderr were not kept.
    pub stderr_dropped: u64,
}

impl Output {
    pub(crate) fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self { status, stdout, stderr, stdout_dropped: 0, stderr_dropped: 0 }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a program that failed is no error by itself"]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this status.
    Exited(u8),
    /// It was killed by this signal.
    Signaled(u32),
    /// The hook's time was up, and the runtime killed it.
    TimedOut,
}

impl ExitStatus {
    /// Whether it exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The status it exited with, if it did.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled(_) | Self::TimedOut => None,
        }
    }

    /// The signal that killed it, if one did.
    #[must_use]
    pub fn signal(self) -> Option<u32> {
        match self {
            Self::Signaled(signal) => Some(signal),
            Self::Exited(_) | Self::TimedOut => None,
        }
    }
}

/// A fragment that fits "the program …".
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("ran out of time"),
        }
    }
}

/// Why a command gave no output, or for [`Command::run`], no success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The runtime did not let this hook run it; the hook's settings lack a `[[command]]` for it. Nothing was run.
    Refused {
        /// The program's path.
        program: String,
        /// The runtime's words.
        reason: String,
    },
    /// It may be run, and could not: there is no such program, or it cannot be executed.
    NotStarted {
        /// The program's path.
        program: String,
        /// The runtime's words, which name the program.
        reason: String,
    },
    /// It ran, and did not exit with 0.
    Failed {
        /// The program's path.
        program: String,
        /// What came of it.
        output: Output,
    },
}

impl CommandError {
    /// What the host's runtime says of its own accord, in the same words.
    #[cfg(any(feature = "testing", not(target_env = "p2")))]
    pub(crate) fn not_started(program: &str, why: &str) -> Self {
        Self::NotStarted { program: program.to_owned(), reason: format!("{program} could not be run: {why}") }
    }

    /// Whether the runtime refused it.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { program, reason } => write!(f, "this hook may not run {program}: {reason}"),
            Self::NotStarted { reason, .. } => f.write_str(reason),
            Self::Failed { program, output } => {
                write!(f, "{program} {}", output.status)?;
                match String::from_utf8_lossy(&output.stderr).trim() {
                    "" => Ok(()),
                    stderr => write!(f, ": {stderr}"),
                }
            }
        }
    }
}

impl Error for CommandError {}
