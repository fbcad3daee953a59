//! Reserves processors for one guest: the host's own processes leave them while it runs.
//!
//! For pinned guests (`<vcpu cpuset='2-7'>`). `HOST_CPUS` are the processors that the host keeps meanwhile, and
//! `ALL_CPUS` those that it has otherwise. It replaces `cpu-isolation.sh`; `cpu-isolation.toml` lists everything that
//! it may run.

use std::error::Error;

use hookvisor_guest::{Command, Event, Operation, Verdict, hook, setting};

/// The units of the host's own processes.
const UNITS: [&str; 3] = ["system.slice", "user.slice", "init.scope"];

fn main() -> Verdict {
    hook(decide)
}

fn decide(event: &Event) -> Result<Verdict, Box<dyn Error>> {
    let name = match event.operation() {
        Operation::Prepare => "HOST_CPUS",
        Operation::Release => "ALL_CPUS",
        _ => return Ok(Verdict::proceed()),
    };
    if event.domain()?.vcpu()?.cpuset.is_none() {
        return Ok(Verdict::proceed());
    }
    let cpus = setting(name).ok_or_else(|| format!("{name} is not set"))?;
    for unit in UNITS {
        // After a veto, `release` undoes what was done before it.
        Command::new("systemctl")
            .args(["set-property", "--runtime", "--", unit, &format!("AllowedCPUs={cpus}")])
            .run()?;
    }
    Ok(Verdict::proceed())
}

#[cfg(test)]
mod tests {
    use hookvisor_guest::testing::{Answer, Harness, Seen};

    use super::*;

    fn pinned() -> String {
        include_str!("../../../web1.xml").replace("<vcpu placement='static'>", "<vcpu placement='static' cpuset='2-7'>")
    }

    fn on(operation: Operation, document: &str) -> Harness {
        Harness::new(Event::new("web1", operation).with_document(document))
            .setting("HOST_CPUS", "0-1")
            .setting("ALL_CPUS", "0-7")
    }

    fn allow(harness: Harness, unit: &str, cpus: &str, answer: Answer) -> Harness {
        harness.command("systemctl", ["set-property", "--runtime", "--", unit, &format!("AllowedCPUs={cpus}")], answer)
    }

    fn run(operation: Operation, document: &str) -> Seen {
        let harness = on(operation, document);
        let allowed = UNITS.iter().flat_map(|unit| [(unit, "0-1"), (unit, "0-7")]);
        allowed.fold(harness, |harness, (unit, cpus)| allow(harness, unit, cpus, Answer::exited(0))).run(decide)
    }

    #[test]
    fn the_host_keeps_off_while_the_guest_runs() {
        for (operation, cpus) in [(Operation::Prepare, "0-1"), (Operation::Release, "0-7")] {
            let seen = run(operation, &pinned());
            assert_eq!(seen.verdict, Verdict::proceed());
            let expected = UNITS.map(|unit| format!("systemctl set-property --runtime -- {unit} AllowedCPUs={cpus}"));
            assert_eq!(seen.command_lines(), expected);
        }
    }

    #[test]
    fn other_guests_and_operations_change_nothing() {
        assert_eq!(run(Operation::Prepare, include_str!("../../../web1.xml")).commands, []);
        for operation in [Operation::Start, Operation::Started, Operation::Stopped, Operation::Reconnect] {
            assert_eq!(run(operation, &pinned()).commands, []);
        }
    }

    #[test]
    fn a_unit_that_cannot_be_moved_vetoes() {
        let harness = allow(on(Operation::Prepare, &pinned()), UNITS[0], "0-1", Answer::exited(0));
        let failed = Answer::exited(1).with_stderr("Failed to set unit properties: Access denied\n");
        let seen = allow(harness, UNITS[1], "0-1", failed).run(decide);
        assert_eq!(
            seen.verdict,
            Verdict::veto("systemctl exited with 1: Failed to set unit properties: Access denied")
        );
        assert_eq!(seen.commands.len(), 2);
    }

    #[test]
    fn without_its_settings_it_vetoes() {
        let event = Event::new("web1", Operation::Prepare).with_document(pinned());
        assert_eq!(Harness::new(event).run(decide).verdict, Verdict::veto("HOST_CPUS is not set"));
    }
}
