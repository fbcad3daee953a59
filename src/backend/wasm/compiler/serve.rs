//! The separate compiler process. It reads a binary from stdin and writes machine code to stdout.
//!
//! Before it reads untrusted input, it gives up root's rights, limits its memory and time, and keeps only its three
//! streams: it can no longer open a file, connect, or execute a program.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::num::NonZeroUsize;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::job::{Layer, REFUSED, VERSION};
use super::translate;
use crate::backend::native::compute_only;
use crate::backend::wasm::engine::Resources;
use crate::hook::error::LaunchError;

/// The user and group without privileges.
const NOBODY: u32 = 65534;
const FAILED: u8 = 125;

/// Runs the process to its end, and returns its exit status.
pub(super) fn serve(arguments: impl Iterator<Item = OsString>) -> u8 {
    match compile(arguments) {
        Ok(code) => match io::stdout().lock().write_all(&code) {
            Ok(()) => 0,
            Err(error) => failed(&format!("the compiled code could not be written: {error}")),
        },
        Err(LaunchError::Refused(why)) => match io::stdout().lock().write_all(why.as_bytes()) {
            Ok(()) => REFUSED,
            Err(error) => failed(&error.to_string()),
        },
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> u8 {
    // The exit status reports it too.
    let _ = writeln!(io::stderr(), "{why}");
    FAILED
}

fn compile(arguments: impl Iterator<Item = OsString>) -> Result<Vec<u8>, LaunchError> {
    let arguments: Vec<String> = arguments.map(|argument| argument.to_string_lossy().into_owned()).collect();
    let [version, layer, resources, memory, seconds] = &arguments[..] else {
        return Err(wrong("only hookvisor can start it"));
    };
    if version != VERSION {
        return Err(wrong(&format!("its version is {VERSION}, but hookvisor has {version}: use the same version")));
    }
    let layer = [Layer::Module, Layer::Component].into_iter().find(|found| found.name() == layer);
    let resources = [Resources::Ample, Resources::Scarce].into_iter().find(|found| found.name() == resources);
    let (Some(layer), Some(resources), Ok(memory), Ok(seconds)) =
        (layer, resources, memory.parse(), seconds.parse::<u64>())
    else {
        return Err(wrong("it does not know these arguments: use the same version of hookvisor"));
    };
    // This reads files. The host stops the process in time; its own limit is for a host that has ended.
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    restrict(memory, seconds.saturating_add(1).saturating_mul(processors as u64)).map_err(|errno| {
        LaunchError::Host { what: "could not limit the compiler's process", why: errno.desc().to_owned() }
    })?;
    compute_only();
    let mut binary = Vec::new();
    io::stdin().lock().read_to_end(&mut binary).map_err(|e| wrong(&e.to_string()))?;
    translate::translate(&binary, layer, resources, None, processors)
}

fn wrong(why: &str) -> LaunchError {
    LaunchError::Host { what: "the compiler cannot serve", why: why.to_owned() }
}

/// Limits this process permanently.
fn restrict(memory: u64, processor_seconds: u64) -> Result<(), Errno> {
    if geteuid().is_root() {
        // A user namespace may not map this user.
        let _ = setgroups(&[])
            .and_then(|()| setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY)))
            .and_then(|()| setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)));
    }
    prctl::set_no_new_privs()?;
    // Only after the change of user, which would clear it.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    lower(Resource::RLIMIT_CORE, 0)?;
    lower(Resource::RLIMIT_DATA, memory)?;
    lower(Resource::RLIMIT_CPU, processor_seconds)
}

fn lower(resource: Resource, limit: u64) -> Result<(), Errno> {
    let (_, most) = getrlimit(resource)?;
    let limit = limit.min(most);
    setrlimit(resource, limit, limit)
}
