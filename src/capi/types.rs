//! What C and the library give each other.

use std::ffi::{c_char, c_void};

/// An open directory of hooks. It may be used by many threads at once, and calls do not wait for each other.
pub struct Runtime {
    _private: [u8; 0],
}

/// What came of an event. It may be read by many threads at once.
pub struct Report {
    _private: [u8; 0],
}

/// What came of a call. Compare it, do not test its truth: 0 is none of these, so that a variable that was never set is no
/// leave to proceed, and whatever refuses is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Verdict {
    /// Start stage: every hook agreed. Go on.
    HookvisorProceed = 1,
    /// Shutdown stage: the hooks have been told.
    HookvisorNotified = 2,
    /// Start stage: a hook refused, or could not be asked. Do not go on.
    HookvisorVetoed = -1,
    /// The call itself failed. Before a start: do not go on.
    HookvisorError = -2,
}

/// What is about to happen to a guest, or has happened. Set what is not used to zero, as a designated initializer does:
/// `hookvisor_event event = { .driver = "mydaemon", .object = "web1", .operation = "start" };`
#[derive(Debug)]
#[repr(C)]
pub struct Event {
    /// The name that hooks are looked up by: letters, digits, `-` and `_`. UTF-8 without a newline, as all of the strings.
    pub driver: *const c_char,
    /// The guest that this is about.
    pub object: *const c_char,
    /// What is happening.
    pub operation: *const c_char,
    /// The part of the operation; NULL for the one that the driver's convention gives with it.
    pub sub_operation: *const c_char,
    /// One more argument for the hooks; NULL for `-`.
    pub extra: *const c_char,
    /// What the hooks find on stdin, any bytes; NULL if there is nothing.
    pub document: *const c_void,
    /// How many bytes the document has.
    pub document_length: usize,
    /// NULL: room for later versions.
    pub reserved: [*const c_void; 4],
}

/// How hooks are run. Set what is not used to zero, which stands for the default.
#[derive(Debug)]
#[repr(C)]
pub struct Options {
    /// A directory where compiled WebAssembly hooks are kept for the next time; NULL to keep nothing.
    pub cache: *const c_char,
    /// How long a hook may take, where its settings do not say otherwise. 90,000 ms.
    pub timeout_ms: u64,
    /// How long a native hook has between SIGTERM and SIGKILL once its time is up. 5,000 ms.
    pub grace_ms: u64,
    /// How long a native hook's background processes may hold its output after it has exited. 100 ms.
    pub leak_wait_ms: u64,
    /// How many bytes of stdout a filter operation's hook may write. 8 MiB.
    pub stdout_bytes: u64,
    /// How many bytes of stderr are kept, half from its beginning and half from its end. 64 KiB.
    pub stderr_bytes: u64,
    /// How many bytes of memory a WebAssembly hook may have, where its settings do not say otherwise. 64 MiB.
    pub memory_bytes: u64,
    /// How many elements a WebAssembly hook's tables may have, each. 100,000.
    pub table_elements: u64,
    /// How many bytes a WebAssembly hook's stack may have. 512 KiB.
    pub stack_bytes: u64,
    /// How many bytes a WebAssembly hook's file may have. 64 MiB.
    pub module_bytes: u64,
    /// How many hooks run at once, for all threads together; one more waits. No bound.
    pub max_in_flight: u64,
    /// 0: room for later versions.
    pub reserved: [u64; 8],
}

/// The size of an error's message, with the NUL byte at its end.
pub const HOOKVISOR_ERROR_SIZE: usize = 1024;

/// Where a call says why. It belongs to the caller, who need not prepare it, and who may pass NULL instead: so there is
/// nothing to free, and no other call or thread changes it.
#[derive(Debug)]
#[repr(C)]
pub struct Error {
    /// A string for a person to read, empty if nothing went wrong. One that is too long ends in "...".
    pub message: [c_char; HOOKVISOR_ERROR_SIZE],
}
