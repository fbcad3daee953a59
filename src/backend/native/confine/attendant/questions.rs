//! Answers the questions of a hook's filter.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use super::super::connect;
use super::super::connection::Connection;
use super::super::datagrams;
use super::super::filter::BROKER_PROTOCOL;
use super::super::kernel::{self, Answer, Question};
use super::super::memory::Memory;
use super::super::performed::Performed;
use super::super::send;
use super::{Attendant, place};
use crate::backend::native::stat::Stat;
use crate::hook::settings::grants::Address;

/// The maximum number of commands of one hook that run at once.
const MOST_COMMANDS: usize = 64;
/// The maximum number of messages of one hook that wait until they can be sent.
const MOST_MESSAGES: usize = 64;
/// Where the C library looks up users and groups before it reads the files itself. Its refusal is not reported.
const NAME_SERVICE: &str = "/var/run/nscd/socket";

impl Attendant<'_> {
    /// Answers the next question.
    pub(super) fn answer(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        // Its process may have ended meanwhile.
        if let Ok(question) = kernel::next_question(listener.as_fd()) {
            match question.number {
                libc::SYS_socket if (question.arguments[2] as u32).cast_signed() == BROKER_PROTOCOL => {
                    self.open_connection(listener.as_fd(), &question);
                }
                libc::SYS_socket => self.create_socket(listener.as_fd(), &question),
                libc::SYS_connect => {
                    let connected =
                        connect::begin(listener.as_fd(), &question, self.trust, |to| self.broker.may_connect(to));
                    self.performed(listener.as_fd(), question.id, connected);
                }
                libc::SYS_sendto | libc::SYS_sendmsg | libc::SYS_sendmmsg => {
                    let sent = send::begin(listener.as_fd(), &question, |to| self.broker.may_connect(to));
                    self.performed(listener.as_fd(), question.id, sent);
                }
                libc::SYS_bind => {
                    let bound = datagrams::bind_any(listener.as_fd(), &question).map(Performed::Done);
                    self.performed(listener.as_fd(), question.id, bound);
                }
                libc::SYS_kill | libc::SYS_tgkill => {
                    let answer = if self.is_own(&question) { Answer::Continue } else { Answer::Error(Errno::EPERM) };
                    kernel::answer(listener.as_fd(), question.id, answer);
                }
                _ => {
                    self.look_at_program(&question);
                    kernel::answer(listener.as_fd(), question.id, Answer::Continue);
                }
            }
        }
        self.listener = Some(listener);
    }

    /// Gives the process a connection for requesting a command.
    fn open_connection(&mut self, listener: BorrowedFd<'_>, question: &Question) {
        let pair = || {
            if self.connections.len() >= MOST_COMMANDS {
                return Err(Errno::EAGAIN);
            }
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
            kernel::answer_with(listener, question.id, theirs.as_fd(), true)?;
            Ok(ours)
        };
        match pair() {
            Ok(socket) => self.connections.push(Connection { socket, waiting: None, command: None }),
            Err(errno) => {
                if errno == Errno::EAGAIN {
                    self.broker.note(format!("it asked for more than {MOST_COMMANDS} commands at once"));
                }
                kernel::answer(listener, question.id, Answer::Error(errno));
            }
        }
    }

    /// Gives the process a UDP socket.
    fn create_socket(&self, listener: BorrowedFd<'_>, question: &Question) {
        let created = datagrams::create(question, self.broker.addresses())
            .and_then(|socket| kernel::answer_with(listener, question.id, socket.as_fd(), datagrams::closes(question)));
        if let Err(errno) = created {
            kernel::answer(listener, question.id, Answer::Error(errno));
        }
    }

    /// Answers with the result of a call, or waits until it can be performed.
    pub(super) fn performed(&mut self, listener: BorrowedFd<'_>, id: u64, result: Result<Performed, Errno>) {
        let messages = self.pending.iter().filter(|pending| pending.call.holds_message()).count();
        let answer = match result {
            Ok(Performed::Done(answer)) => answer,
            Ok(Performed::Later(pending)) if pending.call.holds_message() && messages >= MOST_MESSAGES => {
                Answer::Error(Errno::ENOBUFS)
            }
            Ok(Performed::Later(pending)) => return self.pending.push(pending),
            Ok(Performed::Refused(address)) => {
                if address != Address::Unix(NAME_SERVICE.into()) {
                    self.broker.refuse_connection(&address);
                }
                Answer::Error(Errno::EACCES)
            }
            Err(errno) => Answer::Error(errno),
        };
        kernel::answer(listener, id, answer);
    }

    /// Whether a signal goes to the hook's own process group, if the kernel does not check that.
    fn is_own(&self, question: &Question) -> bool {
        let to = (question.arguments[0] & 0xffff_ffff) as u32;
        let group_of = |process: Pid| Stat::of(process).map(|stat| stat.group);
        let group = match to.cast_signed() {
            0 => group_of(question.thread),
            to @ 1.. => group_of(Pid::from_raw(to)),
            -1 => None,
            to => Some(Pid::from_raw(-to)),
        };
        group == Some(self.group)
    }

    /// Notes a program that the hook executes without a grant. The kernel refuses it in any case.
    fn look_at_program(&mut self, question: &Question) {
        let [path, arguments, ..] = question.arguments;
        let Some(memory) = Memory::of(question.thread) else { return };
        let Some(path) = memory.text(path).map(PathBuf::from) else { return };
        let path = match path.is_absolute() {
            true => path,
            false => match fs::read_link(format!("/proc/{}/cwd", question.thread)) {
                Ok(directory) => directory.join(path),
                Err(_) => return,
            },
        };
        if self.as_granted(&path).is_some() {
            return;
        }
        let Ok(found) = fs::canonicalize(&path) else { return };
        let is_program = fs::metadata(&found).is_ok_and(|f| f.is_file() && f.permissions().mode() & 0o111 != 0);
        let is_own = self.executes.iter().any(|own| fs::canonicalize(own).is_ok_and(|own| own == found));
        if !is_program || is_own {
            return;
        }
        // Another name of a covered program leads to the shim, which makes its own request.
        if self.covered.iter().any(|covered| fs::canonicalize(covered).is_ok_and(|covered| covered == found)) {
            return;
        }
        let arguments = memory.texts(arguments).unwrap_or_default();
        let arguments: Vec<String> =
            arguments.iter().skip(1).map(|argument| OsStr::to_string_lossy(argument).into_owned()).collect();
        self.broker.refuse(&place(&path).unwrap_or(path).to_string_lossy(), &arguments);
    }
}
