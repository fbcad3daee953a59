//! What C and the library give each other.

use std::ffi::{c_char, c_int, c_void};

/// An open hooks directory. Many threads may use it at once; their calls do not wait for each other.
pub struct Runtime {
    _private: [u8; 0],
}

/// The result of an event. Many threads may read it at once.
pub struct Report {
    _private: [u8; 0],
}

/// Ends running calls from another thread.
pub struct Cancel {
    _private: [u8; 0],
}

/// A text that the library made for the caller.
pub struct Text {
    _private: [u8; 0],
}

/// The result of a call. Compare it with HOOKVISOR_PROCEED; do not test whether it is true. 0 is not a verdict, so a variable that
/// was never set does not start anything. Refusals are negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Verdict {
    /// Start stage: every hook agreed. Start the guest.
    HookvisorProceed = 1,
    /// Shutdown stage: the hooks have been called.
    HookvisorNotified = 2,
    /// Start stage: a hook refused, or could not be called. Do not start the guest.
    HookvisorVetoed = -1,
    /// The call itself failed. Do not start the guest.
    HookvisorError = -2,
}

/// What is about to happen to a guest, or has happened:
///
/// ```c
/// hookvisor_event event = {
///     .size = sizeof event, .driver = "mydaemon", .object = "web1", .operation = "start",
/// };
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Event {
    /// sizeof(hookvisor_event). A later version of the library knows by it which fields the caller has.
    pub size: usize,
    /// The driver, by which hooks are found: letters, digits, `-` and `_`. As all strings, UTF-8 without a newline.
    pub driver: *const c_char,
    /// The guest's name.
    pub object: *const c_char,
    /// What happens to the guest.
    pub operation: *const c_char,
    /// The part of the operation; NULL for the one that the driver's convention has.
    pub sub_operation: *const c_char,
    /// One more argument for the hooks; NULL for `-`.
    pub extra: *const c_char,
    /// What hooks read from stdin, any bytes; NULL for nothing.
    pub document: *const c_void,
    /// The number of bytes in the document.
    pub document_length: usize,
}

/// How a runtime calls hooks. Fields that are zero have their default:
///
/// ```c
/// hookvisor_options options = {.size = sizeof options, .timeout_ms = 30000};
/// ```
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Options {
    /// sizeof(hookvisor_options).
    pub size: usize,
    /// A directory for compiled WebAssembly hooks, so that the next process need not compile them; NULL to keep nothing.
    pub cache: *const c_char,
    /// Loads the hooks of this driver only; NULL for all.
    pub only_driver: *const c_char,
    /// What the operations of the caller's own drivers mean: TOML, the `[convention.NAME]` tables of hookvisor.toml; NULL for
    /// the built-in conventions.
    pub conventions: *const c_char,
    /// Ends every call of this runtime; NULL for none.
    pub cancel: *const Cancel,
    /// Run time of a hook whose settings have no `timeout`. 90,000 ms.
    pub timeout_ms: u64,
    /// Time between SIGTERM and SIGKILL for a native hook that ran out of time. 5,000 ms.
    pub grace_ms: u64,
    /// How long a native hook's background processes may hold its output after the hook has exited. 100 ms.
    pub leak_wait_ms: u64,
    /// How long a hook runs before the log mentions it. 10,000 ms.
    pub slow_ms: u64,
    /// Bytes of stdout that the hook of a filter operation may write. 8 MiB.
    pub stdout_bytes: u64,
    /// Bytes of stderr that are kept, half from the beginning and half from the end. 64 KiB.
    pub stderr_bytes: u64,
    /// Memory of a WebAssembly hook whose settings have no `memory`. 64 MiB.
    pub memory_bytes: u64,
    /// Elements in each table of a WebAssembly hook. 100,000.
    pub table_elements: u64,
    /// Stack of a WebAssembly hook. 512 KiB.
    pub stack_bytes: u64,
    /// Size of a WebAssembly hook's file. 64 MiB.
    pub module_bytes: u64,
    /// How many hooks run at once, over all threads; others wait. No limit.
    pub max_in_flight: u64,
    /// Not 0: native hooks end with this process, also if it is killed. The runtime then has one child process, a small
    /// shell, until it is closed.
    pub end_with_host: c_int,
    /// The known drivers, and NULL after the last. A start of any other driver is vetoed, which catches misspelt names. NULL
    /// accepts any driver.
    pub known_drivers: *const *const c_char,
    /// A program that compiles WebAssembly hooks in a process of its own, with limits on its time and memory: the path of a
    /// `hookvisor` of this library's version. NULL to compile in this process.
    pub compiler: *const c_char,
    /// Not 0: confines every native hook to what its settings grant, as `confine = true` there does.
    pub confine_all: c_int,
    /// Not 0: vetoes a start if its driver has no hooks.
    pub require_hooks: c_int,
    /// Where hooks with `state = true` have a directory each; NULL for `/var/lib/hookvisor/state`.
    pub state_directory: *const c_char,
}

/// Options for one call. Fields that are zero have the runtime's value.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct CallOptions {
    /// sizeof(hookvisor_call_options).
    pub size: usize,
    /// Ends this call; NULL for none.
    pub cancel: *const Cancel,
    /// Time for all hooks of this call together. No bound.
    pub within_ms: u64,
    /// Run time of a hook whose settings have no `timeout`.
    pub timeout_ms: u64,
    /// Time between SIGTERM and SIGKILL for a native hook that ran out of time.
    pub grace_ms: u64,
    /// Bytes of stdout that the hook of a filter operation may write.
    pub stdout_bytes: u64,
    /// Bytes of stderr that are kept.
    pub stderr_bytes: u64,
}

/// The size of an error's message, with its NUL byte.
pub const HOOKVISOR_ERROR_SIZE: usize = 1024;

/// Where a call puts the reason of a failure. It belongs to the caller, who need not initialize it. There is nothing to free, and
/// no other thread writes to it.
#[derive(Debug)]
#[repr(C)]
pub struct Error {
    /// A text for a person, empty if nothing failed. A text that is too long ends in "...".
    pub message: [c_char; HOOKVISOR_ERROR_SIZE],
}

/// How important a record is. A lower number is more important.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum LogLevel {
    /// hookvisor itself failed.
    HookvisorLogError = 1,
    /// A hook failed, is slow, or cannot be called.
    HookvisorLogWarning = 2,
    /// A hook was called; a start was vetoed.
    HookvisorLogInfo = 3,
    /// A hook was loaded, a hook is about to be called.
    HookvisorLogDebug = 4,
}

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum LogTopic {
    /// Anything else.
    HookvisorTopicOther = 0,
    /// A hook is called.
    HookvisorTopicStarted = 1,
    /// A hook still runs after `slow_ms`.
    HookvisorTopicSlow = 2,
    /// A hook has ended: `exit_status` and `duration_us` are set.
    HookvisorTopicEnded = 3,
    /// A start was vetoed: `exit_status` is set.
    HookvisorTopicVetoed = 4,
    /// A hook cannot be called; it will veto.
    HookvisorTopicBroken = 5,
    /// A WebAssembly hook wrote to its log.
    HookvisorTopicGuest = 6,
}

/// One record of the log. It and its strings are valid until the function returns. Strings that do not apply are NULL.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct LogRecord {
    /// The size of this structure in the library's version. Fields beyond it do not exist.
    pub size: usize,
    /// How important it is.
    pub level: LogLevel,
    /// What it is about.
    pub topic: LogTopic,
    /// A text for a person.
    pub message: *const c_char,
    /// The event's driver.
    pub driver: *const c_char,
    /// The guest's name.
    pub object: *const c_char,
    /// The event's operation.
    pub operation: *const c_char,
    /// The hook's file.
    pub hook: *const c_char,
    /// The hook's exit status, as a shell has it; -1 if it does not apply.
    pub exit_status: c_int,
    /// The hook's run time in microseconds; -1 if it does not apply.
    pub duration_us: i64,
}

/// A function of the caller that gets the log's records. Several threads may call it at once.
pub type LogFunction = Option<unsafe extern "C" fn(record: *const LogRecord, data: *mut c_void)>;
