//! The convention for a driver that no other one claims.

use super::rules::{AfterVeto, Convention, Operation};

pub(super) static GENERIC: Convention = Convention { drivers: &[], after_veto: AfterVeto::Stop, rules };

fn rules(_driver: &str, operation: &str) -> Option<Operation> {
    match operation {
        "prepare" | "start" | "started" => Some(Operation::start("-")),
        "stopped" | "shutdown" | "release" => Some(Operation::shutdown("-")),
        _ if operation.starts_with("pre-") => Some(Operation::start("-")),
        _ if operation.starts_with("post-") => Some(Operation::shutdown("-")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::event::Event;
    use crate::stage::Stage;

    #[test]
    fn what_has_happened_is_the_shutdown_stage_and_all_else_can_be_vetoed() {
        let stage = |operation| Event::new("podman", "web", operation).map(|e| e.stage());
        for operation in ["prepare", "start", "started", "pre-stop", "resize", "", "Stopped"] {
            assert_eq!(stage(operation), Ok(Stage::Start), "{operation}");
        }
        for operation in ["stopped", "shutdown", "release", "post-stop"] {
            assert_eq!(stage(operation), Ok(Stage::Shutdown), "{operation}");
        }
    }
}
