//! libvirt's hook, when the program is called by a driver's name such as `/etc/libvirt/hooks/qemu`.
//!
//! libvirt reads stdout as the new document, so only a filter's document goes there. Failures go to stderr, which libvirt
//! quotes in its own error, with a nonzero exit status.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hookvisor::{Config, Decision, Event, LIBVIRT_DRIVERS, OneLook, RuntimeBuilder};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;
use super::interrupt::Interrupts;
use super::layout::Layout;
use super::streams::{complain, document, lines, texts, unbuffered};
use super::{log, record};

/// The argument that the launcher passes before its own name.
pub(super) const LAUNCHED: &str = "libvirt-hook";

/// The hook of one driver in one installation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DriverLink {
    driver: &'static str,
    path: PathBuf,
    layout: Layout,
}

impl DriverLink {
    /// The hook for this program name; `None` if the name is not a driver's.
    pub(super) fn called_as(name: &OsStr) -> Option<Self> {
        let path = Path::new(name);
        let own = path.file_name()?;
        let driver = LIBVIRT_DRIVERS.into_iter().find(|driver| own == OsStr::new(driver))?;
        Some(Self { driver, path: path.to_owned(), layout: Layout::of_libvirt_hook(path) })
    }

    /// Whether the guest is already running, so that libvirt would destroy it if this failed.
    pub(super) fn guest_is_running(&self, arguments: &[OsString]) -> bool {
        let operation = arguments.get(1).and_then(|operation| operation.to_str()).unwrap_or_default();
        Event::new(self.driver, "-", operation).is_ok_and(|event| event.guest_is_running())
    }

    /// Runs the hooks for libvirt's event and returns the exit status.
    pub(super) fn run(&self, arguments: Vec<OsString>) -> anyhow::Result<u8> {
        self.refuse_loop()?;
        // From here to the launch of the first hook.
        let _one_look = OneLook::begin();
        let file = self.layout.config();
        let (config, mut fault) = match Config::read(&file) {
            Ok(config) => (config, None),
            Err(error) => (Config::despite_errors(&file), Some(error.to_string())),
        };
        log::as_configured(config.log.as_ref());
        let event = self.event(&texts(arguments.into_iter())?)?.with_document(document()?);
        let interrupts = Interrupts::catch()?;
        let builder = || self.builder(&config, &interrupts);
        let built = match &fault {
            None => builder().build().inspect_err(|error| fault = Some(error.to_string())).ok(),
            Some(_) => None,
        };
        let runtime = match (built, &fault) {
            (Some(runtime), _) => runtime,
            (None, why) => builder().refuse_starts(why.clone().unwrap_or_default()).build()?,
        };
        #[cfg(all(feature = "wasm", not(feature = "compiler")))]
        if runtime.lacks_compiled_code() {
            super::full::take_over(event.document());
        }
        let mut report = runtime.run(&event);
        // The process is about to exit: dropping the runtime would only cost time.
        std::mem::forget(runtime);
        interrupts.release()?;
        let mut status = report.exit_status();
        if let Some(why) = fault {
            log::failed(&why);
            report.refused = None;
            if report.decision == Decision::Notified {
                // The fault is reported and recorded, and every hook has run.
                status = report.exit_status();
            }
        }
        // libvirt puts this into its own error, which virsh shows on a terminal.
        complain(lines(report.shown()).as_bytes());
        if let Some(document) = &report.document {
            let handed = unbuffered(&io::stdout()).and_then(|mut stdout| stdout.write_all(document));
            handed.context("the new document could not be written to libvirt")?;
        }
        interrupts.obey()?;
        Ok(status)
    }

    fn builder(&self, config: &Config, interrupts: &Interrupts) -> RuntimeBuilder {
        let record = record::of(&self.layout, config).map(|record| record.caller("libvirt"));
        let runtime =
            config.runtime().only_driver(self.driver).any_operation().cancel(&interrupts.cancel).for_one_event();
        let runtime = record.into_iter().fold(runtime, RuntimeBuilder::record);
        let kept = self.layout.kept_hooks(self.driver);
        let runtime = kept.into_iter().fold(runtime, |runtime, path| runtime.run_first(self.driver, path));
        #[cfg(feature = "wasm")]
        let runtime = {
            let cache = config.cache.clone().or_else(|| self.layout.cache());
            CacheArgs::at(cache).when_needed().into_iter().fold(runtime, RuntimeBuilder::cache)
        };
        #[cfg(feature = "compiler")]
        let runtime = runtime.compiler(hookvisor::Compiler::this_program());
        runtime
    }

    /// Refuses a kept hook that links back to hookvisor, which would recurse forever.
    fn refuse_loop(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            !Layout::keeps(&self.path),
            "{} is a link that leads back to hookvisor: make it a link to the script itself",
            self.path.display()
        );
        Ok(())
    }

    fn event(&self, arguments: &[String]) -> anyhow::Result<Event> {
        let [object, operation, sub_operation, extra] = arguments else {
            bail!(
                "called as libvirt's hook, {} takes OBJECT OPERATION SUB-OPERATION EXTRA, and got {} arguments",
                self.driver,
                arguments.len()
            );
        };
        Ok(Event::new(self.driver, object, operation)?.with_sub_operation(sub_operation)?.with_extra(extra)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_drivers_whole_name_makes_a_hook() {
        let driver = |name: &str| DriverLink::called_as(OsStr::new(name)).map(|hook| hook.driver);
        assert_eq!(driver("/etc/libvirt/hooks/qemu"), Some("qemu"));
        assert_eq!(driver("network"), Some("network"));
        for name in ["/usr/bin/hookvisor", "", "/", "qemu.d", "qemu/..", "QEMU", "/etc/libvirt/hooks/qemu.sh"] {
            assert_eq!(driver(name), None, "{name}");
        }
    }
}
