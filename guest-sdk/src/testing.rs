//! A harness for a hook's unit tests. It simulates the sandbox and the host.
//!
//! ```
//! use hookvisor_guest::testing::{Answer, Harness};
//! use hookvisor_guest::{Command, Event, Operation, Verdict};
//! use std::error::Error;
//!
//! fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
//!     Command::new("/usr/bin/systemctl").args(["start", &format!("backup@{}", event.object())]).run()?;
//!     Ok(Verdict::proceed())
//! }
//!
//! let seen = Harness::new(Event::new("web1", Operation::Started))
//!     .command("/usr/bin/systemctl", ["start", "backup@web1"], Answer::exited(5).with_stderr("no such unit"))
//!     .run(decide);
//! assert_eq!(seen.verdict, Verdict::veto("/usr/bin/systemctl exited with 5: no such unit"));
//! ```
//!
//! The harness sees what the hook does through [`Command`] (programs), [`UnixStream`](crate::UnixStream) (Unix sockets),
//! [`granted`](crate::granted) (paths in granted directories) and [`setting`](crate::setting) (variables), on the thread that
//! runs the hook. It does not see other threads.

mod rights;
mod scratch;
mod sockets;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use self::rights::{Granted, Rights, STATE};
use self::scratch::Scratch;
pub(crate) use self::sockets::Peer;
use self::sockets::Sockets;
use crate::{Command, CommandError, Event, ExitStatus, Output, Verdict};

/// The event, the rights and the host of one run of a hook.
///
/// By default, there is no directory and no variable, and every command and connection is refused.
#[derive(Debug)]
#[must_use = "`run` runs the hook"]
pub struct Harness {
    event: Event,
    host: Host,
}

/// The simulated host, and what the hook has done to it.
#[derive(Debug, Default)]
struct Host {
    commands: Vec<(Command, Answer)>,
    settings: BTreeMap<String, String>,
    /// Guest path and host path, the latest first.
    directories: Vec<(PathBuf, PathBuf)>,
    scratch: Scratch,
    /// What the hook's settings file grants. Without one, everything that the test provides is granted.
    rights: Option<Rights>,
    /// The files of the test, with their original content.
    files: Vec<(PathBuf, Vec<u8>)>,
    ran: Vec<Command>,
    sockets: Sockets,
    #[cfg(feature = "log")]
    log: Vec<(log::Level, String)>,
}

thread_local! {
    /// The host of the hook that runs on this thread in a test.
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

impl Harness {
    /// Prepares a run of a hook for this event.
    pub fn new(event: Event) -> Self {
        Self { event, host: Host::default() }
    }

    /// Sets the answer to a command: this program with exactly these arguments, and any stdin.
    ///
    /// The hook may run it any number of times. If the same command is added more than once, the answers are used in that
    /// order, and the last one is repeated. Every other command is refused.
    pub fn command<A: AsRef<str>>(mut self, program: &str, args: impl IntoIterator<Item = A>, answer: Answer) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        self.host.commands.push((command, answer));
        self
    }

    /// Lets the hook connect to the Unix socket at this path, any number of times. Each connection reads this answer, and then
    /// its end. [`Seen::sent`] returns what the hook wrote. Every other connection is refused.
    pub fn socket(mut self, path: &str, answer: impl Into<Vec<u8>>) -> Self {
        self.host.sockets.add(path, answer.into());
        self
    }

    /// Sets a variable that the hook reads with [`setting`](crate::setting).
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.host.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Grants a directory: what the hook opens below `guest` by [`granted`](crate::granted) is found below `host`.
    pub fn dir(mut self, guest: impl Into<PathBuf>, host: impl Into<PathBuf>) -> Self {
        self.host.directories.insert(0, (guest.into(), host.into()));
        self
    }

    /// Grants a directory with this file in it, in a temporary directory. [`Seen::file`] returns the file's content after the
    /// run.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn file(mut self, guest: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        self.host.scratch.write(guest.as_ref(), content.as_ref());
        self.host.files.push((guest.as_ref().to_owned(), content.as_ref().to_owned()));
        self
    }

    /// Holds the hook to its own settings file, as the runtime does, so that the test fails where production would:
    /// - A command that no `[[command]]` allows is refused, even if the test has an answer for it. Its `stdin` is checked. A
    ///   command with `detach = true` exits with 0 and has no output, whatever the test's answer.
    /// - A connection to a Unix socket that no `[[connect]]` lists is refused, even if the test has an answer for it.
    /// - A path in no `[[dir]]` does not exist, even if the test grants it.
    /// - A changed [`file`](Self::file) that may only be read ends the test.
    /// - The variables of `env` are set, and no others. [`setting`](Self::setting) takes precedence. If there is an `env_file`,
    ///   [`setting`](Self::setting) can set more: the file itself is not read.
    /// - `[[secret]]`: its variable has a path at which the hook reads what the test gives for the secret's `file` by
    ///   [`file`](Self::file).
    /// - `state = true`: `HOOKVISOR_STATE` has the path of an empty directory that the hook may write.
    ///
    /// The other keys have no effect in a test: a hook is run for every event, without limits, and connects to any
    /// address and port.
    /// `hookvisor check` finds mistakes in them.
    ///
    /// A relative path starts at the package's directory, where `cargo test` runs.
    ///
    /// # Panics
    /// The file cannot be read, or is not a settings file.
    #[expect(clippy::panic, reason = "a test whose set-up fails, fails")]
    pub fn settings_file(mut self, path: impl AsRef<Path>) -> Self {
        let [object, operation, ..] = self.event.arguments();
        match Rights::read(path.as_ref(), object, operation) {
            Ok(rights) => {
                if rights.has_state {
                    self.host.scratch.make(Path::new(STATE.1));
                }
                self.host.rights = Some(rights);
            }
            Err(why) => panic!("the settings file {}: {why}", path.as_ref().display()),
        }
        self
    }

    /// Runs the hook, and returns what it decided and did.
    pub fn run(self, decide: impl FnOnce(&Event) -> Result<Verdict, Box<dyn Error>>) -> Seen {
        #[cfg(feature = "log")]
        crate::log_to_runtime();
        let on_stage = OnStage::new(self.host);
        let verdict = decide(&self.event).into();
        let host = on_stage.leave();
        host.check_files();
        Seen {
            verdict,
            commands: host.ran,
            sockets: host.sockets,
            #[cfg(feature = "log")]
            log: host.log,
            directories: host.directories,
            scratch: host.scratch,
        }
    }
}

/// Holds the thread's host in place, and removes it even if the hook panics.
struct OnStage {
    before: Option<Host>,
}

impl OnStage {
    fn new(host: Host) -> Self {
        Self { before: HOST.replace(Some(host)) }
    }

    fn leave(mut self) -> Host {
        HOST.replace(self.before.take()).unwrap_or_default()
    }
}

impl Drop for OnStage {
    fn drop(&mut self) {
        HOST.set(self.before.take());
    }
}

/// What a hook decided, and what it did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Seen {
    /// Its verdict; an error is a veto.
    pub verdict: Verdict,
    /// The commands that it ran or tried to run, in order.
    pub commands: Vec<Command>,
    /// What it logged, in order, whatever the level.
    #[cfg(feature = "log")]
    pub log: Vec<(log::Level, String)>,
    directories: Vec<(PathBuf, PathBuf)>,
    scratch: Scratch,
    sockets: Sockets,
}

impl Seen {
    /// The content of a file in a granted directory after the run; `None` if it cannot be read as text.
    #[must_use]
    pub fn file(&self, guest: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(place_of(guest.as_ref(), &self.directories, &self.scratch)).ok()
    }

    /// What the hook wrote to the Unix socket at this path, over all its connections; `None` if it did not connect.
    #[must_use]
    pub fn sent(&self, path: &str) -> Option<Vec<u8>> {
        self.sockets.sent(path)
    }

    /// The commands as a person would type them.
    #[must_use]
    pub fn command_lines(&self) -> Vec<String> {
        self.commands.iter().map(Command::to_string).collect()
    }
}

/// The result of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an answer belongs to a command of the harness"]
pub struct Answer(Result<Output, String>);

impl Answer {
    /// The program exits with this status.
    pub fn exited(status: u8) -> Self {
        Self::ended(ExitStatus::Exited(status))
    }

    /// The program ends in this way.
    pub fn ended(status: ExitStatus) -> Self {
        Self(Ok(Output::new(status, Vec::new(), Vec::new())))
    }

    /// The command is allowed, but the program cannot be started.
    pub fn not_started(reason: impl Into<String>) -> Self {
        Self(Err(reason.into()))
    }

    /// The program writes this to stdout.
    pub fn with_stdout(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Ok(output) = &mut self.0 {
            output.stdout = bytes.into();
        }
        self
    }

    /// The program writes this to stderr.
    pub fn with_stderr(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        if let Ok(output) = &mut self.0 {
            output.stderr = bytes.into();
        }
        self
    }
}

impl Host {
    fn answer(&mut self, command: &Command) -> Result<Output, CommandError> {
        self.ran.push(command.clone());
        let granted = self.rights.as_ref().map_or(Ok(Granted::Awaited), |rights| rights.decide(command));
        let granted =
            granted.map_err(|reason| CommandError::Refused { program: command.program().to_owned(), reason })?;
        let same = |(scripted, _): &(Command, Answer)| {
            (scripted.program(), scripted.arguments()) == (command.program(), command.arguments())
        };
        let mut matching = self.commands.iter().enumerate().filter(|(_, scripted)| same(scripted));
        let Some((at, (_, answer))) = matching.next() else {
            let reason = format!("the test has no answer for `{command}`");
            return Err(CommandError::Refused { program: command.program().to_owned(), reason });
        };
        let answer = answer.0.clone();
        if matching.next().is_some() {
            let _used = self.commands.remove(at);
        }
        let output = answer.map_err(|why| CommandError::not_started(command.program(), &why))?;
        Ok(match granted {
            Granted::Awaited => output,
            Granted::Detached => Output::new(ExitStatus::Exited(0), Vec::new(), Vec::new()),
        })
    }

    fn place(&self, guest: &Path) -> PathBuf {
        let secret = self.rights.as_ref().and_then(|rights| rights.secret(guest));
        match &self.rights {
            Some(rights) if secret.is_none() && rights.may_write(guest).is_none() => {
                // A directory that does not exist, so that nothing can be read or created in it.
                self.scratch.place(&Path::new("/.not-granted").join(guest.strip_prefix("/").unwrap_or(guest)))
            }
            _ => place_of(secret.unwrap_or(guest), &self.directories, &self.scratch),
        }
    }

    fn setting(&self, name: &str) -> Option<String> {
        let of_test = self.settings.get(name);
        match &self.rights {
            Some(rights) => rights.variable(name, of_test),
            None => of_test.cloned(),
        }
    }

    /// Ends the test if the hook has changed what it may only read.
    #[expect(clippy::panic, reason = "a hook that does what it may not, fails")]
    fn check_files(&self) {
        let Some(rights) = &self.rights else { return };
        for (guest, content) in &self.files {
            let is_changed = std::fs::read(self.scratch.place(guest)).ok().as_ref() != Some(content);
            if is_changed && rights.is_read_only(guest) {
                panic!(
                    "the hook changed {}, which {} grants for reading alone",
                    guest.display(),
                    rights.file().display()
                );
            }
        }
    }
}

/// The host path of a guest path. A path that is not granted is below the scratch directory, where it does not exist.
fn place_of(guest: &Path, directories: &[(PathBuf, PathBuf)], scratch: &Scratch) -> PathBuf {
    let granted = directories.iter().find_map(|(from, to)| Some(to.join(guest.strip_prefix(from).ok()?)));
    granted.unwrap_or_else(|| scratch.place(guest))
}

/// Answers a command if a test's hook runs on this thread.
pub(crate) fn answer(command: &Command) -> Option<Result<Output, CommandError>> {
    HOST.with_borrow_mut(|host| host.as_mut().map(|host| host.answer(command)))
}

/// Connects to a socket if a test's hook runs on this thread. The error is why it is refused.
pub(crate) fn connect(path: &str) -> Option<Result<Peer, String>> {
    HOST.with_borrow_mut(|host| host.as_mut().map(|host| host.sockets.connect(path, host.rights.as_ref())))
}

/// The place of a path if a test's hook runs on this thread.
pub(crate) fn place(guest: &Path) -> Option<PathBuf> {
    HOST.with_borrow(|host| host.as_ref().map(|host| host.place(guest)))
}

/// A variable, or that it is not set, if a test's hook runs on this thread.
pub(crate) fn setting(name: &str) -> Option<Option<String>> {
    HOST.with_borrow(|host| host.as_ref().map(|host| host.setting(name)))
}

/// Keeps a line if a test's hook runs on this thread.
#[cfg(feature = "log")]
pub(crate) fn logged(level: log::Level, message: &str) -> bool {
    HOST.with_borrow_mut(|host| host.as_mut().map(|host| host.log.push((level, message.to_owned()))).is_some())
}

#[cfg(test)]
mod tests;
