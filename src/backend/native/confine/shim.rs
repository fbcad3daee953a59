//! The program that a confined hook executes in place of each granted command. It asks the runtime to run the command,
//! and ends in the same way as the command. The runtime itself executes it as the keeper of a detached command
//! ([`keeper`]).
//!
//! build.rs compiles this file to a static program without the standard library. The runtime does not trust it: a hook
//! can send the same messages itself, and gets the same answers.
//!
//! - `socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL)` gives a connection to the runtime, by the hook's seccomp filter.
//! - Request: the number of arguments (4 bytes), the working directory, the path that was executed and the arguments, each
//!   ending with a NUL byte; with the three standard streams.
//! - Then one message for each signal that this program gets: `K` and the signal.
//! - Answers: `I`: the runtime checks the standard input first. This program reads it and sends it in messages of `D`
//!   and a piece; the last piece is empty. `G`: the command runs. `X` and a byte: it exited with this status. `S` and a
//!   byte: this signal killed it. `E`, a byte and a text: it does not run, with this exit status and reason.
#![no_std]
#![no_main]
#![no_builtins]

#[path = "shim/keeper.rs"]
mod keeper;
#[path = "shim/sys.rs"]
mod sys;

use core::arch::global_asm;

use sys::{O_RDWR, SIG_BLOCK, SIG_SETMASK, call, exit, number};

const AF_UNIX: usize = 1;
const SOCK_SEQPACKET: usize = 5;
const SOCK_CLOEXEC: usize = 0o2000000;
const PROTOCOL: usize = 0x484b;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_NOSIGNAL: usize = 0x4000;
const AT_NULL: usize = 0;
const AT_EXECFN: usize = 31;
const F_GETFD: usize = 1;
const POLLIN: i16 = 1;
const SIG_IGN: usize = 1;
const EINTR: isize = -4;
const EAGAIN: isize = -11;
/// The runtime closed its end before it read everything. Its answer can still be received.
const ECONNRESET: isize = -104;
/// HUP, INT, QUIT, USR1, USR2, TERM.
const FORWARDED: [u8; 6] = [1, 2, 3, 10, 12, 15];
/// The kernel's longest path.
const LONGEST_PATH: usize = 4096;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", start = sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {start}", start = sym start);

#[repr(C)]
struct Vector {
    base: *const u8,
    length: usize,
}

#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    vectors: *const Vector,
    vectors_length: usize,
    control: *const Rights,
    control_length: usize,
    flags: i32,
}

/// A control message with three descriptors.
#[repr(C)]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    descriptors: [i32; 3],
}

#[repr(C)]
struct Poll {
    descriptor: i32,
    events: i16,
    returned: i16,
}

/// The kernel's initial stack: the number of arguments, their pointers, null, the environment's pointers, null, the
/// auxiliary vector.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel laid out the stack as described. Every system call gets pointers to what lives here.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<*const u8>();
        let envp = argv.add(argc + 1);
        let mut at = argc + 2;
        while *stack.add(at) != 0 {
            at += 1;
        }
        at += 1;
        let mut executed = c"".as_ptr().cast::<u8>();
        while *stack.add(at) != AT_NULL {
            if *stack.add(at) == AT_EXECFN {
                executed = *stack.add(at + 1) as *const u8;
            }
            at += 2;
        }
        if argc > 3 && is(executed, keeper::EXECUTED_AS) {
            keeper::run(argv, envp);
        }
        run(argc, argv, executed)
    }
}

unsafe fn run(argc: usize, argv: *const *const u8, executed: *const u8) -> ! {
    // SAFETY: as in `start`.
    unsafe {
        // A stream that the script has closed is /dev/null for the command.
        for stream in 0..3 {
            if call(number::FCNTL, [stream, F_GETFD, 0, 0, 0, 0]) < 0 {
                call(number::OPENAT, [0, c"/dev/null".as_ptr() as usize, O_RDWR, 0, 0, 0]);
            }
        }
        let socket = call(number::SOCKET, [AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, PROTOCOL, 0, 0, 0]);
        if socket < 0 {
            fail(126, b"hookvisor does not answer here: a command can only be run by the hook itself\n");
        }
        let socket = socket as usize;
        let signals = take_signals();
        request(socket, argc, argv, executed);
        answer(socket, signals)
    }
}

/// Receives the forwarded signals through a descriptor, except ignored ones.
unsafe fn take_signals() -> usize {
    let mut set = 0_u64;
    for signal in FORWARDED {
        let mut action = [0_usize; 8];
        // SAFETY: the structure is as large as the kernel's, or larger.
        unsafe { call(number::SIGACTION, [signal as usize, 0, action.as_mut_ptr() as usize, 8, 0, 0]) };
        if action[0] != SIG_IGN {
            set |= 1 << (signal - 1);
        }
    }
    let set = &raw const set as usize;
    // SAFETY: the set has the size that the calls are told.
    unsafe {
        call(number::SIGPROCMASK, [SIG_BLOCK, set, 0, 8, 0, 0]);
        call(number::SIGNALFD, [usize::MAX, set, 8, 0, 0, 0]) as usize
    }
}

unsafe fn request(socket: usize, argc: usize, argv: *const *const u8, executed: *const u8) {
    let mut directory = [0_u8; LONGEST_PATH];
    let count = (argc as u32).to_ne_bytes();
    // SAFETY: the kernel puts the arguments in one piece, each ending with a NUL byte.
    unsafe {
        let written = call(number::GETCWD, [directory.as_mut_ptr() as usize, LONGEST_PATH, 0, 0, 0, 0]);
        if written <= 0 {
            directory[0] = b'/';
            directory[1] = 0;
        }
        let (mut first, mut length) = (c"".as_ptr().cast::<u8>(), 0);
        if argc > 0 {
            first = *argv;
            let last = *argv.add(argc - 1);
            length = last as usize - first as usize + size(last);
        }
        let vectors = [
            Vector { base: count.as_ptr(), length: count.len() },
            Vector { base: directory.as_ptr(), length: size(directory.as_ptr()) },
            Vector { base: executed, length: size(executed) },
            Vector { base: first, length },
        ];
        let rights = Rights {
            length: core::mem::offset_of!(Rights, descriptors) + 12,
            level: SOL_SOCKET,
            kind: SCM_RIGHTS,
            descriptors: [0, 1, 2],
        };
        let message = Message {
            name: 0,
            name_length: 0,
            vectors: vectors.as_ptr(),
            vectors_length: vectors.len(),
            control: &raw const rights,
            control_length: size_of::<Rights>(),
            flags: 0,
        };
        let sent = call(number::SENDMSG, [socket, &raw const message as usize, MSG_NOSIGNAL, 0, 0, 0]);
        if sent < 0 {
            fail(126, b"hookvisor cannot take this command: its arguments are too long, or hookvisor has ended\n");
        }
    }
}

/// Waits for the command's end, and forwards signals.
unsafe fn answer(socket: usize, signals: usize) -> ! {
    let mut buffer = [0_u8; 4096];
    let mut reads_stdin = false;
    loop {
        let mut poll = [
            Poll { descriptor: socket as i32, events: POLLIN, returned: 0 },
            Poll { descriptor: signals as i32, events: POLLIN, returned: 0 },
            Poll { descriptor: if reads_stdin { 0 } else { -1 }, events: POLLIN, returned: 0 },
        ];
        // SAFETY: every call gets pointers to what lives here, with its size.
        unsafe {
            call(number::PPOLL, [poll.as_mut_ptr() as usize, poll.len(), 0, 0, 0, 0]);
            if poll[1].returned != 0 {
                let read = call(number::READ, [signals, buffer.as_mut_ptr() as usize, 128, 0, 0, 0]);
                if read > 0 {
                    let message = [b'K', buffer[0]];
                    call(number::SENDTO, [socket, message.as_ptr() as usize, 2, MSG_NOSIGNAL, 0, 0]);
                }
            }
            if poll[0].returned != 0 {
                let read = call(number::RECVFROM, [socket, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]);
                if read == EINTR || read == ECONNRESET {
                    continue;
                }
                match (buffer[0], read) {
                    (b'I', 1..) => reads_stdin = true,
                    // The command has its own copies. From now on, only those keep a pipe open.
                    (b'G', 1..) => (0..3).for_each(|stream| {
                        call(number::CLOSE, [stream, 0, 0, 0, 0, 0]);
                    }),
                    (b'X', 2..) => exit(buffer[1]),
                    (b'S', 2..) => die(buffer[1]),
                    (b'E', 2..) => fail(buffer[1], &buffer[2..read as usize]),
                    _ => exit(125),
                }
            } else if poll[2].returned != 0 {
                let piece = buffer.as_mut_ptr().add(1) as usize;
                let read = call(number::READ, [0, piece, buffer.len() - 1, 0, 0, 0]);
                if read == EINTR || read == EAGAIN {
                    continue;
                }
                // A read error counts as end of file.
                let length = if read > 0 { read as usize } else { 0 };
                reads_stdin = length > 0;
                buffer[0] = b'D';
                call(number::SENDTO, [socket, buffer.as_ptr() as usize, length + 1, MSG_NOSIGNAL, 0, 0]);
            }
        }
    }
}

unsafe fn die(signal: u8) -> ! {
    let none = 0_u64;
    let default = [0_usize; 8];
    // SAFETY: calls on this process, with structures of the size that they are told or larger.
    unsafe {
        call(number::SIGACTION, [signal as usize, default.as_ptr() as usize, 0, 8, 0, 0]);
        call(number::SIGPROCMASK, [SIG_SETMASK, &raw const none as usize, 0, 8, 0, 0]);
        let this = call(number::GETPID, [0; 6]) as usize;
        call(number::KILL, [this, signal as usize, 0, 0, 0, 0]);
    }
    exit(signal.wrapping_add(128))
}

fn fail(status: u8, why: &[u8]) -> ! {
    // SAFETY: the text has this length.
    unsafe { call(number::WRITE, [2, why.as_ptr() as usize, why.len(), 0, 0, 0]) };
    exit(status)
}

/// Whether a NUL-terminated string equals this one.
unsafe fn is(string: *const u8, text: &core::ffi::CStr) -> bool {
    let text = text.to_bytes_with_nul();
    // SAFETY: no byte before the compared one was the NUL.
    (0..text.len()).all(|at| unsafe { *string.add(at) } == text[at])
}

/// The length of a string with its NUL byte.
unsafe fn size(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: it ends with a NUL byte.
    while unsafe { *string.add(length) } != 0 {
        length += 1;
    }
    length + 1
}

/// The compiler uses it to fill arrays.
///
/// # Safety
/// As for memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller's promise.
        unsafe { to.add(at).write(value as u8) };
    }
    to
}

/// The compiler uses it to copy arrays.
///
/// # Safety
/// As for memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: the caller's promise.
        unsafe { to.add(at).write(*from.add(at)) };
    }
    to
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(125)
}

/// The core library refers to it in its unwinding tables. Nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
