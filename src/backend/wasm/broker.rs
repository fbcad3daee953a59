//! Runs commands for a guest: the commands that the hook's settings list, and no others.

use std::path::Path;
use std::sync::Arc;

use super::request::{Request, TooLarge};
use crate::backend::{Call, Completion, Program, check_deadline};
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Names, lines_to_grant};
use crate::limits::{Deadline, Expired, Limits};
use crate::report::termination::Termination;

/// Notes in one report.
const NOTES: usize = 10;
/// Bytes of a refused command that is shown.
const LONGEST_QUOTED: usize = 1000;

/// Runs one call's commands.
pub(super) struct Broker {
    launcher: Arc<dyn Program>,
    settings: Arc<Settings>,
    settings_file: Arc<Path>,
    hook: Arc<Path>,
    object: String,
    operation: String,
    deadline: Deadline,
    limits: Limits,
    /// Notes for the report.
    pub(super) notes: Vec<String>,
}

/// Why a command has no output. The guest reads the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// The settings do not list the command.
    #[error("{0}")]
    Refused(String),
    /// The command is listed and could not be run.
    #[error("{0}")]
    Failed(String),
}

impl Broker {
    pub(super) fn new(
        launcher: Arc<dyn Program>,
        settings: Arc<Settings>,
        settings_file: Arc<Path>,
        call: &Call<'_>,
    ) -> Self {
        let argument = |at: usize| call.arguments.get(at).map_or("-", |a| a).to_owned();
        Self {
            launcher,
            settings,
            settings_file,
            hook: call.hook.into(),
            object: argument(0),
            operation: argument(1),
            deadline: call.deadline.clone(),
            limits: call.limits.clone(),
            notes: Vec::new(),
        }
    }

    /// Runs a command to its end. If the hook's own time is up by then, the hook ends as well.
    pub(super) fn run(&mut self, request: Request) -> Result<Result<Completion, CommandError>, Expired> {
        let ran = self.launch(request);
        check_deadline(&self.deadline, &self.hook)?;
        Ok(ran)
    }

    fn launch(&mut self, request: Request) -> Result<Completion, CommandError> {
        let Request { program, arguments, stdin } = request;
        let names = Names { object: &self.object, operation: &self.operation };
        let Some(granted) = self.settings.commands.iter().find(|command| command.allows(&program, &arguments, names))
        else {
            return Err(self.refuse(&program, &arguments));
        };
        let path = granted.program.clone();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let call = Call {
            path: &path,
            hook: &self.hook,
            arguments: &arguments,
            stdin,
            env: &[],
            deadline: self.deadline.clone(),
            limits: &self.limits,
            keep_stdout: self.limits.stdout,
        };
        let ended = self.launcher.run(&call).map_err(|why| {
            let why = format!("{} could not be run: {why}", path.display());
            self.note(why.clone());
            CommandError::Failed(why)
        })?;
        for note in &ended.notes {
            self.note(format!("{}: {note}", path.display()));
        }
        match ended.termination {
            Termination::Lost(why) => Err(CommandError::Failed(format!("{} ended unseen: {why}", path.display()))),
            _ => Ok(ended),
        }
    }

    /// Refuses a request that no program could be given.
    pub(super) fn refuse_oversized(&mut self, why: TooLarge) -> CommandError {
        self.note(format!("it asked for a command that cannot be run: {why}"));
        CommandError::Refused(why.to_string())
    }

    fn refuse(&mut self, program: &str, arguments: &[String]) -> CommandError {
        // Quoting takes several times the memory of the arguments.
        if program.len() + arguments.iter().map(String::len).sum::<usize>() > LONGEST_QUOTED {
            self.note(format!(
                "it asked for a command that its settings do not list, too long to show: {} arguments",
                arguments.len()
            ));
            return CommandError::Refused("the hook's settings do not list this command".to_owned());
        }
        let lines = lines_to_grant(Path::new(program), arguments);
        self.note(format!(
            "it asked for a command that its settings do not list; {} could: {lines}",
            self.settings_file.display()
        ));
        CommandError::Refused(format!("the hook's settings do not list this command; to allow it: {lines}"))
    }

    /// Adds a note to the report, unless there are too many.
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < NOTES {
            self.notes.push(shortened(note));
        }
    }
}

/// A guest chooses these texts, so their length is limited.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 1000;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}
