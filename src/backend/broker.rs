//! Decides which commands a hook may run: only those that its settings list. Both kinds of hooks ask here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Call;
use crate::hook::settings::Settings;
use crate::hook::settings::grants::{Address, CommandGrant, Names, Refusal, lines_to_grant};

/// The maximum number of notes in one report.
const NOTES: usize = 10;
/// The maximum number of detached commands of one call.
const MOST_LEFT: usize = 16;
/// The shown length of a refused command, in bytes.
const LONGEST_QUOTED: usize = 1000;

/// The grants of one call.
pub(crate) struct Broker {
    settings: Arc<Settings>,
    settings_file: Arc<Path>,
    object: String,
    operation: String,
    notes: Vec<String>,
    /// The number of detached commands.
    left: usize,
}

/// A granted command.
pub(crate) struct Granted {
    pub(crate) program: PathBuf,
    /// Whether the decision also depends on its standard input.
    pub(crate) checks_stdin: bool,
    /// It is detached, with this timeout.
    pub(crate) detach: Option<Duration>,
}

impl Granted {
    fn by(grant: &CommandGrant) -> Self {
        Self { program: grant.program.clone(), checks_stdin: grant.stdin.is_some(), detach: grant.detach }
    }
}

impl Broker {
    pub(crate) fn new(settings: Arc<Settings>, settings_file: Arc<Path>, call: &Call<'_>) -> Self {
        let Names { object, operation } = call.names();
        let (object, operation) = (object.to_owned(), operation.to_owned());
        Self { settings, settings_file, object, operation, notes: Vec::new(), left: 0 }
    }

    /// Decides about a command before its standard input is known.
    pub(crate) fn decide(&mut self, program: &str, arguments: &[String]) -> Result<Granted, String> {
        let granted = self.matching(program, arguments).next().map(Granted::by);
        match granted {
            Some(granted) => self.count(granted),
            None => Err(self.refuse(program, arguments)),
        }
    }

    /// Decides about a command with its standard input. The first grant that allows everything applies.
    pub(crate) fn decide_with(&mut self, program: &str, arguments: &[String], stdin: &[u8]) -> Result<Granted, String> {
        let (mut granted, mut refusal) = (None, None);
        for grant in self.matching(program, arguments) {
            match grant.stdin.as_ref().map_or(Ok(()), |rule| rule.check(stdin)) {
                Ok(()) => {
                    granted = Some(Granted::by(grant));
                    break;
                }
                Err(refused) => {
                    refusal.get_or_insert((grant.program.clone(), refused));
                }
            }
        }
        match (granted, refusal) {
            (Some(granted), _) => self.count(granted),
            (None, Some((program, refused))) => Err(self.refuse_stdin(&program, refused)),
            (None, None) => Err(self.refuse(program, arguments)),
        }
    }

    /// Refuses more detached commands than one call may start.
    fn count(&mut self, granted: Granted) -> Result<Granted, String> {
        self.left += usize::from(granted.detach.is_some());
        if granted.detach.is_some() && self.left > MOST_LEFT {
            self.note(format!("it asked for more than {MOST_LEFT} detached commands"));
            return Err(format!("one call of a hook may start {MOST_LEFT} detached commands"));
        }
        Ok(granted)
    }

    /// Adds a note about a detached command.
    pub(crate) fn note_left(&mut self, program: &Path, time: Duration) {
        let time = humantime::format_duration(time);
        self.note(format!("it left {} running for up to {time} (`detach`)", program.display()));
    }

    /// The grants that allow a program with these arguments.
    fn matching<'a>(&'a self, program: &'a str, arguments: &'a [String]) -> impl Iterator<Item = &'a CommandGrant> {
        let names = Names { object: &self.object, operation: &self.operation };
        self.settings.commands.iter().filter(move |command| command.allows(program, arguments, names))
    }

    /// Adds a note about a command that was refused because of its standard input. Returns the text for the hook.
    fn refuse_stdin(&mut self, program: &Path, refused: Refusal) -> String {
        let (program, file) = (program.display(), self.settings_file.display());
        let how = refused.line.map(|line| format!("; to allow it, write in {file}:{line}")).unwrap_or_default();
        self.note(format!("`stdin` in {file} does not allow the stdin that it gave {program}: {}{how}", refused.why));
        "the hook's settings do not allow this stdin for the command (the report says why)".to_owned()
    }

    /// Adds a note about a refused command. Returns the text for the hook.
    pub(crate) fn refuse(&mut self, program: &str, arguments: &[String]) -> String {
        // Quoting takes several times the memory of the arguments.
        if program.len() + arguments.iter().map(String::len).sum::<usize>() > LONGEST_QUOTED {
            self.note(format!(
                "it asked for a command that its settings do not list, too long to show: {} arguments",
                arguments.len()
            ));
            return "the hook's settings do not list this command".to_owned();
        }
        let lines = lines_to_grant(Path::new(program), arguments);
        let file = self.settings_file.display();
        self.note(format!("it asked for a command that its settings do not list; to allow it, add to {file}:{lines}"));
        "the hook's settings do not list this command (the report says how to allow it)".to_owned()
    }

    /// The addresses that the settings grant.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.settings.connections.iter().map(|granted| &granted.to)
    }

    /// Whether the settings grant a connection.
    pub(crate) fn may_connect(&self, to: &Address) -> bool {
        self.addresses().any(|granted| granted.is(to))
    }

    /// Adds a note about a refused connection.
    pub(crate) fn refuse_connection(&mut self, to: &Address) {
        let file = self.settings_file.display();
        self.note(format!("it was refused a connection to {to}; to allow it, add to {file}:{}", to.lines_to_grant()));
    }

    /// Adds a note to the report, unless it is already there or there are too many.
    pub(crate) fn note(&mut self, note: String) {
        let note = shortened(note);
        if self.notes.len() < NOTES && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    pub(crate) fn into_notes(self) -> Vec<String> {
        self.notes
    }
}

/// Hooks choose these texts, so their length is limited.
fn shortened(mut text: String) -> String {
    const LONGEST: usize = 1000;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|&at| text.is_char_boundary(at)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}
