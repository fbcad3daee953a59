//! `disable` and `enable`: the hook is masked correctly, and restored exactly.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use hookvisor::{Decision, Disabled, disable_hook, enable_hook};

use crate::support::program::{Ran, hookvisor};
use crate::support::{DRIVER, Hooks, event};

impl Hooks {
    fn switch(&self, arguments: &[&str]) -> Ran {
        let (command, rest) = arguments.split_first().unwrap();
        self.ran(hookvisor().arg(command).arg("--hooks").arg(self.path()).args(rest))
    }
}

fn vetoing() -> Hooks {
    let hooks = Hooks::new().script("test.d/10-no", "exit 3");
    hooks.file("test.d/10-no.toml", "timeout = '5s'\n", 0o640);
    hooks
}

fn names(hooks: &Hooks) -> Vec<String> {
    let entries = fs::read_dir(hooks.path().join("test.d")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_disabled_hook_is_not_called_and_comes_back_as_it_was() {
    let hooks = vetoing();
    let hook = hooks.path().join("test.d/10-no");
    let before = fs::metadata(&hook).unwrap();
    assert_eq!(hooks.call(&["run", DRIVER, "web1", "start"]).status, 3);
    let disabled = hooks.switch(&["disable", "test.d/10-no", "--reason", "false alarm"]);
    assert_eq!((disabled.status, disabled.stdout.as_str()), (0, "disabled DIR/test.d/10-no\n"), "{}", disabled.stderr);
    assert_eq!(hooks.call(&["run", DRIVER, "web1", "start"]).status, 0);
    let checked = hooks.call(&["check"]);
    assert_eq!(checked.status, 0, "{}", checked.stdout);
    assert!(checked.stdout.contains("DIR/test.d/10-no: it was disabled by root: false alarm\n"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("ignored"), "{}", checked.stdout);
    let listed = hooks.call(&["list"]).stdout;
    assert!(listed.contains("DIR/test.d/10-no (skipped: it was disabled by root: false alarm)"), "{listed}");
    let json = hooks.call(&["run", "--format", "json", DRIVER, "web1", "start"]).stdout;
    assert!(json.contains("\"reason\":\"it was disabled by root: false alarm\""), "{json}");

    let enabled = hooks.switch(&["enable", "test.d/10-no"]);
    assert_eq!((enabled.status, enabled.stdout.as_str()), (0, "enabled DIR/test.d/10-no\n"));
    let after = fs::metadata(&hook).unwrap();
    let identity = |m: &fs::Metadata| (m.ino(), m.mode(), m.uid(), m.gid(), m.size(), m.mtime(), m.mtime_nsec());
    assert_eq!(identity(&before), identity(&after));
    assert_eq!(names(&hooks), ["10-no", "10-no.toml"]);
    assert_eq!(hooks.call(&["run", DRIVER, "web1", "start"]).status, 3);
}

#[test]
fn a_hook_that_is_a_link_stays_one() {
    let hooks = Hooks::new();
    hooks.file("real", "#!/bin/sh\nexit 3\n", 0o755);
    fs::create_dir(hooks.path().join("test.d")).unwrap();
    let hook = hooks.path().join("test.d/10-link");
    symlink("../real", &hook).unwrap();
    disable_hook(&hook, &Disabled::by("me")).unwrap();
    assert_eq!(hooks.runtime().run(&event("web1", "start")).decision, Decision::Proceed);
    enable_hook(&hook).unwrap();
    assert_eq!(fs::read_link(&hook).unwrap().to_str(), Some("../real"));
    assert_eq!(hooks.runtime().run(&event("web1", "start")).decision, Decision::Vetoed);
}

#[test]
fn a_failure_to_disable_or_enable_is_reported_and_changes_nothing() {
    let hooks = vetoing();
    let said = |arguments: &[&str]| {
        let before = names(&hooks);
        let ran = hooks.switch(arguments);
        assert_eq!((ran.status, ran.stdout.as_str()), (125, ""), "{arguments:?}");
        assert_eq!(names(&hooks), before);
        ran.stderr
    };
    let no_such = "there is no hook DIR/test.d/no-such: `hookvisor list` shows the hooks\n";
    assert!(said(&["disable", "test.d/no-such"]).ends_with(no_such));
    assert!(said(&["enable", "test.d/no-such"]).ends_with(no_such));
    assert!(said(&["disable", "10-no"]).ends_with("there is no hook DIR/10-no: did you mean test.d/10-no?\n"));
    let in_here = said(&["disable", "usr"]);
    assert!(in_here.ends_with("DIR/usr: for the file in the current directory, write ./usr\n"), "{in_here}");
    assert!(said(&["disable", "test.d"]).contains("DIR/test.d is a directory: name one hook"));
    assert!(said(&["enable", "test.d/10-no"]).contains("DIR/test.d/10-no is not disabled"));
    symlink("/dev/null", hooks.path().join("test.d/20-mask")).unwrap();
    assert!(said(&["disable", "test.d/20-mask"]).contains("is already masked by a link to /dev/null"));
    assert!(said(&["enable", "test.d/20-mask"]).contains("the link to /dev/null was made by hand"));
    assert_eq!(hooks.switch(&["disable", "test.d/10-no", "--until", "yesterday"]).status, 2);
    // A package has installed a new file in its place.
    hooks.switch(&["disable", "test.d/10-no"]);
    fs::remove_file(hooks.path().join("test.d/10-no")).unwrap();
    hooks.file("test.d/10-no", "#!/bin/sh\n", 0o755);
    assert!(said(&["enable", "test.d/10-no"]).contains("could not be enabled: another file is in its place"));
    assert!(said(&["disable", "test.d/10-no"]).contains("is left from an earlier disable"));
}

#[test]
fn once_the_time_is_over_the_hook_vetoes_again() {
    let hooks = vetoing();
    let hook = hooks.path().join("test.d/10-no");
    let until = |seconds| Disabled::by("me").until(SystemTime::now() + Duration::from_secs(seconds));
    disable_hook(&hook, &until(3600)).unwrap();
    let runtime = hooks.runtime();
    let report = runtime.run(&event("web1", "start"));
    assert_eq!(report.decision, Decision::Proceed);
    assert!(report.skipped[0].reason.starts_with("it was disabled by me until 20"), "{}", report.skipped[0].reason);
    // A disabled hook gets a new end time. A daemon that has not reloaded since then finds the hook enabled.
    let over = Disabled::by("me").until(SystemTime::now() - Duration::from_secs(1));
    disable_hook(&hook, &over).unwrap();
    assert_eq!(hooks.runtime().run(&event("web1", "start")).decision, Decision::Vetoed);
    assert_eq!(names(&hooks), ["10-no", "10-no.toml"]);

    // The end time also counts in a daemon that does not reload. It has whole seconds.
    disable_hook(&hook, &until(2)).unwrap();
    let runtime = hooks.runtime();
    assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Proceed);
    crate::support::wait_until("the time is over", || {
        runtime.run(&event("web1", "start")).decision == Decision::Vetoed
    });
    assert_eq!(names(&hooks), ["10-no", "10-no.toml"]);
}

#[test]
fn the_record_shows_who_disabled_an_installed_hook() {
    let hooks = vetoing();
    let config = hooks.file("config/hookvisor.toml", "hooks = '..'\n[history]\nfile = 'record'\n", 0o644);
    let call = |arguments: &[&str]| {
        let (subcommand, rest) = arguments.split_first().unwrap();
        hooks.ran(hookvisor().args([subcommand, "--config"]).arg(&config).args(rest))
    };
    let disabled = call(&["disable", "test.d/10-no", "--until", "in 2 hours", "--reason", "why not"]);
    assert_eq!((disabled.status, disabled.stderr.as_str()), (0, ""), "{}", disabled.stdout);
    let shown = call(&["history"]).stdout;
    assert!(shown.contains("test.d/10-no until 20") && shown.ends_with(": why not\n"), "{shown}");
    assert_eq!(call(&["run", "test", "web1", "start"]).status, 0);
    assert_eq!(call(&["enable", "test.d/10-no"]).status, 0);
    assert_eq!(call(&["run", "test", "web1", "start"]).status, 3);
    assert_eq!(call(&["history"]).stdout.lines().count(), 5, "{}", call(&["history"]).stdout);
    // With a broken configuration, the record can still be read.
    fs::write(&config, "hoooks = '..'\n[history]\nfile = 'record'\n").unwrap();
    let shown = call(&["history", "--last"]);
    assert!(shown.stderr.contains("unknown field `hoooks`") && shown.stderr.ends_with("record\n"), "{}", shown.stderr);
    assert_eq!(shown.status, 0);
    assert!(shown.stdout.contains("vetoed") && shown.stdout.contains("10-no"), "{}", shown.stdout);
}
