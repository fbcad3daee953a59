//! Serves a running confined hook: answers its filter's questions, and runs its commands.
//!
//! Part of the hook's poll loop, so it never blocks. Whatever a hook sends, it gets only what its settings grant.

mod questions;

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::connection::{Connection, END_WAIT, REAP_WAIT, Running, Waiting};
use super::performed::Pending;
use super::request::{self, Message, Reply, Request};
use super::sealed::sealed_file;
use crate::backend::broker::{Broker, Granted};
use crate::backend::native::detach::Detached;
use crate::backend::native::guard::GuardedGroup;
use crate::backend::native::process::Child;
use crate::hook::error::LaunchError;
use crate::hook::settings::grants::LONGEST_STDIN;
use crate::hook::trust::Trust;
use crate::report::termination::Termination;

/// Starts a command outside the hook's confinement.
pub(crate) trait StartCommand {
    fn start_command(&self, command: CommandStart<'_>) -> Result<(Child, Option<GuardedGroup>), LaunchError>;

    /// Starts a detached command.
    fn leave(&self, command: &Detached<'_>) -> Result<(), LaunchError>;
}

/// What a granted command starts with.
pub(crate) struct CommandStart<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) directory: &'a CStr,
    pub(crate) streams: [OwnedFd; 3],
}

pub(crate) struct Attendant<'a> {
    /// `None` after the last process of the hook has ended.
    listener: Option<OwnedFd>,
    starter: &'a dyn StartCommand,
    broker: Broker,
    /// The time between SIGTERM and SIGKILL for a detached command.
    grace: Duration,
    /// The covered programs, as named in the settings.
    covered: Vec<PathBuf>,
    /// The files that the hook may execute itself.
    executes: Vec<PathBuf>,
    trust: Trust,
    /// The hook's process group, which it may signal.
    group: Pid,
    connections: Vec<Connection>,
    pending: Vec<Pending>,
}

/// The means to serve a hook.
pub(crate) struct Service<'a> {
    pub(crate) listener: OwnedFd,
    pub(crate) starter: &'a dyn StartCommand,
    pub(crate) broker: Broker,
    pub(crate) grace: Duration,
    pub(crate) covered: Vec<PathBuf>,
    pub(crate) executes: Vec<PathBuf>,
    pub(crate) trust: Trust,
    pub(crate) group: Pid,
}

/// Waits until all of them have ended, for [`END_WAIT`] at most.
fn wait_for_ends(commands: &[&mut Running]) {
    let until = Instant::now() + END_WAIT;
    for command in commands {
        command.child.process().wait_for_end(until.saturating_duration_since(Instant::now()));
    }
}

impl<'a> Attendant<'a> {
    pub(crate) fn new(service: Service<'a>) -> Self {
        let Service { listener, starter, broker, grace, covered, executes, trust, group } = service;
        let listener = Some(listener);
        let (connections, pending) = (Vec::new(), Vec::new());
        Self { listener, starter, broker, grace, covered, executes, trust, group, connections, pending }
    }

    /// The descriptors to poll.
    pub(crate) fn poll_fds(&self) -> Vec<PollFd<'_>> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> = self.listener.iter().map(|listener| readable(listener.as_fd())).collect();
        for connection in &self.connections {
            fds.push(readable(connection.socket.as_fd()));
            fds.extend(connection.command.iter().map(|command| readable(command.child.process().pidfd())));
        }
        fds.extend(self.pending.iter().map(|pending| pending.call.waits_for()));
        fds
    }

    /// Handles the descriptors of [`poll_fds`](Self::poll_fds) that are ready, according to `ready`.
    pub(crate) fn serve(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter().copied();
        let asked = self.listener.as_ref().and_then(|_| ready.next()).unwrap_or(PollFlags::empty());
        // Ended connections are removed, and new ones are not polled yet.
        let connections = std::mem::take(&mut self.connections);
        for mut connection in connections {
            let said = ready.next().unwrap_or(PollFlags::empty());
            let ended = connection.command.as_ref().and_then(|_| ready.next()).unwrap_or(PollFlags::empty());
            let mut keep = true;
            if !ended.is_empty() {
                connection.ended();
                keep = false;
            } else if !said.is_empty() {
                keep = self.listen(&mut connection);
            }
            if keep {
                self.connections.push(connection);
            } else {
                connection.end();
            }
        }
        for pending in std::mem::take(&mut self.pending) {
            match (ready.next(), self.listener.take()) {
                (Some(ready), Some(listener)) if !ready.is_empty() => {
                    let Pending { id, call } = pending;
                    self.performed(listener.as_fd(), id, Ok(call.finish(id)));
                    self.listener = Some(listener);
                }
                (_, listener) => {
                    self.listener = listener;
                    self.pending.push(pending);
                }
            }
        }
        if asked.contains(PollFlags::POLLIN) {
            self.answer();
        } else if !asked.is_empty() {
            self.listener = None;
        }
    }

    /// Whether no command is running.
    pub(crate) fn is_idle(&self) -> bool {
        self.connections.iter().all(|connection| connection.command.is_none())
    }

    /// Signals the commands.
    pub(crate) fn signal(&self, signal: Signal) {
        for command in self.connections.iter().filter_map(|connection| connection.command.as_ref()) {
            command.child.process().signal_group(signal);
        }
    }

    /// Ends the commands that are still running after the hook. Returns notes for the report.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.signal(Signal::SIGTERM);
        let mut connections = std::mem::take(&mut self.connections);
        let mut commands: Vec<_> =
            connections.iter_mut().filter_map(|connection| connection.command.as_mut()).collect();
        // Together, so that the time does not grow with their number.
        wait_for_ends(&commands);
        for command in &commands {
            let program = command.program.display();
            self.broker.note(format!("{program} was still running when the hook ended, so hookvisor stopped it"));
            if !command.child.process().wait_for_end(Duration::ZERO) {
                command.child.process().signal_group(Signal::SIGKILL);
            }
        }
        wait_for_ends(&commands);
        let until = Instant::now() + REAP_WAIT;
        for command in &mut commands {
            command.guard = None;
            command.child.reap(until.saturating_duration_since(Instant::now()));
        }
        self.broker.into_notes()
    }

    /// Handles one message. Returns whether the connection continues.
    fn listen(&mut self, connection: &mut Connection) -> bool {
        let message = request::receive(connection.socket.as_fd(), connection.waiting.is_some());
        match (message, &connection.command) {
            (Message::Nothing, _) => true,
            (Message::Run(request), None) => self.run(connection, request),
            (Message::Stdin(piece), None) => self.take_stdin(connection, piece),
            (Message::Signal(signal), None) if connection.waiting.is_some() => {
                let ended = Termination::Signaled { signal: signal as i32, name: signal.as_str().to_owned() };
                request::reply(connection.socket.as_fd(), &Reply::Ended(&ended));
                false
            }
            (Message::Signal(signal), Some(command)) => {
                command.child.process().signal_group(signal);
                true
            }
            // Nobody waits for the command any more.
            (Message::End, _) => false,
            (Message::Run(_) | Message::Stdin(_) | Message::Signal(_) | Message::Unclear, _) => {
                self.broker.note("it sent something other than a command to hookvisor's socket".to_owned());
                request::reply(
                    connection.socket.as_fd(),
                    &Reply::Failed(126, "this command cannot be run: its arguments are not UTF-8, or are too long"),
                );
                false
            }
        }
    }

    /// Starts a command if it is granted, or asks for its standard input if the grant depends on it. Returns whether
    /// the connection continues.
    fn run(&mut self, connection: &mut Connection, mut request: Request) -> bool {
        request.program = self.as_granted(&request.program).unwrap_or(request.program);
        match self.broker.decide(&request.program.to_string_lossy(), &request.arguments) {
            Ok(Granted { checks_stdin: true, .. }) => {
                connection.waiting = Some(Waiting { request, stdin: Vec::new() });
                request::reply(connection.socket.as_fd(), &Reply::SendStdin)
            }
            Ok(granted) => self.start(connection, granted, request),
            Err(why) => {
                request::reply(connection.socket.as_fd(), &Reply::Failed(126, &why));
                false
            }
        }
    }

    /// Takes a piece of a command's standard input. After the last one, starts the command if the grant allows this
    /// input. Returns whether the connection continues.
    fn take_stdin(&mut self, connection: &mut Connection, piece: Vec<u8>) -> bool {
        let Some(mut waiting) = connection.waiting.take() else { return false };
        let is_whole = piece.is_empty();
        waiting.stdin.extend(piece);
        if !is_whole && waiting.stdin.len() <= LONGEST_STDIN {
            connection.waiting = Some(waiting);
            return true;
        }
        let Waiting { mut request, stdin } = waiting;
        let name = request.program.to_string_lossy().into_owned();
        let decided = self.broker.decide_with(&name, &request.arguments, &stdin).map_err(|why| (126, why));
        let kept = decided.and_then(|granted| match sealed_file(&stdin) {
            Ok(file) => Ok((granted, file)),
            Err(error) => Err((125, format!("the stdin of {name} could not be stored: {error}"))),
        });
        match kept {
            Ok((granted, file)) => {
                request.streams[0] = file;
                self.start(connection, granted, request)
            }
            Err((status, why)) => {
                request::reply(connection.socket.as_fd(), &Reply::Failed(status, &why));
                false
            }
        }
    }

    fn start(&mut self, connection: &mut Connection, granted: Granted, request: Request) -> bool {
        let Granted { program, detach, .. } = granted;
        let Request { directory, arguments, streams, .. } = request;
        let socket = connection.socket.as_fd();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(time) = detach {
            let grace = self.grace;
            let command = Detached { program: &program, arguments: &arguments, directory: &directory, time, grace };
            if let Err(why) = self.starter.leave(&command) {
                return self.not_run(socket, &program, &why);
            }
            self.broker.note_left(&program, time);
            request::reply(socket, &Reply::Ended(&Termination::Exited(0)));
            return false;
        }
        let command = CommandStart { program: &program, arguments: &arguments, directory: &directory, streams };
        match self.starter.start_command(command) {
            Ok((child, guard)) => {
                connection.command = Some(Running { guard, child, program });
                // A shim that has ended meanwhile is noticed at the next look at its connection.
                request::reply(socket, &Reply::Running);
                true
            }
            Err(why) => self.not_run(socket, &program, &why),
        }
    }

    fn not_run(&mut self, socket: BorrowedFd<'_>, program: &Path, error: &LaunchError) -> bool {
        let why = format!("{} could not be run: {error}", program.display());
        request::reply(socket, &Reply::Failed(error.exit_status(), &why));
        self.broker.note(why);
        false
    }

    /// The settings' name for a program that was executed by this path: `/sbin/nft` is `/usr/sbin/nft` if one directory
    /// is a link to the other.
    fn as_granted(&self, executed: &Path) -> Option<PathBuf> {
        if self.covered.iter().any(|covered| covered == executed) {
            return Some(executed.to_owned());
        }
        let wanted = place(executed)?;
        self.covered.iter().find(|covered| place(covered).as_ref() == Some(&wanted)).cloned()
    }
}

/// A path whose directory contains no link.
fn place(path: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?))
}
