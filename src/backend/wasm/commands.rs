//! Runs commands and opens connections for a guest.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::request::{Request, TooLarge};
use super::unix::{Connection, Failure};
use crate::backend::broker::Broker;
use crate::backend::native::detach::Detached;
use crate::backend::{Call, Completion, Program, check_deadline};
use crate::capture::Capture;
use crate::hook::error::LaunchError;
use crate::hook::settings::grants::Address;
use crate::hook::trust::Trust;
use crate::limits::{Deadline, Expired, Limits};
use crate::needs::Watch;
use crate::report::termination::Termination;

/// Where the program of a command is looked for that is asked for by its name.
const SEARCH_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Runs one call's commands, and opens its connections to Unix sockets.
pub(super) struct Commands {
    launcher: Arc<dyn Program>,
    broker: Broker,
    trust: Trust,
    hook: Arc<Path>,
    deadline: Deadline,
    limits: Limits,
    /// Collects what is used. Everything is granted then.
    watch: Option<Watch>,
}

/// Why a command has no output. The guest gets this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// The settings do not list the command.
    #[error("{0}")]
    Refused(String),
    /// The command is listed, but could not be run.
    #[error("{0}")]
    Failed(String),
}

impl Commands {
    pub(super) fn new(
        launcher: Arc<dyn Program>,
        broker: Broker,
        trust: Trust,
        call: &Call<'_>,
        hook: Arc<Path>,
    ) -> Self {
        let (deadline, limits) = (call.deadline.clone(), call.limits.clone());
        Self { launcher, broker, trust, hook, deadline, limits, watch: call.watch.clone() }
    }

    /// Runs a command to its end. If the hook's own time is up by then, the hook ends as well.
    pub(super) fn run(&mut self, request: Request) -> Result<Result<Completion, CommandError>, Expired> {
        let ran = self.launch(request);
        check_deadline(&self.deadline, &self.hook)?;
        Ok(ran)
    }

    fn launch(&mut self, request: Request) -> Result<Completion, CommandError> {
        let Request { program, arguments, stdin } = request;
        let (path, detach) = match &self.watch {
            Some(watch) => (used(watch, &program, &arguments)?, None),
            None => {
                let granted = self.broker.decide_with(&program, &arguments, &stdin).map_err(CommandError::Refused)?;
                (granted.program, granted.detach)
            }
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(time) = detach {
            return self.leave(&path, &arguments, &stdin, time);
        }
        let call = Call {
            path: &path,
            hook: &self.hook,
            arguments: &arguments,
            stdin,
            env: &[],
            deadline: self.deadline.clone(),
            limits: &self.limits,
            keep_stdout: self.limits.stdout,
            watch: None,
            digest: None,
        };
        let ended = self.launcher.run(&call).map_err(|why| self.failed(&path, &why))?;
        for note in &ended.notes {
            self.note(format!("{}: {note}", path.display()));
        }
        match ended.termination {
            Termination::Lost(why) => {
                Err(CommandError::Failed(format!("the exit status of {} is unavailable: {why}", path.display())))
            }
            _ => Ok(ended),
        }
    }

    /// Starts a detached command. It has no input, and its output is dropped.
    fn leave(
        &mut self,
        program: &Path,
        arguments: &[&str],
        stdin: &[u8],
        time: Duration,
    ) -> Result<Completion, CommandError> {
        if !stdin.is_empty() {
            let why = format!("{} is detached and gets no stdin", program.display());
            self.note(why.clone());
            return Err(CommandError::Refused(why));
        }
        let command = Detached { program, arguments, directory: c"/", time, grace: self.limits.grace };
        self.launcher.leave(&command).map_err(|why| self.failed(program, &why))?;
        self.broker.note_left(program, time);
        let nothing = || Capture::beginning(0).finish();
        let (stdout, stderr) = (nothing(), nothing());
        let termination = Termination::Exited(0);
        Ok(Completion { termination, stdout, stderr, stdout_held: false, notes: Vec::new(), sha256: None })
    }

    fn failed(&mut self, program: &Path, why: &LaunchError) -> CommandError {
        let why = format!("{} could not be run: {why}", program.display());
        self.note(why.clone());
        CommandError::Failed(why)
    }

    /// Connects to a Unix socket.
    pub(super) fn connect(&mut self, path: PathBuf) -> Result<Connection, Failure> {
        let to = Address::Unix(path.clone());
        if self.watch.is_none() && !self.broker.may_connect(&to) {
            self.broker.refuse_connection(&to);
            return Err(Failure::NotGranted);
        }
        let connection = Connection::open(&path, self.trust, &self.deadline, &self.hook)?;
        if let Some(watch) = &self.watch {
            watch.add(|needs| {
                needs.connections.insert(path.to_string_lossy().into_owned());
            });
        }
        Ok(connection)
    }

    /// Refuses a request that execve(2) could not take.
    pub(super) fn refuse_oversized(&mut self, why: TooLarge) -> CommandError {
        self.note(format!("it asked for a command that cannot be run: {why}"));
        CommandError::Refused(why.to_string())
    }

    /// Notes that a path is refused whatever the settings grant.
    pub(super) fn refuse_file(&mut self, path: &str, why: &str) {
        if let Some(watch) = &self.watch {
            watch.add(|needs| {
                needs.not_grantable.insert(format!("{path:?}: {why}"));
            });
        }
        self.note(format!("it could not open {path:?}: {why}"));
    }

    /// Adds a note to the report, unless there are too many.
    pub(super) fn note(&mut self, note: String) {
        self.broker.note(note);
    }

    pub(super) fn into_notes(self) -> Vec<String> {
        self.broker.into_notes()
    }
}

/// Collects a command of a hook that is learnt from, and finds its program.
fn used(watch: &Watch, program: &str, arguments: &[String]) -> Result<PathBuf, CommandError> {
    let path = match program.contains('/') {
        true => PathBuf::from(program),
        false => SEARCH_PATH
            .iter()
            .map(|directory| Path::new(directory).join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| {
                CommandError::Failed(format!("{program} could not be run: there is no such program in {SEARCH_PATH:?}"))
            })?,
    };
    if !path.is_absolute() {
        return Err(CommandError::Refused(format!(
            "{program:?} is neither the name of a program nor an absolute path"
        )));
    }
    watch.add(|needs| {
        needs.commands.insert((path.to_string_lossy().into_owned(), arguments.to_vec()));
    });
    Ok(path)
}
