//! Runs a hook under strace and reads what it used: to learn its settings from that, or to say what they would refuse.

mod trace;

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::confine::needs;
use super::confine::reach::Reach;
use super::error::host_error;
use super::launcher::Launcher;
use crate::backend::broker::Broker;
use crate::backend::{Call, Completion, grants};
use crate::hook::digest::Content;
use crate::hook::error::LaunchError;
use crate::hook::kind::Kind;
use crate::hook::settings::grants::{Address, lines_to_grant_directory};
use crate::hook::settings::{self, Settings, with_variables};
use crate::hook::state::{self, StateRoot};
use crate::hook::trust::Trust;
use crate::needs::{Needs, UDP, Watch};

const STRACE: &str = "strace";
const NO_STRACE: &str = "strace is not installed";
const NO_TRACING: &str = "strace may not trace here (kernel.yama.ptrace_scope, or a container)";
const TRACE: &CStr = c"hookvisor-trace";

/// A hook with `confine = "monitor"`.
pub(super) struct Monitored {
    settings: Arc<Settings>,
    settings_file: Arc<Path>,
    /// Where the hook's own directory is, if it has one.
    state: Option<StateRoot>,
    trust: Trust,
}

impl Monitored {
    fn new(hook: &Path, settings: &Settings, state: &StateRoot, trust: Trust) -> Result<Self, LaunchError> {
        if !settings.secrets.is_empty() {
            return Err(LaunchError::Refused(
                "its settings have `secret`, which a hook with `confine = \"monitor\"` cannot use: write `confine = true`"
                    .to_owned(),
            ));
        }
        grants::check(settings, Kind::Native, trust)?;
        Ok(Self {
            settings: Arc::new(settings.clone()),
            settings_file: settings::file_name(hook).into(),
            state: settings.state.then(|| state.clone()),
            trust,
        })
    }

    /// The directory of the hook, and the call's environment with it.
    pub(super) fn environment(&self, call: &Call<'_>) -> Result<Option<Environment>, LaunchError> {
        let state = self.state.as_ref().map(|root| root.open(call.hook, None, self.trust)).transpose()?;
        Ok(state.map(|state| with_variables(call.env, vec![state.variable()])))
    }

    /// Notes what these settings would have refused.
    fn refused(&self, call: &Call<'_>, needs: &Needs) -> Vec<String> {
        let mut broker = Broker::new(Arc::clone(&self.settings), Arc::clone(&self.settings_file), call);
        let file = self.settings_file.display();
        let reach = Reach::of(&self.settings, call.names(), own_directory(call), &[]);
        for (path, used) in &needs.files {
            let may = reach.of_file(Path::new(path));
            let (what, is_granted) = if used.writes { ("write", may.write) } else { ("read", may.read) };
            if !is_granted {
                let lines = lines_to_grant_directory(used.directory(path), used.writes);
                broker.note(format!("confined, it could not {what} {path:?}; to allow it, add to {file}:{lines}"));
            }
        }
        for (program, arguments) in &needs.commands {
            // The broker notes what it refuses.
            let _decision = broker.decide(program, arguments);
        }
        for to in &needs.connections {
            let address = match (to.parse(), to.strip_suffix(UDP).map(str::parse)) {
                (Ok(address), _) => Address::Tcp(address),
                (_, Some(Ok(address))) => Address::Udp(address),
                _ => Address::Unix(to.into()),
            };
            if !self.settings.connections.iter().any(|granted| granted.to.is(&address)) {
                broker.refuse_connection(&address);
            }
        }
        for what in &needs.not_grantable {
            broker.note(format!("confined, it could not do this: {what}"));
        }
        broker.into_notes()
    }
}

type Environment = Vec<(String, String)>;

/// The directory of the hook's own (`state`).
fn own_directory<'a>(call: &Call<'a>) -> Option<&'a Path> {
    call.env.iter().find(|(name, _)| name == state::VARIABLE).map(|(_, path)| Path::new(path))
}

/// A run, and what it used.
struct Watched {
    completion: Completion,
    /// `None` if strace could not trace.
    needs: Option<Needs>,
}

impl Launcher {
    /// Runs a hook unconfined and collects what it uses.
    pub(super) fn run_watched(&self, call: &Call<'_>, watch: &Watch) -> Result<Completion, LaunchError> {
        let Some(strace) = self.find(STRACE) else {
            return Err(LaunchError::NotFound(format!("{NO_STRACE}: run `apt install strace`")));
        };
        let Watched { completion, needs } = self.trace(call, &strace)?;
        let used = needs
            .ok_or_else(|| LaunchError::Refused(format!("it ran, but hookvisor could not watch it: {NO_TRACING}")))?;
        watch.add(|needs| *needs = used);
        if let Some(own) = own_directory(call) {
            watch.add(|needs| needs.files.retain(|path, _| !Path::new(path).starts_with(own)));
        }
        Ok(completion)
    }

    /// A hook that is monitored, if its settings could confine it.
    pub(super) fn monitored(
        &self,
        hook: &Path,
        settings: &Settings,
        state: &StateRoot,
    ) -> Result<Monitored, LaunchError> {
        Monitored::new(hook, settings, state, self.trust())
    }

    /// Runs a hook unconfined, and notes what its settings would have refused. If it cannot be watched, a note says so.
    pub(super) fn run_monitored(&self, call: &Call<'_>, monitored: &Monitored) -> Result<Completion, LaunchError> {
        let unwatched = |mut completion: Completion, why: &str| {
            completion.notes.push(format!("hookvisor could not watch what `confine = true` would refuse: {why}"));
            completion
        };
        let Some(strace) = self.find(STRACE) else {
            return Ok(unwatched(self.run_hook(call, None)?, &format!("{NO_STRACE}: run `apt install strace`")));
        };
        let Watched { mut completion, needs } = self.trace(call, &strace)?;
        let Some(needs) = needs else { return Ok(unwatched(completion, NO_TRACING)) };
        completion.notes.extend(monitored.refused(call, &needs));
        Ok(completion)
    }

    /// Runs a hook under strace, which is a child of the hook here: the hook's end is its own, and what it leaves running is not
    /// waited for.
    fn trace(&self, call: &Call<'_>, strace: &Path) -> Result<Watched, LaunchError> {
        let file = self.open(call.path)?;
        let content = call.content(&file);
        let hook = file.path;
        let output = memfd_create(TRACE, MFdFlags::MFD_CLOEXEC)
            .map_err(|errno| host_error("could not make a file for what strace writes", errno))?;
        let output_path = format!("/proc/{}/fd/{}", std::process::id(), output.as_raw_fd());
        let path = call.path.to_string_lossy();
        let mut arguments = vec![
            "-D",
            "-f",
            "-qq",
            "-y",
            "-s",
            "4096",
            "--seccomp-bpf",
            "-e",
            trace::CALLS,
            "-o",
            &output_path,
            "--",
            &path,
        ];
        arguments.extend(call.arguments);
        let completion = self.run_hook(
            &Call {
                path: strace,
                hook: call.hook,
                arguments: &arguments,
                stdin: call.stdin.clone(),
                env: call.env,
                deadline: call.deadline.clone(),
                limits: call.limits,
                keep_stdout: call.keep_stdout,
                watch: None,
                digest: None,
            },
            None,
        )?;
        let completion = Completion { sha256: content.map(Content::digest), ..completion };
        let written = read(File::from(output))
            .map_err(|error| LaunchError::Host { what: "could not read what strace wrote", why: error.to_string() })?;
        let own: Vec<PathBuf> =
            needs::executes(&hook, &[], self.search()).iter().filter_map(|path| path.canonicalize().ok()).collect();
        let needs = (!written.is_empty()).then(|| trace::read(&written, &hook, &own));
        Ok(Watched { completion, needs })
    }

    fn find(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(self.search()).map(|directory| directory.join(program)).find(|path| path.is_file())
    }
}

fn read(mut file: File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
