//! `hookvisor learn`: runs a hook once under strace and prints the settings it needs.

mod grants;
mod trace;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, bail};
use clap::Parser;
use hookvisor::Event;

use self::grants::Learned;
use super::options::EventArgs;
use super::streams::{complain, document, print};

/// The environment variables passed to the hook, and its search path.
const PASSED_ON: [&str; 4] = ["HOME", "USER", "LOGNAME", "TMPDIR"];
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Run a hook once, trace it, and print the minimal settings that allow what it did
#[derive(Debug, Parser)]
#[command(after_help = "\
The hook really runs: its effects are real. The document is read from standard input. The settings go to standard output, \
the hook's output to standard error. Nothing is installed: review the settings, then save them next to the hook.

One run shows only one path through the hook. Run it for each operation and merge the results:

  hookvisor learn 10-hook qemu web1 prepare < web1.xml > 10-hook.toml
  hookvisor learn --merge 10-hook.toml 10-hook qemu web1 release < web1.xml > new.toml && mv new.toml 10-hook.toml

Requires strace.")]
pub(super) struct Args {
    /// Merge with the settings from an earlier run
    #[arg(long, value_name = "FILE")]
    merge: Option<PathBuf>,
    /// The hook's file
    hook: PathBuf,
    #[command(flatten)]
    event: EventArgs,
}

pub(super) fn learn(args: Args) -> anyhow::Result<u8> {
    let event = args.event.event()?;
    // Read this first: if it is invalid, the hook must not run.
    let earlier = args
        .merge
        .as_ref()
        .map(|file| fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display())));
    let earlier = earlier.transpose()?;
    let mut merged = Learned::default();
    merged.merge(earlier.as_deref().unwrap_or_default())?;
    let hook = fs::canonicalize(&args.hook).with_context(|| format!("{} could not be found", args.hook.display()))?;
    if fs::read(&hook).is_ok_and(|bytes| bytes.starts_with(b"\0asm")) {
        bail!(
            "{} is WebAssembly, which can do only what is granted: its report names the lines to add",
            hook.display()
        );
    }
    let (status, trace) = watched(&hook, &event, &document()?)?;
    let mut learned = trace::read(&trace, &hook.to_string_lossy());
    let name = [event.driver()].iter().chain(&event.arguments()).copied().collect::<Vec<_>>().join(" ");
    learned.generalise(event.object(), event.operation(), &name);
    learned.merge(earlier.as_deref().unwrap_or_default())?;
    print(format!("# Learned by `hookvisor learn`: read it before you use it.\n{}", learned.to_toml(true)).as_bytes())?;
    Ok(report_end(&hook, status))
}

/// Runs the hook under strace. The hook's output goes to standard error.
fn watched(hook: &Path, event: &Event, document: &[u8]) -> anyhow::Result<(ExitStatus, String)> {
    let output = std::env::temp_dir().join(format!("hookvisor-learn-{}", std::process::id()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&output);
    file.with_context(|| format!("{} could not be created", output.display()))?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-y", "-s", "4096", "--seccomp-bpf", "-e", trace::CALLS, "-o"]).arg(&output);
    strace.arg("--").arg(hook).args(event.arguments());
    strace.current_dir("/").env_clear().env("LC_ALL", "C").env("PATH", SEARCH_PATH);
    strace.envs(PASSED_ON.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    let ran = run(strace, document);
    let trace = fs::read(&output);
    let _ = fs::remove_file(&output);
    let status = match ran {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("strace is not installed: run `apt install strace`")
        }
        ran => ran.context("strace could not be run")?,
    };
    let trace = String::from_utf8_lossy(&trace.context("the output of strace could not be read")?).into_owned();
    if trace.is_empty() {
        bail!("strace recorded nothing: tracing may be forbidden here (kernel.yama.ptrace_scope, or a container)");
    }
    Ok((status, trace))
}

fn run(mut strace: Command, document: &[u8]) -> io::Result<ExitStatus> {
    let mut strace = strace.stdin(Stdio::piped()).stdout(io::stderr()).spawn()?;
    if let Some(mut stdin) = strace.stdin.take() {
        // A hook may exit without reading its input.
        let _ = stdin.write_all(document);
    }
    strace.wait()
}

/// Reports how the hook ended and returns its exit status.
fn report_end(hook: &Path, status: ExitStatus) -> u8 {
    let (code, how) = match (status.code(), status.signal()) {
        (Some(0), _) => return 0,
        (Some(code), _) => (code, format!("exited with {code}")),
        (None, signal) => {
            (128 + signal.unwrap_or_default(), format!("was killed by signal {}", signal.unwrap_or_default()))
        }
    };
    complain(format!("hookvisor: {} {how}: the settings cover only this run\n", hook.display()).as_bytes());
    u8::try_from(code).unwrap_or(u8::MAX)
}
