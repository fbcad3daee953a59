//! A harness for a hook's unit tests: what the sandbox would give it, made up.
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
//! A hook that is tested so uses [`Command`] for programs, [`granted`](crate::granted) for paths in granted
//! directories and [`setting`](crate::setting) for its variables; in the test they come to the harness. It does not
//! use them from threads of its own.

mod rights;
mod scratch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use self::rights::Rights;
use self::scratch::Scratch;
use crate::{Command, CommandError, Event, ExitStatus, Output, Verdict};

/// The event, the rights and the host of one run of a hook.
///
/// What is not given is not there: no directory, no variable, and every command is refused.
#[derive(Debug)]
#[must_use = "`run` runs the hook"]
pub struct Harness {
    event: Event,
    host: Host,
}

/// What the host is made out to be, and what the hook has done to it.
#[derive(Debug, Default)]
struct Host {
    commands: Vec<(Command, Answer)>,
    settings: BTreeMap<String, String>,
    /// Guest path and host path, the latest first.
    directories: Vec<(PathBuf, PathBuf)>,
    scratch: Scratch,
    /// What the hook's settings file grants. Without one, all that the test gives is granted.
    rights: Option<Rights>,
    /// The files of the test, as they were at first.
    files: Vec<(PathBuf, Vec<u8>)>,
    ran: Vec<Command>,
    #[cfg(feature = "log")]
    log: Vec<(log::Level, String)>,
}

thread_local! {
    /// The host of the hook that runs on this thread in a test.
    static HOST: RefCell<Option<Host>> = const { RefCell::new(None) };
}

impl Harness {
    /// A hook's run on this event.
    pub fn new(event: Event) -> Self {
        Self { event, host: Host::default() }
    }

    /// Answers a command: this program with exactly these arguments, whatever is on its stdin.
    ///
    /// It may be run any number of times. Where the same command is given more than once, the answers are used in that
    /// order, the last one from then on. Every other command is refused.
    pub fn command<A: AsRef<str>>(mut self, program: &str, args: impl IntoIterator<Item = A>, answer: Answer) -> Self {
        let mut command = Command::new(program);
        command.args(args);
        self.host.commands.push((command, answer));
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

    /// Grants a directory with this file in it, in a temporary directory that goes with the run. [`Seen::file`] tells
    /// what became of it.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn file(mut self, guest: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Self {
        self.host.scratch.write(guest.as_ref(), content.as_ref());
        self.host.files.push((guest.as_ref().to_owned(), content.as_ref().to_owned()));
        self
    }

    /// Holds the hook to its own settings file, as the runtime does, so that the test fails where production would:
    /// - A command that no `[[command]]` allows is refused, even if the test has an answer for it.
    /// - A path in no `[[dir]]` does not exist, even if the test grants it.
    /// - A changed [`file`](Self::file) in a directory that is granted for reading alone ends the test.
    /// - The variables of `env` are set. [`setting`](Self::setting) takes precedence.
    ///
    /// A relative path starts at the package's directory, where `cargo test` runs.
    ///
    /// # Panics
    /// The file cannot be read, or is not a settings file.
    #[expect(clippy::panic, reason = "a test whose set-up fails, fails")]
    pub fn settings_file(mut self, path: impl AsRef<Path>) -> Self {
        let [object, operation, ..] = self.event.arguments();
        match Rights::read(path.as_ref(), object, operation) {
            Ok(rights) => self.host.rights = Some(rights),
            Err(why) => panic!("the settings file {}: {why}", path.as_ref().display()),
        }
        self
    }

    /// Runs the hook, and tells what it decided and did.
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
}

impl Seen {
    /// What is now in a file of a granted directory; `None` if it cannot be read as text.
    #[must_use]
    pub fn file(&self, guest: impl AsRef<Path>) -> Option<String> {
        std::fs::read_to_string(place_of(guest.as_ref(), &self.directories, &self.scratch)).ok()
    }

    /// The commands as a person would type them.
    #[must_use]
    pub fn command_lines(&self) -> Vec<String> {
        self.commands.iter().map(Command::to_string).collect()
    }
}

/// What comes of a scripted command.
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

    /// The program may be run, and cannot be.
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
        if let Some(reason) = self.rights.as_ref().and_then(|rights| rights.refusal(command)) {
            return Err(CommandError::Refused { program: command.program().to_owned(), reason });
        }
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
        answer.map_err(|why| CommandError::not_started(command.program(), &why))
    }

    fn place(&self, guest: &Path) -> PathBuf {
        match &self.rights {
            Some(rights) if rights.may_write(guest).is_none() => {
                // Nothing is there, and nothing can be made there.
                self.scratch.place(&Path::new("/.not-granted").join(guest.strip_prefix("/").unwrap_or(guest)))
            }
            _ => place_of(guest, &self.directories, &self.scratch),
        }
    }

    fn setting(&self, name: &str) -> Option<String> {
        let own = || self.rights.as_ref().and_then(|rights| rights.env.get(name));
        self.settings.get(name).or_else(own).cloned()
    }

    /// Ends the test if the hook has changed what it may only read.
    #[expect(clippy::panic, reason = "a hook that does what it may not, fails")]
    fn check_files(&self) {
        let Some(rights) = &self.rights else { return };
        for (guest, content) in &self.files {
            let is_changed = std::fs::read(self.scratch.place(guest)).ok().as_ref() != Some(content);
            if is_changed && rights.may_write(guest) == Some(false) {
                panic!(
                    "the hook changed {}, which {} grants for reading alone",
                    guest.display(),
                    rights.file().display()
                );
            }
        }
    }
}

/// Where a guest path is on the host. One that is not granted is in the scratch directory, where it does not exist.
fn place_of(guest: &Path, directories: &[(PathBuf, PathBuf)], scratch: &Scratch) -> PathBuf {
    let granted = directories.iter().find_map(|(from, to)| Some(to.join(guest.strip_prefix(from).ok()?)));
    granted.unwrap_or_else(|| scratch.place(guest))
}

/// Answers a command if a test's hook runs on this thread.
pub(crate) fn answer(command: &Command) -> Option<Result<Output, CommandError>> {
    HOST.with_borrow_mut(|host| host.as_mut().map(|host| host.answer(command)))
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
mod tests {
    use std::fs;

    use super::*;
    use crate::{granted, setting};

    type Decision = Result<Verdict, Box<dyn Error>>;

    fn harness() -> Harness {
        Harness::new(Event::new("web1", "prepare"))
    }

    #[test]
    fn only_scripted_commands_run() {
        let seen = harness().command("/bin/a", ["x"], Answer::exited(0).with_stdout("yes")).run(|_| {
            let output = Command::new("/bin/a").arg("x").stdin("in").run()?;
            assert_eq!(output.stdout, b"yes");
            assert!(Command::new("/bin/a").run().is_err_and(|error| error.is_refusal()));
            Command::new("/bin/b").args(["x", "two words"]).run()?;
            Ok(Verdict::proceed())
        });
        assert_eq!(
            seen.verdict.message(),
            "this hook may not run /bin/b: the test has no answer for `/bin/b x \"two words\"`"
        );
        assert_eq!(seen.command_lines(), ["/bin/a x", "/bin/a", "/bin/b x \"two words\""]);
        assert_eq!(seen.commands[0].input(), b"in");
    }

    #[test]
    fn answers_come_in_order_and_the_last_one_stays() {
        let args = [""; 0];
        let seen = harness()
            .command("/bin/a", args, Answer::not_started("no such file"))
            .command("/bin/a", args, Answer::ended(ExitStatus::Signaled(9)))
            .command("/bin/a", args, Answer::exited(0))
            .run(|_| {
                let a = || Command::new("/bin/a").run().map_or_else(|error| error.to_string(), |_| "ok".into());
                assert_eq!(a(), "/bin/a could not be run: no such file");
                assert_eq!(a(), "/bin/a was killed by signal 9");
                assert_eq!([a(), a()], ["ok", "ok"]);
                Ok(Verdict::proceed())
            });
        assert_eq!(seen.verdict, Verdict::proceed());
    }

    #[test]
    fn a_granted_file_is_read_and_written_and_no_other() {
        let count = "/sys/kernel/mm/hugepages/nr_hugepages";
        let seen = harness().file(count, "0").run(|_| {
            assert_eq!(fs::read_to_string(granted(count))?, "0");
            fs::write(granted(count), "512")?;
            assert!(fs::read(granted("/etc/hostname")).is_err());
            assert!(fs::read(granted("/sys/kernel/mm/hugepages/../../../../etc/hostname")).is_err());
            Ok(Verdict::proceed())
        });
        assert_eq!((seen.verdict.is_veto(), seen.file(count).as_deref()), (false, Some("512")));
        assert_eq!(seen.file("/etc/hostname"), None);
    }

    #[test]
    fn a_directory_of_the_test_can_be_granted() -> std::io::Result<()> {
        let own = Scratch::default();
        own.write(Path::new("/state"), b"kept");
        let seen = harness().dir("/run/hook", own.place(Path::new("/"))).run(|_| {
            fs::rename(granted("/run/hook/state"), granted("/run/hook/new"))?;
            Ok(Verdict::proceed())
        });
        assert_eq!(seen.file("/run/hook/new").as_deref(), Some("kept"));
        assert_eq!(fs::read(own.place(Path::new("/new")))?, b"kept");
        Ok(())
    }

    #[test]
    fn settings_are_those_of_the_test() {
        let decide = |_: &Event| -> Decision { Ok(Verdict::veto(setting("PATH").ok_or("not set")?)) };
        assert_eq!(harness().run(decide).verdict, Verdict::veto("not set"));
        assert_eq!(harness().setting("PATH", "strict").run(decide).verdict, Verdict::veto("strict"));
        assert!(setting("PATH").is_some_and(|path| path != "strict"));
    }

    #[test]
    fn the_hooks_own_settings_hold_it_as_in_production() {
        let own = Scratch::default();
        let settings =
            "env = { MODE = 'strict' }\n[[dir]]\nhost = '/sys/a'\n[[command]]\nprogram = '/bin/a'\nargs = ['{object}']";
        own.write(Path::new("/own.toml"), settings.as_bytes());
        let held = || {
            let held = harness().settings_file(own.place(Path::new("/own.toml")));
            held.file("/sys/a/x", "1").file("/sys/b/x", "2").command("/bin/a", ["web2"], Answer::exited(0))
        };
        let seen = held().command("/bin/a", ["web1"], Answer::exited(0)).run(|event| {
            assert_eq!(setting("MODE").as_deref(), Some("strict"));
            Command::new("/bin/a").arg(event.object()).run()?;
            assert!(Command::new("/bin/a").arg("web2").run().is_err_and(|error| error.is_refusal()));
            assert_eq!(fs::read(granted("/sys/a/x"))?, b"1");
            assert!(fs::read(granted("/sys/b/x")).is_err() && fs::write(granted("/sys/b/y"), "").is_err());
            Ok(Verdict::proceed())
        });
        assert_eq!(seen.verdict, Verdict::proceed());
        let writes = || held().run(|_| Ok(fs::write(granted("/sys/a/x"), "3").map(|()| Verdict::proceed())?));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(writes)).is_err(), "it may only read there");
    }

    #[test]
    fn what_is_logged_is_seen() {
        let seen = harness().run(|event| {
            log::warn!("{} is slow", event.object());
            log::info!("done");
            Ok(Verdict::proceed())
        });
        assert_eq!(seen.log, [(log::Level::Warn, "web1 is slow".into()), (log::Level::Info, "done".into())]);
    }

    #[test]
    fn nothing_stays_on_stage_after_a_panic() {
        let panicked = std::panic::catch_unwind(|| harness().run(|_| std::panic::resume_unwind(Box::new(()))));
        assert!(panicked.is_err());
        assert!(place(Path::new("/")).is_none());
    }
}
