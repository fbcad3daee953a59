//! The example daemon, and clients of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Hooks;
use super::processes::wait_until;

/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program, built when first needed.
fn program() -> &'static Path {
    static PROGRAM: LazyLock<PathBuf> = LazyLock::new(|| {
        let built_to = Path::new(env!("CARGO_BIN_EXE_hookvisor")).parent().unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--example", "daemon"]);
        cargo.arg("--target-dir").arg(built_to.parent().unwrap());
        if built_to.ends_with("release") {
            cargo.arg("--release");
        }
        if cfg!(not(feature = "wasm")) {
            cargo.arg("--no-default-features");
        }
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        built_to.join("examples/daemon")
    });
    &PROGRAM
}

pub(crate) struct Daemon {
    pub(crate) process: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, and waits until it accepts clients. Its socket and its log are in the hooks directory.
    pub(crate) fn of(hooks: &Hooks, options: &[&str]) -> Self {
        let daemon = Self::spawn(hooks, options);
        wait_until("the daemon's socket", || UnixStream::connect(&daemon.socket).is_ok());
        daemon
    }

    pub(crate) fn spawn(hooks: &Hooks, options: &[&str]) -> Self {
        let [socket, log] = ["socket", "log"].map(|name| hooks.path().join(name));
        let mut command = Command::new(program());
        command.arg("--hooks").arg(hooks.path()).arg("--socket").arg(&socket).args(options);
        command.stderr(File::create(&log).unwrap()).stdout(Stdio::null()).env_remove("RUST_BACKTRACE");
        Self { process: command.spawn().unwrap(), socket, log }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn wait_for_log(&self, words: &str) {
        wait_until(words, || self.log().contains(words));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
    }

    /// How it ended, once it has.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon's end", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn has_socket(&self) -> bool {
        self.socket.exists()
    }

    pub(crate) fn client(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// Sends one command as a new client, and returns the answer.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut client = self.client();
        client.write(format!("{command}\n").as_bytes());
        client.answer()
    }

    /// Starts a guest, and returns its process.
    pub(crate) fn start(&self, name: &str, program: &str) -> String {
        let answer = self.ask(&format!("start {name} {program}"));
        let pid = answer.strip_prefix(&format!("ok {name} runs as process "));
        pid.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The program's own client: its status and output.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> (bool, String) {
        let client = Command::new(program()).args(["ctl", "--socket"]).arg(&self.socket).args(arguments).output();
        let output = client.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap().trim_end().to_owned())
    }
}

impl Drop for Daemon {
    /// Also after a failed test, so that nothing remains.
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// Whether the daemon answers.
    pub(crate) fn is_taken(&mut self) -> bool {
        self.0.get_mut().write_all(b"list\n").is_ok() && !self.answer().is_empty()
    }

    /// The next answer, without the empty line at its end; a part of it if the daemon has hung up.
    pub(crate) fn answer(&mut self) -> String {
        let mut answer = String::new();
        while self.0.read_line(&mut answer).unwrap_or_default() > 1 {}
        answer.trim_end().to_owned()
    }
}
