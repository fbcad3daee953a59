//! Compiles hooks: in a separate process if the host names a program for it, otherwise in this process.
//!
//! A separate process has a memory limit and can be stopped at any time, and a crash of the compiler does not affect
//! the host. In this process only the caller's wait is limited, because threads cannot be stopped.

#[cfg(feature = "compiler")]
mod inspect;
mod job;
#[cfg(feature = "compiler")]
mod local;
#[cfg(feature = "compiler")]
mod serve;
#[cfg(feature = "compiler")]
mod translate;

#[cfg(feature = "compiler")]
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use bytesize::ByteSize;

use self::job::{ARGUMENT, REFUSED, VERSION, interrupted, took_too_long};
pub(super) use self::job::{Job, Layer};
use super::cache::LARGEST;
use super::error::refused;
use crate::backend::{Call, Program};
use crate::cancel::Cancel;
use crate::hook::error::LaunchError;
use crate::limits::{Deadline, Limits};
use crate::report::termination::Termination;

/// The running program, even if its file has been replaced or removed.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The time between SIGTERM and SIGKILL for the compiler.
const GRACE: Duration = Duration::from_secs(1);
/// How much of the compiler's stderr is kept.
const STDERR: usize = 4 << 10;

/// A program that compiles WebAssembly hooks in a process of its own.
///
/// Without one, hooks are compiled in the host's process. There [`Limits::compile_time`] still limits how long the host
/// waits, but the compiler's threads go on until they are done, and [`Limits::compile_memory`] is compared with an estimate.
///
/// ```no_run
/// use hookvisor::{Compiler, Runtime};
///
/// let compiler = Compiler::program("/usr/bin/hookvisor");
/// let runtime = Runtime::builder("/etc/mydaemon/hooks").compiler(compiler).build()?;
/// # drop(runtime);
/// # Ok::<(), hookvisor::LoadError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// `None` for the running program.
    program: Option<PathBuf>,
}

impl Compiler {
    /// Uses this program: a `hookvisor` of the same version as this library, or a program that calls `Compiler::serve`.
    ///
    /// As root, the program is trusted by the same rules as a hook.
    pub fn program(path: impl Into<PathBuf>) -> Self {
        Self { program: Some(path.into()) }
    }

    /// Uses the running program. Its `main` must call `Compiler::serve` first.
    #[must_use]
    pub fn this_program() -> Self {
        Self { program: None }
    }

    /// Compiles a module from stdin to stdout if the program was started to do so, and returns the exit status.
    ///
    /// A program that uses [`this_program`](Self::this_program) calls this before anything else:
    ///
    /// ```no_run
    /// if let Some(status) = hookvisor::Compiler::serve(std::env::args_os()) {
    ///     std::process::exit(status.into());
    /// }
    /// ```
    #[cfg(feature = "compiler")]
    pub fn serve(arguments: impl IntoIterator<Item = OsString>) -> Option<u8> {
        let mut arguments = arguments.into_iter().skip(1);
        (arguments.next()? == ARGUMENT).then(|| serve::serve(arguments))
    }
}

/// How a runtime compiles its hooks.
pub(super) struct Compilation {
    compiler: Option<Compiler>,
    /// Runs the compiler at a path.
    launcher: Arc<dyn Program>,
    /// Runs the running program, whose file needs no trust check.
    own_launcher: Arc<dyn Program>,
    cancels: Vec<Cancel>,
}

impl Compilation {
    pub(super) fn new(
        compiler: Option<Compiler>,
        launcher: Arc<dyn Program>,
        own_launcher: Arc<dyn Program>,
        cancels: Vec<Cancel>,
    ) -> Self {
        Self { compiler, launcher, own_launcher, cancels }
    }

    /// Whether a separate program compiles.
    #[cfg(not(feature = "compiler"))]
    pub(super) fn has_compiler(&self) -> bool {
        self.compiler.is_some()
    }

    /// Compiles within the limits. The result is machine code.
    pub(super) fn run(&self, job: Job<'_>, limits: &Limits) -> Result<Vec<u8>, LaunchError> {
        let deadline = Deadline::start(limits.compile_time, limits.compile_time, self.cancels.clone());
        match &self.compiler {
            Some(compiler) => self.run_elsewhere(compiler, job, limits, deadline),
            #[cfg(feature = "compiler")]
            None => local::run(job, limits, &deadline),
            #[cfg(not(feature = "compiler"))]
            None => Err(refused("this hookvisor has no compiler")),
        }
    }

    fn run_elsewhere(
        &self,
        compiler: &Compiler,
        job: Job<'_>,
        limits: &Limits,
        deadline: Deadline,
    ) -> Result<Vec<u8>, LaunchError> {
        let (program, launcher) = match &compiler.program {
            Some(program) => (program.as_path(), &self.launcher),
            None => (Path::new(THIS_PROGRAM), &self.own_launcher),
        };
        let (memory, seconds) = (limits.compile_memory.to_string(), limits.compile_time.as_secs().to_string());
        let mut call_limits = Limits::default();
        (call_limits.grace, call_limits.stderr) = (GRACE, STDERR);
        let ended = launcher.run(&Call {
            path: program,
            hook: job.hook,
            arguments: &[ARGUMENT, VERSION, job.layer.name(), job.resources.name(), &memory, &seconds],
            stdin: Bytes::from(job.binary),
            env: &[],
            deadline,
            limits: &call_limits,
            keep_stdout: usize::try_from(LARGEST).unwrap_or(usize::MAX),
            watch: None,
            digest: None,
        });
        let failed = |why: String| LaunchError::Host { what: "the compiler's process failed", why };
        let ended = ended.map_err(|error| match error {
            LaunchError::NotFound(_) => failed(format!("{} does not exist", program.display())),
            other => failed(format!("{} could not be run: {other}", program.display())),
        })?;
        let stderr = String::from_utf8_lossy(&ended.stderr.bytes);
        let reason = stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it wrote no reason");
        match ended.termination {
            Termination::Exited(0) if ended.stdout.dropped == 0 => Ok(ended.stdout.bytes),
            Termination::Exited(0) => {
                Err(refused(format!("its compiled code is larger than {}: build it smaller", ByteSize(LARGEST))))
            }
            Termination::Exited(REFUSED) if !ended.stdout.bytes.is_empty() => {
                Err(refused(String::from_utf8_lossy(&ended.stdout.bytes).trim()))
            }
            Termination::Exited(_) => Err(failed(reason.to_owned())),
            Termination::TimedOut { .. } => Err(took_too_long(limits)),
            Termination::Cancelled => Err(interrupted()),
            // Running out of memory ends in SIGABRT.
            Termination::Signaled { signal, name } => Err(refused(format!(
                "the compiler was killed by signal {signal} ({name}) with a limit of {} of memory: {}; build the module \
                 smaller, or raise compile_memory",
                ByteSize(limits.compile_memory),
                reason
            ))),
            other => Err(failed(other.to_string())),
        }
    }
}
