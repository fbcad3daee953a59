//! One call of a hook: a new instance, run to its end.

use std::any::Any;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::task::Wake;

use wasmtime::{Engine, Extern, Store, UpdateDeadline, WasmBacktrace, format_err};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

use super::block_on::block_on;
use super::commands::Commands;
use super::context;
use super::ending::{Ended, Failure};
use super::error::refused;
use super::grants;
use super::root::Root;
use super::sandbox::{Linked, LinkedModule, NO_START, Sandbox};
use super::secrets;
use super::store::{MemoryQuota, StoreData};
use super::streams::{Output, StandardStreams, Stdin};
use super::strings::Strings;
use crate::backend::broker::Broker;
use crate::backend::{Call, Completion, Program, check_deadline};
use crate::capture::Capture;
use crate::hook::error::LaunchError;
use crate::hook::settings::grants::lines_to_grant_directory;
use crate::hook::settings::{Settings, with_variables};
use crate::hook::state::{State, StateRoot};
use crate::hook::trust::Trust;
use crate::hook::walk::OneLook;
use crate::report::termination::Termination;

/// The maximum number of bytes that one host function call may copy from the guest.
const MOST_COPIED: usize = 128 << 20;

/// A loaded hook.
pub(super) struct WasmHook {
    pub(super) sha256: String,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) program: Linked,
    /// Whether the program can name a file.
    pub(super) names_files: bool,
    /// The limit for all its memories together, in bytes.
    pub(super) memory: usize,
    pub(super) settings: Arc<Settings>,
    pub(super) settings_file: Arc<Path>,
    /// Runs the guest's commands.
    pub(super) launcher: Arc<dyn Program>,
    pub(super) trust: Trust,
    pub(super) state: StateRoot,
}

impl Program for WasmHook {
    fn sha256(&self) -> Option<String> {
        Some(self.sha256.clone())
    }

    fn run(&self, call: &Call<'_>) -> Result<Completion, LaunchError> {
        OneLook::end_all();
        let (stdout, stderr) = (Capture::beginning(call.keep_stdout), Capture::both_ends(call.limits.stderr));
        let (stdout, stderr) = (Output::new(stdout), Output::new(stderr));
        // Wait for a slot first, so that a waiting call holds no descriptors.
        let _permit = match self.sandbox.slots.take(&call.deadline) {
            Ok(permit) => permit,
            Err(expired) => {
                let notes = vec!["timed out waiting for a free slot: too many sandboxed hooks ran at once".to_owned()];
                let termination = expired.into();
                return Ok(Completion {
                    termination,
                    stdout: stdout.finish(),
                    stderr: stderr.finish(),
                    stdout_held: false,
                    notes,
                    sha256: None,
                });
            }
        };
        let streams = StandardStreams::new(Stdin::new(call.stdin.clone()), stdout.clone(), stderr.clone());
        let mut store = self.store(call, streams)?;
        let sandbox = &*self.sandbox;
        let epoch = sandbox.epoch.watch(&call.deadline);
        let interrupts = call.deadline.wakes(|| Arc::new(Interrupt(sandbox.engine.clone())).into());
        let run = || block_on(execute(&self.program, &mut store), sandbox.epoch.reactor(), call);
        // wasmtime-wasi panics if it cannot start a thread to open a file. The store is not used after a panic.
        let outcome = catch_unwind(AssertUnwindSafe(run)).map_err(|panic| panicked(&*panic))?;
        drop((epoch, interrupts));
        let (quota, mut notes, ungranted) = store.into_data().into_parts();
        let (stdout, stderr) = (stdout.finish(), stderr.finish());
        let termination = match outcome {
            Err(expired) => expired.into(),
            Ok(Ok(termination)) => termination,
            Ok(Err(failure)) => Ended {
                stderr: &stderr.bytes,
                quota: &quota,
                memory: self.memory,
                settings_file: &self.settings_file,
                notes: &mut notes,
            }
            .failed(failure)?,
        };
        if !termination.is_success() {
            let file = self.settings_file.display();
            notes.extend(ungranted.iter().map(|(directory, writes)| {
                format!(
                    "it is not granted the directory {directory}; to allow it, add to {file}:{}",
                    lines_to_grant_directory(directory, *writes)
                )
            }));
        }
        Ok(Completion { termination, stdout, stderr, stdout_held: false, notes, sha256: None })
    }
}

/// What the settings give a guest in addition to its streams.
struct Granted {
    wasi: WasiCtxBuilder,
    root: Option<Root>,
    secrets: Option<OwnedFd>,
}

impl WasmHook {
    /// Creates the store with the grants and limits of this call.
    fn store(&self, call: &Call<'_>, streams: StandardStreams) -> Result<Store<StoreData>, LaunchError> {
        let state = self.settings.state.then(|| self.state.open(call.hook, None, self.trust)).transpose()?;
        let more = state.iter().map(State::variable).chain(secrets::variables(&self.settings.secrets)).collect();
        let env = &with_variables(call.env, more);
        let (mut arguments, mut environment) = (Strings::default(), Strings::default());
        arguments.push(&[call.path.to_string_lossy().as_bytes()]);
        call.arguments.iter().for_each(|argument| arguments.push(&[argument.as_bytes()]));
        env.iter().for_each(|(name, value)| environment.push(&[name.as_bytes(), b"=", value.as_bytes()]));
        let granted = self.is_granted_any(call).then(|| self.grant(call, &streams, state.as_ref())).transpose()?;
        let hook = Arc::<Path>::from(call.hook);
        let launcher = Arc::clone(&self.launcher);
        let broker = Broker::new(Arc::clone(&self.settings), Arc::clone(&self.settings_file), call);
        let commands = Commands::new(launcher, broker, self.trust, call, Arc::clone(&hook));
        let quota = MemoryQuota::new(self.memory, call.limits.table_elements);
        let mut data = StoreData::new(Arc::clone(&hook), (arguments, environment), streams, quota, Some(commands));
        if let Some(Granted { mut wasi, root, secrets }) = granted {
            if matches!(self.program, Linked::Component(_)) {
                wasi.arg(call.path.to_string_lossy()).args(call.arguments).envs(env);
            }
            (data.wasi, data.root, data.secrets) = (Some(context::build(wasi)), root, secrets);
        }
        let mut store = Store::new(&self.sandbox.engine, data);
        store.set_hostcall_fuel(self.memory.min(MOST_COPIED));
        store.limiter(|data| &mut data.quota);
        store.set_epoch_deadline(1);
        let deadline = call.deadline.clone();
        store.epoch_deadline_callback(move |_| {
            check_deadline(&deadline, &hook)?;
            // Another call's deadline changed the epoch.
            Ok(UpdateDeadline::Continue(1))
        });
        Ok(store)
    }

    /// Whether the guest may reach more than its streams. If not, its context is created when it is needed, which is rare.
    fn is_granted_any(&self, call: &Call<'_>) -> bool {
        let Settings { state, directories, connections, secrets, .. } = &*self.settings;
        let is_granted = *state || !directories.is_empty() || !connections.is_empty() || !secrets.is_empty();
        is_granted || self.names_files || call.watch.is_some() || matches!(self.program, Linked::Component(_))
    }

    fn grant(&self, call: &Call<'_>, streams: &StandardStreams, state: Option<&State>) -> Result<Granted, LaunchError> {
        let mut wasi = context::with_streams(streams);
        let mut directories = grants::apply(&self.settings, self.trust, call, &mut wasi)?;
        if let Some(state) = state {
            grants::preopen(&mut wasi, &state.directory, state.path.to_string_lossy(), FsPerms::ReadWrite)
                .map_err(|why| refused(format!("its directory {} cannot be used: {why}", state.path.display())))?;
            directories += 1;
        }
        let secrets = secrets::apply(&self.settings.secrets, self.trust, &mut wasi)?;
        directories += usize::from(secrets.is_some());
        let has_root = self.settings.directories.iter().any(|directory| directory.guest(&directory.host) == "/");
        let needs_root = self.names_files && !has_root;
        let root = if needs_root { Root::add(&mut wasi, directories, call.watch.as_ref()) } else { None };
        Ok(Granted { wasi, root, secrets })
    }
}

fn panicked(panic: &(dyn Any + Send)) -> LaunchError {
    let why = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let why = why.unwrap_or("no reason given").replace('\n', "; ");
    LaunchError::Host { what: "the sandbox has failed", why }
}

/// Makes a busy guest check its deadline.
struct Interrupt(Engine);

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.0.increment_epoch();
    }
}

/// Instantiates the program and runs it. `Ok` means that it returned.
async fn execute(program: &Linked, store: &mut Store<StoreData>) -> Result<Termination, Failure> {
    match program {
        Linked::Module(LinkedModule { module, start, memory }) => {
            let instance = module.instantiate_async(&mut *store).await.map_err(Failure::Instantiating)?;
            let memory = memory.and_then(|memory| instance.get_module_export(&mut *store, &memory)?.into_memory());
            let start = instance.get_module_export(&mut *store, start).and_then(Extern::into_func);
            let start = start.ok_or_else(|| format_err!("{NO_START}")).and_then(|start| start.typed::<(), ()>(&*store));
            let start = start.map_err(Failure::Instantiating)?;
            // The guest is not running yet, so this backtrace is empty.
            let no_backtrace = WasmBacktrace::capture(&*store);
            (store.data_mut().memory, store.data_mut().no_backtrace) = (memory, Some(no_backtrace));
            start.call_async(store, ()).await.map_err(Failure::Running)?;
            Ok(Termination::Exited(0))
        }
        Linked::Component(component) => {
            let command = component.instantiate_async(&mut *store).await.map_err(Failure::Instantiating)?;
            let ran = command.wasi_cli_run().call_run(store).await.map_err(Failure::Running)?;
            Ok(Termination::Exited(if ran.is_ok() { 0 } else { 1 }))
        }
    }
}
