//! The program that a confined hook executes in place of each command that it is granted. It asks the runtime to run the
//! command, and ends as the command ends.
//!
//! build.rs compiles this file to a static program without the standard library. It is not trusted: a hook can say the
//! same things by itself, and gets the same answers.
//!
//! - `socket(AF_UNIX, SOCK_SEQPACKET, PROTOCOL)` gives a connection to the runtime, by the hook's seccomp filter.
//! - Request: the number of arguments (4 bytes), the working directory, the path that was executed and the arguments, each
//!   ending with a NUL byte; with the three standard streams.
//! - Then one message for each signal that this program gets: `K` and the signal.
//! - Answers: `G` the command runs; `X` and a byte: it exited with this status; `S` and a byte: this signal killed it;
//!   `E`, a byte and a text: it does not run; this is the exit status and the reason.
#![no_std]
#![no_main]
#![no_builtins]

use core::arch::{asm, global_asm};

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
const O_RDWR: usize = 2;
const POLLIN: i16 = 1;
const SIG_IGN: usize = 1;
const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;
const EINTR: isize = -4;
/// HUP, INT, QUIT, USR1, USR2, TERM.
const FORWARDED: [u8; 6] = [1, 2, 3, 10, 12, 15];
/// The kernel's longest path.
const LONGEST_PATH: usize = 4096;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const SIGACTION: usize = 13;
    pub const SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const SENDTO: usize = 44;
    pub const RECVFROM: usize = 45;
    pub const SENDMSG: usize = 46;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const GETCWD: usize = 79;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD: usize = 289;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const CLOSE: usize = 57;
    pub const SIGACTION: usize = 134;
    pub const SIGPROCMASK: usize = 135;
    pub const GETPID: usize = 172;
    pub const SOCKET: usize = 198;
    pub const SENDTO: usize = 206;
    pub const RECVFROM: usize = 207;
    pub const SENDMSG: usize = 211;
    pub const KILL: usize = 129;
    pub const FCNTL: usize = 25;
    pub const GETCWD: usize = 17;
    pub const EXIT_GROUP: usize = 94;
    pub const OPENAT: usize = 56;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD: usize = 74;
}

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", start = sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {start}", start = sym start);

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let result: isize;
    // SAFETY: the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d,
             in("x4") e, in("x5") f, options(nostack));
    }
    result
}

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

/// Everything from the kernel's stack at the start: the number of arguments, their pointers, null, the environment's, null,
/// the auxiliary vector.
extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel laid out the stack as described. Every system call gets pointers to what lives here.
    unsafe {
        let argc = *stack;
        let argv = stack.add(1).cast::<*const u8>();
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

/// Has the signals that are forwarded come through a descriptor, but for those that are ignored.
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

/// Waits for the command's end, passing signals on.
unsafe fn answer(socket: usize, signals: usize) -> ! {
    let mut buffer = [0_u8; 4096];
    loop {
        let mut poll = [
            Poll { descriptor: socket as i32, events: POLLIN, returned: 0 },
            Poll { descriptor: signals as i32, events: POLLIN, returned: 0 },
        ];
        // SAFETY: every call gets pointers to what lives here, with its size.
        unsafe {
            call(number::PPOLL, [poll.as_mut_ptr() as usize, 2, 0, 0, 0, 0]);
            if poll[1].returned != 0 {
                let read = call(number::READ, [signals, buffer.as_mut_ptr() as usize, 128, 0, 0, 0]);
                if read > 0 {
                    let message = [b'K', buffer[0]];
                    call(number::SENDTO, [socket, message.as_ptr() as usize, 2, MSG_NOSIGNAL, 0, 0]);
                }
            }
            if poll[0].returned != 0 {
                let read = call(number::RECVFROM, [socket, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0]);
                if read == EINTR {
                    continue;
                }
                match (buffer[0], read) {
                    // The command has its own copies: only they keep a pipe open from now on.
                    (b'G', 1..) => (0..3).for_each(|stream| {
                        call(number::CLOSE, [stream, 0, 0, 0, 0, 0]);
                    }),
                    (b'X', 2..) => exit(buffer[1]),
                    (b'S', 2..) => die(buffer[1]),
                    (b'E', 2..) => fail(buffer[1], &buffer[2..read as usize]),
                    _ => exit(125),
                }
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

fn exit(status: u8) -> ! {
    loop {
        // SAFETY: it does not return.
        unsafe { call(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]) };
    }
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

/// What the compiler fills arrays with.
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

/// What the compiler copies arrays with.
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

/// The core library names it in tables for unwinding, which never happens.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
