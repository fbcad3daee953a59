//! The keeper of a detached command. It starts the command, waits until the command and everything it started have
//! ended, and kills the rest when the time is up. It does not need the runtime, which may have ended long before.
//!
//! Arguments: the milliseconds until SIGTERM, the milliseconds from SIGTERM to SIGKILL, the program, its arguments.
//! Standard output is a pipe. If the command cannot be executed, the keeper writes the errno to it as four bytes. Then
//! it closes the pipe.

use core::ffi::CStr;

use super::sys::{O_CLOEXEC, O_RDWR, SIG_BLOCK, SIG_SETMASK, call, exit, number};

/// The path by which the runtime executes this program as the keeper.
pub const EXECUTED_AS: &CStr = c"/proc/self/fd/0";

const STATUS: usize = 4;
const NULL: usize = 3;
const SIGKILL: usize = 9;
const SIGTERM: usize = 15;
const SIGCHLD: usize = 17;
const SIGCONT: usize = 18;
const PR_SET_NAME: usize = 15;
const PR_SET_CHILD_SUBREAPER: usize = 36;
const CLOCK_MONOTONIC: usize = 1;
const WNOHANG: usize = 1;
const ECHILD: isize = -10;
const ALL: usize = usize::MAX;
/// The pause between two rounds of SIGKILL, in milliseconds.
const AGAIN: u64 = 50;
/// The number of rounds without effect before it gives up on a kernel that does not list children.
const ROUNDS: u32 = 20;

/// # Safety
/// `argv` has four arguments or more, and it and `envp` are as for execve(2).
pub unsafe fn run(argv: *const *const u8, envp: *const *const u8) -> ! {
    // SAFETY: the caller's promise; every call gets numbers, or pointers to what lives here.
    unsafe {
        let (time, grace) = (decimal(*argv.add(1)), decimal(*argv.add(2)));
        // Only the three standard streams are open, so these numbers are free.
        call(number::OPENAT, [0, c"/dev/null".as_ptr() as usize, O_RDWR | O_CLOEXEC, 0, 0, 0]);
        call(number::DUP3, [1, STATUS, O_CLOEXEC, 0, 0, 0]);
        for stream in 0..3 {
            call(number::DUP3, [NULL, stream, 0, 0, 0, 0]);
        }
        match fork() {
            0 => {}
            1.. => exit(0),
            errno => fail(errno),
        }
        call(number::SETSID, [0; 6]);
        call(number::PRCTL, [PR_SET_NAME, c"hookvisor-keep".as_ptr() as usize, 0, 0, 0, 0]);
        call(number::PRCTL, [PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0, 0]);
        let ended = 1_u64 << (SIGCHLD - 1);
        call(number::SIGPROCMASK, [SIG_BLOCK, &raw const ended as usize, 0, 8, 0, 0]);
        let pid = match fork() {
            0 => execute(argv.add(3), envp),
            pid @ 1.. => pid as usize,
            errno => fail(errno),
        };
        call(number::CLOSE, [STATUS, 0, 0, 0, 0, 0]);
        let mut command = Command { pid, runs: true };
        command.wait(time);
        command.signal(SIGTERM);
        command.wait(grace);
        for _ in 0..ROUNDS {
            while command.signal(SIGKILL) {
                command.wait(AGAIN);
            }
            command.wait(AGAIN);
        }
        exit(0)
    }
}

/// The command, and what it started.
struct Command {
    pid: usize,
    /// Whether the command itself is not reaped yet. Until then, no other process or group can have its number.
    runs: bool,
}

impl Command {
    /// Reaps ended processes for this many milliseconds. Exits when none is left.
    unsafe fn wait(&mut self, milliseconds: u64) {
        let ended = 1_u64 << (SIGCHLD - 1);
        let until = now().saturating_add(milliseconds);
        loop {
            // SAFETY: every call gets numbers, or pointers to what lives here.
            unsafe {
                loop {
                    match call(number::WAIT4, [ALL, 0, WNOHANG, 0, 0, 0]) {
                        ECHILD => exit(0),
                        pid @ 1.. => self.runs &= pid as usize != self.pid,
                        _ => break,
                    }
                }
                let left = until.saturating_sub(now());
                if left == 0 {
                    return;
                }
                let time = [left / 1000, left % 1000 * 1_000_000];
                let arguments = [&raw const ended as usize, 0, time.as_ptr() as usize, 8, 0, 0];
                call(number::SIGTIMEDWAIT, arguments);
            }
        }
    }

    /// Signals the command's group and the children of this process. Orphans of the command are among them, because
    /// this process is their reaper. Returns whether any process was signalled.
    unsafe fn signal(&self, signal: usize) -> bool {
        let mut reached = false;
        let mut to = |pid: usize| {
            // SAFETY: calls on numbers.
            unsafe {
                reached |= call(number::KILL, [pid, signal, 0, 0, 0, 0]) == 0;
                call(number::KILL, [pid, SIGCONT, 0, 0, 0, 0]);
            }
        };
        if self.runs {
            to(self.pid.wrapping_neg());
        }
        let mut list = [0_u8; 4096];
        // SAFETY: every call gets numbers, or pointers to what lives here, with its size.
        let read = unsafe {
            let path = c"/proc/thread-self/children".as_ptr() as usize;
            let file = call(number::OPENAT, [0, path, O_CLOEXEC, 0, 0, 0]);
            if file < 0 {
                return reached;
            }
            let read = call(number::READ, [file as usize, list.as_mut_ptr() as usize, list.len(), 0, 0, 0]);
            call(number::CLOSE, [file as usize, 0, 0, 0, 0, 0]);
            read
        };
        let mut pid = 0;
        for &byte in list.iter().take(if read > 0 { read as usize } else { 0 }) {
            match byte {
                b'0'..=b'9' => pid = pid * 10 + usize::from(byte - b'0'),
                _ if pid > 1 => to(core::mem::take(&mut pid)),
                _ => pid = 0,
            }
        }
        reached
    }
}

/// # Safety
/// Both arrays are as for execve(2).
unsafe fn execute(argv: *const *const u8, envp: *const *const u8) -> ! {
    let none = 0_u64;
    // SAFETY: the caller's promise; every call gets numbers, or pointers to what lives here.
    unsafe {
        call(number::SETPGID, [0; 6]);
        call(number::SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8, 0, 0]);
        fail(call(number::EXECVE, [*argv as usize, argv as usize, envp as usize, 0, 0, 0]))
    }
}

fn fork() -> isize {
    // SAFETY: without a stack of its own, the child has a copy of this process's memory.
    unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) }
}

fn fail(errno: isize) -> ! {
    let errno = (-errno as i32).to_ne_bytes();
    // SAFETY: the array has this length.
    unsafe { call(number::WRITE, [STATUS, errno.as_ptr() as usize, errno.len(), 0, 0, 0]) };
    exit(127)
}

/// Milliseconds.
fn now() -> u64 {
    let mut time = [0_u64; 2];
    // SAFETY: the array is as large as the kernel's structure.
    unsafe { call(number::CLOCK_GETTIME, [CLOCK_MONOTONIC, time.as_mut_ptr() as usize, 0, 0, 0, 0]) };
    time[0] * 1000 + time[1] / 1_000_000
}

/// # Safety
/// The text ends with a NUL byte.
unsafe fn decimal(text: *const u8) -> u64 {
    let (mut number, mut at) = (0_u64, 0);
    // SAFETY: no byte before this was the NUL.
    while let digit @ b'0'..=b'9' = unsafe { *text.add(at) } {
        number = number.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
        at += 1;
    }
    number
}
