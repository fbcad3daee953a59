//! What differs between the three targets: running a command, connecting to a socket, logging, and exiting with a status.

#[cfg(not(target_os = "wasi"))]
mod native;
#[cfg(all(target_os = "wasi", target_env = "p1"))]
#[expect(unsafe_code, reason = "the runtime's functions are imports of the module")]
mod preview1;
#[cfg(all(target_os = "wasi", target_env = "p2"))]
mod preview2;
#[cfg(any(test, all(target_os = "wasi", target_env = "p1")))]
mod wire;

#[cfg(not(target_os = "wasi"))]
pub(crate) use native::{Connection, end_with, run};
#[cfg(all(target_os = "wasi", target_env = "p1"))]
pub(crate) use preview1::{Connection, end_with, run};
#[cfg(all(target_os = "wasi", target_env = "p2"))]
pub(crate) use preview2::{Connection, end_with, run};

#[cfg(all(feature = "log", not(target_os = "wasi")))]
pub(crate) use native::log;
#[cfg(all(feature = "log", target_os = "wasi", target_env = "p1"))]
pub(crate) use preview1::log;
#[cfg(all(feature = "log", target_os = "wasi", target_env = "p2"))]
pub(crate) use preview2::log;
