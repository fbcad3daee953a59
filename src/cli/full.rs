//! Replaces this program, which has no compiler, with the full program: for a hook that is not in the cache, and for the
//! commands that the full program does better.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, Write};
use std::iter;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::level_filters::{LevelFilter, STATIC_MAX_LEVEL};

use super::{layout, log};

/// The full program's name, in the same directory.
const NAME: &str = "hookvisor";
/// The command that runs an event. This program starts faster, and does it alike.
const OWN: &str = "run";
/// The command that this program lacks.
const MISSING: &str = "compile";

/// Executes the full program for every command line but `run`. If there is none, this program does what it can: returns
/// whether that is nothing.
pub(super) fn hand_over() -> bool {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    let is = |command: &str| arguments.first().is_some_and(|first| first == command);
    if is(OWN) && !asks_for_a_fuller_log() {
        return false;
    }
    match program() {
        Ok(program) => {
            let error = Command::new(&program).arg0(name).args(&arguments).exec();
            log::failed(&format!("{} could not be executed: {error}", program.display()));
        }
        Err(why) if is(MISSING) => log::failed(&format!("{why:#}")),
        Err(_) => {}
    }
    is(MISSING)
}

/// Whether a level is asked for that this build leaves out.
fn asks_for_a_fuller_log() -> bool {
    let asked: Option<LevelFilter> = env::var("HOOKVISOR_LOG").ok().and_then(|level| level.parse().ok());
    asked.is_some_and(|asked| asked > STATIC_MAX_LEVEL)
}

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
    let this = fs::metadata(&own).with_context(|| format!("{}", own.display()))?;
    let is_another = |program: &Path| {
        fs::metadata(program).is_ok_and(|found| (found.dev(), found.ino()) != (this.dev(), this.ino()))
    };
    let is_trusted =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.uid() == this.uid() && found.mode() & 0o022 == 0);
    // In the package, `hookvisor` is a link to this program, and the full program is in two directories of its own.
    let packaged = layout::packaged_full_program(&own).map(|program| (program, 3));
    let mut candidates = iter::once((own.with_file_name(NAME), 1)).chain(packaged);
    let (program, parts) = candidates.find(|(program, _)| is_another(program)).with_context(|| {
        let own = own.display();
        format!("{own} has no compiler itself, and no full program is installed with it: install the package hookvisor again")
    })?;
    ensure!(
        program.is_file() && program.ancestors().take(parts).all(is_trusted),
        "{} is not trusted: it or its directory has another owner than {}, or others can write to it",
        program.display(),
        own.display()
    );
    Ok(program)
}
