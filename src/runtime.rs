//! The runtime: selects the hooks of an event and decides from their results. Pipes and WebAssembly are the back-ends' part.

mod backends;
pub(crate) mod builder;
pub(crate) mod call;
mod decide;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod guest;
mod hooks;
pub(crate) mod inventory;
mod load;
mod mistakes;
#[cfg(feature = "async")]
mod nonblocking;
mod options;
mod parallel;
mod shared;

use std::fmt;
use std::sync::Arc;

use self::inventory::Inventory;
use self::shared::Shared;
use crate::hook::discovery::LoadError;
use crate::limits::Limits;
use crate::observe;

/// Runs the hooks of a directory.
///
/// Building the runtime finds and checks the hooks and compiles WebAssembly modules. Later changes take effect after
/// [`reload`](Runtime::reload). An edit to a script takes effect at its next call.
///
/// `Runtime` is a handle: a clone is cheap and refers to the same runtime. Many threads can use it at once. Calls do not wait
/// for each other unless [`max_in_flight`](crate::RuntimeBuilder::max_in_flight) is set. Every call blocks its thread until the
/// hooks have ended; [`Limits`] bounds that time. In async code, use the `_async` methods (feature `async`) or a thread that
/// may block. A blocking call inside an async task does not panic.
///
/// A runtime belongs to the process that built it. In a fork it refuses every event, because the fork lacks the threads that end
/// hooks in time. Build another one there: after daemonizing, not before.
///
/// ```no_run
/// use hookvisor::{Event, Runtime, Verdict};
///
/// let runtime = Runtime::open("/etc/mydaemon/hooks")?;
/// let start = Event::new("mydaemon", "web1", "start")?.with_document("{\"memory\": 512}");
/// match runtime.start(&start) {
///     Verdict::Proceed(_) => { /* start the guest */ }
///     Verdict::Vetoed(veto) => eprintln!("{veto}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

impl Runtime {
    /// Reloads the hooks from the directory. Running calls finish with the hooks that they started with.
    ///
    /// It can be called from any thread at any time. An event runs either with the old set of hooks or with the new one, never
    /// with a mix.
    ///
    /// ```no_run
    /// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
    /// // On SIGHUP:
    /// if let Err(error) = runtime.reload() {
    ///     eprintln!("reload failed, the old hooks stay: {error}");
    /// }
    /// # Ok::<(), hookvisor::LoadError>(())
    /// ```
    ///
    /// # Errors
    /// The same as [`RuntimeBuilder::build`](crate::RuntimeBuilder::build). On an error, the old hooks stay in use.
    pub fn reload(&self) -> Result<(), LoadError> {
        let reloaded = self.0.reload();
        observe::reloaded(reloaded.is_ok());
        reloaded
    }

    /// Whether a hook is missing from the cache. Only a build with a compiler can run such a hook.
    #[cfg(all(feature = "wasm", not(feature = "compiler")))]
    #[must_use]
    pub fn lacks_compiled_code(&self) -> bool {
        self.0.hooks().lack_compiled_code()
    }

    /// The limits for hooks whose settings have none.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Lists the contents of the hooks directory and how each file is treated.
    ///
    /// ```no_run
    /// # let runtime = hookvisor::Runtime::open("/etc/mydaemon/hooks")?;
    /// for hook in runtime.inventory().hooks {
    ///     println!("{} {}: {}", hook.driver, hook.path.display(), hook.reason.unwrap_or("will be called".into()));
    /// }
    /// # Ok::<(), hookvisor::LoadError>(())
    /// ```
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let shared = &*self.0;
        let is_known = |driver: &str| mistakes::is_known(driver, &shared.conventions, &shared.known_drivers);
        Inventory::new(&shared.directory, &shared.hooks(), |driver| shared.limits_of(driver), is_known)
    }

    /// The driver that this name is probably a typo of; `None` for a known driver. The known drivers are those of
    /// [`known_drivers`](crate::RuntimeBuilder::known_drivers) and those with a [`Convention`](crate::Convention). A name without
    /// hooks is also compared with the names in the hooks directory.
    #[must_use]
    pub fn similar_driver(&self, name: &str) -> Option<String> {
        let shared = &*self.0;
        let (conventions, known) = (&shared.conventions, shared.known_drivers.as_slice());
        if mistakes::is_known(name, conventions, known) {
            return None;
        }
        let similar = mistakes::similar_driver(name, conventions, known).map(str::to_owned);
        let has_hooks = || !shared.hooks().of_driver(name).is_empty();
        similar.or_else(|| if has_hooks() { None } else { mistakes::similar_in(&shared.directory, name) })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("directory", &self.0.directory).finish_non_exhaustive()
    }
}
