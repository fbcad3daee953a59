//! libvirt's drivers and operations, as in libvirt 11.3.0 (src/util/virhook.c and the drivers).

use super::rules::{AfterVeto, Convention, Operation};
use crate::document::DocumentFormat;

/// The drivers whose hooks libvirt calls. A driver's hook file in libvirt's hooks directory has its name.
pub const LIBVIRT_DRIVERS: [&str; 6] = ["daemon", "qemu", "lxc", "libxl", "bhyve", "network"];

pub(super) fn daemon() -> Convention {
    libvirt("daemon")
        .operation("start", Operation::shutdown())
        .operation("shutdown", Operation::shutdown())
        .operation("reload", Operation::shutdown().sub_operation("begin"))
        .ended_by("shutdown")
}

pub(super) fn qemu() -> Convention {
    guest("qemu")
        .operation("migrate", begin(Operation::filter(DocumentFormat::Xml)))
        .operation("restore", begin(Operation::filter(DocumentFormat::Xml)))
        .operation("reconnect", begin(Operation::start().guest_is_running()))
        .operation("attach", begin(Operation::start()))
}

pub(super) fn lxc() -> Convention {
    guest("lxc").operation("reconnect", begin(Operation::start().guest_is_running()))
}

pub(super) fn libxl() -> Convention {
    guest("libxl")
        .operation("migrate", begin(Operation::filter(DocumentFormat::Xml)))
        .operation("reconnect", begin(Operation::start().guest_is_running()))
}

pub(super) fn bhyve() -> Convention {
    guest("bhyve")
}

pub(super) fn network() -> Convention {
    libvirt("network")
        .operation("start", begin(Operation::start()))
        .operation("started", begin(Operation::start()))
        .operation("stopped", end(Operation::shutdown()))
        .operation("port-created", begin(Operation::start()))
        .operation("port-deleted", begin(Operation::shutdown()))
        .operation("updated", begin(Operation::shutdown()))
}

fn guest(driver: &'static str) -> Convention {
    libvirt(driver)
        .operation("prepare", begin(Operation::start()))
        .operation("start", begin(Operation::start()))
        .operation("started", begin(Operation::start()))
        .operation("stopped", end(Operation::shutdown()))
        .operation("release", end(Operation::shutdown()))
}

/// libvirt runs every script of a driver and keeps the failure. So each hook gets the `stopped` and `release` that
/// belong to the `prepare` that it got.
fn libvirt(driver: &'static str) -> Convention {
    Convention::new(driver).after_veto(AfterVeto::RunAll).closed()
}

fn begin(operation: Operation) -> Operation {
    operation.sub_operation("begin")
}

fn end(operation: Operation) -> Operation {
    operation.sub_operation("end")
}

#[cfg(test)]
mod tests {
    use crate::event::Event;

    /// libvirt's table, and operations that are not in it.
    #[test]
    fn every_operation_of_libvirt_has_its_stage_and_sub_operation() {
        let seen = |driver: &str, operation: &str| {
            let event = Event::new(driver, "-", operation).map_err(|e| e.to_string())?;
            let filter = if event.is_filter() { " filter" } else { "" };
            Ok::<_, String>(format!("{} {}{filter}", event.sub_operation(), event.stage()))
        };
        let guests = ["qemu", "lxc", "libxl", "bhyve"];
        let mut table: Vec<(&[&str], &str, &str)> = vec![
            (&["daemon"], "start", "- shutdown"),
            (&["daemon"], "shutdown", "- shutdown"),
            (&["daemon"], "reload", "begin shutdown"),
            (&guests, "prepare", "begin start"),
            (&guests, "start", "begin start"),
            (&guests, "started", "begin start"),
            (&guests, "stopped", "end shutdown"),
            (&guests, "release", "end shutdown"),
            (&["qemu", "libxl"], "migrate", "begin start filter"),
            (&["qemu"], "restore", "begin start filter"),
            (&["qemu", "lxc", "libxl"], "reconnect", "begin start"),
            (&["qemu"], "attach", "begin start"),
            (&["network"], "start", "begin start"),
            (&["network"], "started", "begin start"),
            (&["network"], "port-created", "begin start"),
            (&["network"], "stopped", "end shutdown"),
            (&["network"], "port-deleted", "begin shutdown"),
            (&["network"], "updated", "begin shutdown"),
        ];
        // An operation that libvirt does not have is never a filter.
        table.push((&["qemu", "network", "daemon"], "no-such-operation", "- start"));
        table.push((&["lxc", "bhyve"], "restore", "- start"));
        for (drivers, operation, expected) in table {
            for driver in drivers {
                assert_eq!(seen(driver, operation).as_deref(), Ok(expected), "{driver} {operation}");
            }
        }
    }
}
