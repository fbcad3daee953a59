use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use crate::sys;

/// A program on the host, modelled on [`std::process::Command`].
///
/// For a sandboxed hook, the runtime runs the program if a `[[command]]` in the hook's settings allows it with these
/// arguments. A native hook runs it directly. In both cases the program gets a clean environment, the working directory
/// `/` and pipes for its standard streams. No shell interprets the arguments.
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
    /// Creates a command for a program: an absolute path or a bare name.
    ///
    /// In the sandbox, a bare name selects the `[[command]]` whose program has that file name. A native hook looks it
    /// up in `PATH`.
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

    /// Sets the bytes that the program reads from stdin. The default is empty.
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

    /// The bytes for the program's stdin.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        &self.stdin
    }

    /// Runs the program and waits for it to end.
    ///
    /// A program that fails is not an error here: check [`Output::status`].
    ///
    /// # Errors
    /// The command was refused, or the program could not be run.
    pub fn output(&self) -> Result<Output, CommandError> {
        #[cfg(feature = "testing")]
        if let Some(answer) = crate::testing::answer(self) {
            return answer;
        }
        sys::run(self)
    }

    /// Runs the program and returns how it ended. Its stderr is copied to the hook's stderr; its stdout is discarded.
    ///
    /// # Errors
    /// The command was refused, or the program could not be run.
    pub fn status(&self) -> Result<ExitStatus, CommandError> {
        let output = self.output()?;
        // A closed stderr does not change the program's status.
        let _ = io::stderr().write_all(&output.stderr);
        Ok(output.status)
    }

    /// Runs the program and returns an error unless it exits with 0.
    ///
    /// With `?`, a failed program becomes a veto that contains the program's stderr.
    ///
    /// # Errors
    /// The command was refused, the program could not be run, or it did not exit with 0.
    pub fn run(&self) -> Result<Output, CommandError> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output);
        }
        Err(CommandError::Failed { program: self.program.clone(), output })
    }
}

/// The command line, for messages. It is not quoted for a shell.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.program)?;
        self.args.iter().try_for_each(|arg| match arg.contains(|c: char| c.is_whitespace()) || arg.is_empty() {
            true => write!(f, " {arg:?}"),
            false => write!(f, " {arg}"),
        })
    }
}

/// The status and output of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The program's stdout, up to the limit that the runtime keeps.
    pub stdout: Vec<u8>,
    /// The program's stderr, up to the limit that the runtime keeps.
    pub stderr: Vec<u8>,
    /// Number of bytes of stdout that were discarded.
    pub stdout_dropped: u64,
    /// Number of bytes of stderr that were discarded.
    pub stderr_dropped: u64,
}

impl Output {
    pub(crate) fn new(status: ExitStatus, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self { status, stdout, stderr, stdout_dropped: 0, stderr_dropped: 0 }
    }
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a failed program is not an error here: check its status"]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this status.
    Exited(u8),
    /// It was killed by this signal.
    Signaled(u32),
    /// The hook's timeout expired and the runtime killed the program.
    TimedOut,
}

impl ExitStatus {
    /// Whether the program exited with 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The exit status; `None` if the program was killed.
    #[must_use]
    pub fn code(self) -> Option<u8> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled(_) | Self::TimedOut => None,
        }
    }

    /// The signal that killed the program; `None` if it exited or timed out.
    #[must_use]
    pub fn signal(self) -> Option<u32> {
        match self {
            Self::Signaled(signal) => Some(signal),
            Self::Exited(_) | Self::TimedOut => None,
        }
    }
}

/// A fragment that fits after "the program".
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with {code}"),
            Self::Signaled(signal) => write!(f, "was killed by signal {signal}"),
            Self::TimedOut => f.write_str("ran out of time"),
        }
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// No `[[command]]` in the hook's settings allows the command. Nothing was run.
    Refused {
        /// The program's path.
        program: String,
        /// The reason that the runtime gave.
        reason: String,
    },
    /// The command is allowed, but the program does not exist or cannot be executed.
    NotStarted {
        /// The program's path.
        program: String,
        /// The reason that the runtime gave. It names the program.
        reason: String,
    },
    /// The program ran and did not exit with 0.
    Failed {
        /// The program's path.
        program: String,
        /// Its status and output.
        output: Output,
    },
}

impl CommandError {
    /// Uses the same wording as the runtime on the host.
    #[cfg(any(feature = "testing", not(target_env = "p2")))]
    pub(crate) fn not_started(program: &str, why: &str) -> Self {
        Self::NotStarted { program: program.to_owned(), reason: format!("{program} could not be run: {why}") }
    }

    /// Whether the runtime refused the command.
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
