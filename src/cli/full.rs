//! Replaces this program, which has no compiler, with the full program when a hook is not in the cache.

use std::env;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The full program's name, in the same directory.
const NAME: &str = "hookvisor";

/// Executes the full program with the same name, arguments and document. It compiles the hook, caches it and runs the
/// event. Returns only on failure; the hook then fails and names the missing compiler.
pub(super) fn take_over(document: &[u8]) {
    if let Err(error) = execute(document) {
        tracing::warn!("a hook must be compiled, but the full program cannot be run: {error:#}");
    }
}

fn execute(document: &[u8]) -> anyhow::Result<()> {
    let program = program()?;
    let mut stdin =
        File::from(memfd_create(c"document", MFdFlags::MFD_CLOEXEC).context("could not create a file in memory")?);
    stdin.write_all(document).and_then(|()| stdin.rewind()).context("could not pass on the document")?;
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let error = Command::new(&program).arg0(name).args(arguments).stdin(stdin).exec();
    Err(error).with_context(|| format!("{} could not be executed", program.display()))
}

/// The full program, if it has the same owner as this one and no other user can write it.
fn program() -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("could not find the path of this program")?;
    let program = own.with_file_name(NAME);
    ensure!(program != own, "{} has no compiler itself", own.display());
    let found =
        fs::metadata(&program).with_context(|| format!("could not find the full program {}", program.display()))?;
    let owner = fs::metadata(&own).with_context(|| format!("{}", own.display()))?.uid();
    ensure!(
        found.is_file() && found.uid() == owner && found.mode() & 0o022 == 0,
        "{} is not trusted: it has another owner than {}, or others can write to it",
        program.display(),
        own.display()
    );
    Ok(program)
}
