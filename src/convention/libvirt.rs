//! libvirt's drivers and operations, as its 11.3.0 calls them (src/util/virhook.c and the drivers).

use super::rules::{AfterVeto, Convention, Operation};
use crate::document::Format;

/// The drivers that libvirt calls hooks of, by the names of their files in its hooks directory.
pub const LIBVIRT_DRIVERS: [&str; 6] = ["daemon", "qemu", "lxc", "libxl", "bhyve", "network"];

/// libvirt runs every script of a driver and keeps the failure: each hook so sees the `stopped` and `release` that
/// belong to the `prepare` it saw.
pub(super) static LIBVIRT: Convention = Convention { drivers: &LIBVIRT_DRIVERS, after_veto: AfterVeto::RunAll, rules };

fn rules(driver: &str, operation: &str) -> Option<Operation> {
    Some(match (driver, operation) {
        ("daemon", "start") => Operation::shutdown("-"),
        ("daemon", "shutdown") => Operation::shutdown("-"),
        ("daemon", "reload") => Operation::shutdown("begin"),
        ("qemu" | "lxc" | "libxl" | "bhyve", "prepare" | "start" | "started") => Operation::start("begin"),
        ("qemu" | "lxc" | "libxl" | "bhyve", "stopped" | "release") => Operation::shutdown("end"),
        ("qemu" | "libxl", "migrate") => Operation::filter("begin", Format::Xml),
        ("qemu", "restore") => Operation::filter("begin", Format::Xml),
        ("qemu" | "lxc" | "libxl", "reconnect") => Operation::start("begin"),
        ("qemu", "attach") => Operation::start("begin"),
        ("network", "start" | "started" | "port-created") => Operation::start("begin"),
        ("network", "stopped") => Operation::shutdown("end"),
        ("network", "port-deleted" | "updated") => Operation::shutdown("begin"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::event::Event;

    /// The table of the contract's section 9, word for word; then what it leaves out.
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
        // An operation that libvirt may gain can veto, and is never taken for a filter.
        table.push((&["qemu", "network", "daemon"], "no-such-operation", "- start"));
        table.push((&["lxc", "bhyve"], "restore", "- start"));
        for (drivers, operation, expected) in table {
            for driver in drivers {
                assert_eq!(seen(driver, operation).as_deref(), Ok(expected), "{driver} {operation}");
            }
        }
    }
}
