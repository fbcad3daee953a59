//! Called by a driver's name, as from the link `/etc/libvirt/hooks/qemu`: libvirt's hook of that driver.
//!
//! Nothing but a filter's document ever goes to standard output, where libvirt would take it for one. What fails goes to
//! standard error, which libvirt puts into its own error, and the exit status is never 0 then.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use hookvisor::{Config, Event, LIBVIRT_DRIVERS, RuntimeBuilder};

#[cfg(feature = "wasm")]
use super::cache::CacheArgs;
use super::interrupt::Interrupts;
use super::layout::Layout;
use super::streams::{complain, document, texts, unbuffered};
use super::{log, record};

/// A driver's hook of one installation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DriverLink {
    driver: &'static str,
    layout: Layout,
}

impl DriverLink {
    /// The hook that this program is by its name; `None` if that is no driver's.
    pub(super) fn called_as(name: &OsStr) -> Option<Self> {
        let path = Path::new(name);
        let own = path.file_name()?;
        let driver = LIBVIRT_DRIVERS.into_iter().find(|driver| own == OsStr::new(driver))?;
        Some(Self { driver, layout: Layout::of_libvirt_hook(path) })
    }

    /// Does what libvirt calls the hook for, and returns the exit status.
    pub(super) fn run(&self, arguments: impl Iterator<Item = OsString>) -> anyhow::Result<u8> {
        let config = Config::read(&self.layout.config())?;
        log::as_configured(config.log.as_ref())?;
        let event = self.event(&texts(arguments)?)?.with_document(document()?);
        let interrupts = Interrupts::catch()?;
        let record = record::of(&self.layout, &config).map(|record| record.caller("libvirt"));
        let runtime =
            config.runtime().only_driver(self.driver).any_operation().cancel(&interrupts.cancel).for_one_event();
        let runtime = record.into_iter().fold(runtime, RuntimeBuilder::record);
        #[cfg(feature = "wasm")]
        let runtime = {
            let cache = config.cache.or_else(|| self.layout.cache());
            CacheArgs::at(cache).when_needed().into_iter().fold(runtime, RuntimeBuilder::cache)
        };
        let runtime = runtime.build()?;
        #[cfg(all(feature = "wasm", not(feature = "compiler")))]
        if runtime.lacks_compiled_code() {
            super::full::take_over(event.document());
        }
        let report = runtime.run(&event);
        // The process ends here, and all that it has with it: nothing is gained by taking it apart first.
        std::mem::forget(runtime);
        complain(&report.to_text());
        if let Some(document) = &report.document {
            let handed = unbuffered(&io::stdout()).and_then(|mut stdout| stdout.write_all(document));
            handed.context("libvirt did not take the document that the hooks made")?;
        }
        interrupts.obey()?;
        Ok(report.exit_status())
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
