//! No start proceeds without asking: hooks that were not loaded, found or understood veto, or `check` reports them.

use hookvisor::{Cancel, Decision, Event, Runtime};

use crate::support::program::Ran;
use crate::support::{Hooks, event};

fn event_of(driver: &str) -> Event {
    Event::new(driver, "web1", "start").unwrap()
}

/// The decision and its reason.
fn refused(runtime: &Runtime, event: &Event) -> (Decision, u8, String) {
    let report = runtime.run(event);
    (report.decision, report.exit_status(), report.refused.unwrap_or_default())
}

#[test]
fn a_driver_whose_hooks_were_not_loaded_vetoes() {
    let hooks = Hooks::new().script("a", "exit 0").script("b", "exit 1");
    let runtime = hooks.builder().only_driver("a").build().unwrap();
    assert_eq!(refused(&runtime, &event_of("a")).0, Decision::Proceed);
    let why = "only the hooks of driver a are loaded, not those of b".to_owned();
    assert_eq!(refused(&runtime, &event_of("b")), (Decision::Vetoed, 125, why));
}

#[test]
fn a_cancelled_start_is_vetoed_although_no_hook_is_there() {
    let cancel = Cancel::new();
    let runtime = Hooks::new().builder().cancel(&cancel).build().unwrap();
    assert_eq!(runtime.run(&event("web1", "start")).decision, Decision::Proceed);
    cancel.cancel();
    let why = "the call was cancelled".to_owned();
    assert_eq!(refused(&runtime, &event("web1", "start")), (Decision::Vetoed, 125, why));
    assert_eq!(runtime.run(&event("web1", "stopped")).decision, Decision::Notified);
}

#[test]
fn an_unknown_driver_or_one_without_hooks_vetoes_if_configured() {
    let hooks = Hooks::new().script("mydaemon", "exit 0");
    let known = hooks.builder().known_drivers(["mydaemon"]).build().unwrap();
    assert_eq!(refused(&known, &event_of("mydaemon")).0, Decision::Proceed);
    let why = "driver mydeamon is not one of the known drivers (mydaemon)".to_owned();
    assert_eq!(refused(&known, &event_of("mydeamon")), (Decision::Vetoed, 125, why));

    let required = hooks.builder().require_hooks().build().unwrap();
    assert_eq!(refused(&required, &event_of("mydaemon")).0, Decision::Proceed);
    let (decision, status, why) = refused(&required, &event_of("mydeamon"));
    assert_eq!((decision, status), (Decision::Vetoed, 125));
    assert!(why.starts_with("there are no hooks for driver mydeamon in "), "{why}");
}

/// A guest can be called `--help`. Its hooks are still called.
#[test]
fn words_of_an_event_are_never_options() {
    let hooks = Hooks::new().script("qemu", "printf '<%s>' \"$@\" >&2; exit 9");
    for object in ["--help", "-h", "--hooks=/usr", "--timeout=1s", "--format=json", "--", "--version"] {
        let Ran { status, stderr, .. } = hooks.call(&["run", "qemu", object, "start", "begin", "-"]);
        assert_eq!(status, 9, "{object}: {stderr}");
        assert!(stderr.contains(&format!("<{object}><start><begin><->")), "{object}: {stderr}");
    }
    for argument in ["--help", "-h", "--cache=/tmp", "--", "--trust-grants"] {
        let Ran { status, stderr, .. } = hooks.exec("qemu", &[argument, "x"], "");
        assert_eq!(status, 9, "{argument}: {stderr}");
        assert!(stderr.contains(&format!("<{argument}><x>")), "{argument}: {stderr}");
    }
}

/// Names that libvirt allows for guests.
#[test]
fn a_guest_s_directory_is_its_own_whatever_its_name_looks_like() {
    for object in ["db.bak", "vm~", "x.toml", ".t", "a.swp", "b.rpmsave", "c.dpkg-old"] {
        let hooks = Hooks::new().script(&format!("qemu.d/{object}/start/begin/10-veto"), "exit 9");
        let ran = hooks.call(&["run", "qemu", object, "start"]);
        assert_eq!(ran.status, 9, "{object}: {}", ran.stderr);
    }
    // Files with such names are an editor's backups.
    let hooks =
        Hooks::new().script("qemu.d/10-veto.bak", "exit 9").script("qemu.d/web1/start/begin/10-veto~", "exit 9");
    assert_eq!(hooks.call(&["run", "qemu", "web1", "start"]).status, 0);
}

/// The exit status of `check`, and its lines about mistakes and failures.
fn check(hooks: &Hooks) -> (i32, String) {
    let ran = hooks.call(&["check"]);
    let lines = ran.stdout.lines().filter(|line| line.starts_with("MISTAKE") || line.starts_with("FAILS"));
    (ran.status, lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect())
}

#[test]
fn what_looks_misplaced_or_misspelt_is_found() {
    let found = |hooks: Hooks| check(&hooks);
    let mistake = |path: &str, why: &str| (1, format!("MISTAKE DIR/{path} {why}\n"));
    assert_eq!(
        found(Hooks::new().script("10-check.sh", "exit 1")),
        mistake("10-check.sh", "is not called: hooks are named after their driver, or are in <driver>.d")
    );
    assert_eq!(
        found(Hooks::new().script("10-check", "exit 1")),
        mistake("10-check", "is called for a driver 10-check: move it to <driver>.d if it is meant for another driver")
    );
    assert_eq!(
        found(Hooks::new().script("qemu.d/web1/10-check", "exit 1")),
        mistake("qemu.d/web1/10-check", "is not called: per-event hooks are in <object>/<operation>/<sub-operation>/")
    );
    assert_eq!(
        found(Hooks::new().script("qemu.d/web1/start/begin/more/10-check", "exit 1")),
        mistake("qemu.d/web1/start/begin/more", "is not called: it is a directory, not a hook")
    );
    assert_eq!(
        found(Hooks::new().script("qemu.d", "exit 1")),
        mistake("qemu.d", "is not called: it is a file, but this name is for a directory of hooks")
    );
    assert_eq!(
        found(Hooks::new().script("qemud.d/10-check", "exit 1")),
        mistake(
            "qemud.d/10-check",
            "is called for driver qemud: did you mean qemu? If so, rename it; otherwise add `known_drivers = [\"qemud\"]` to \
             hookvisor.toml"
        )
    );
    let (status, text) = found(Hooks::new().script("qemu.d/web1/strat/begin/10-check", "exit 1"));
    assert_eq!(status, 1);
    assert!(text.contains("is never called for driver qemu: driver qemu has no operation \"strat\""), "{text}");
    // A file that is not a hook.
    let hooks = Hooks::new().script("qemu.d/10-check", "exit 0");
    hooks.file("README.md", "", 0o644);
    hooks.file("qemu.d/web1/notes", "", 0o644);
    assert_eq!(check(&hooks), (0, String::new()));
}

#[test]
fn a_driver_or_an_operation_that_is_misspelt_does_not_proceed() {
    let hooks = Hooks::new().script("qemu", "exit 0");
    let ran = hooks.call(&["run", "qmeu", "web1", "start"]);
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("driver qmeu has no hooks: did you mean qemu?"), "{}", ran.stderr);
    let ran = hooks.call(&["run", "qemu", "web1", "prepair"]);
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.contains("driver qemu has no operation \"prepair\""), "{}", ran.stderr);
    // Any other name may be a driver.
    assert_eq!(hooks.call(&["run", "podman", "web1", "start"]).status, 0);
}

#[test]
fn settings_for_an_operation_that_the_driver_does_not_have_veto() {
    let hooks = Hooks::new().script("qemu.d/10-check", "exit 0");
    hooks.file("qemu.d/10-check.toml", "operations = ['strat']\n", 0o644);
    let ran = hooks.call(&["run", "qemu", "web1", "start"]);
    assert_eq!(ran.status, 126, "{}", ran.stderr);
    let why = "`operations` in DIR/qemu.d/10-check.toml: driver qemu has no operation \"strat\"";
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
    // The operations of other drivers are unknown.
    let hooks = Hooks::new().script("other.d/10-check", "exit 0");
    hooks.file("other.d/10-check.toml", "operations = ['strat']\n", 0o644);
    assert_eq!(hooks.call(&["run", "other", "web1", "start"]).status, 0);
}

#[test]
fn two_hooks_do_not_share_settings() {
    let hooks = Hooks::new().script("qemu.d/20-policy", "exit 0").script("qemu.d/20-policy.wasm", "exit 0");
    hooks.file("qemu.d/20-policy.toml", "operations = ['release']\n", 0o644);
    // 20-policy has its own 20-policy.toml only if no module has that name.
    let (_, text) = check(&hooks);
    assert!(text.is_empty() || text.contains("20-policy.wasm"), "{text}");
    let hooks = Hooks::new().script("qemu.d/20-policy.wasm", "exit 0").script("qemu.d/20-policy", "exit 0");
    hooks.file("qemu.d/20-policy.toml", "operations = ['release']\n", 0o644);
    let ran = hooks.call(&["run", "qemu", "web1", "start"]);
    assert_eq!(ran.status, 126, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("its settings DIR/qemu.d/20-policy.toml are also those of DIR/qemu.d/20-policy"),
        "{}",
        ran.stderr
    );
}

/// `set -u` in a shell that continues. A report of failures alone does not show this.
#[test]
fn what_a_successful_hook_writes_to_stderr_is_logged_and_shown_on_request() {
    let hooks = Hooks::new().script("test", "echo 'MODE: unbound variable' >&2; exit 0");
    let said = "succeeded and wrote to stderr: MODE: unbound variable";
    assert_eq!(hooks.call(&["run", "test", "web1", "start"]).stderr, "");
    assert!(hooks.call(&["run", "--verbose", "test", "web1", "start"]).stderr.contains(said));
    let mut logged = hooks.command("run");
    logged.env("HOOKVISOR_LOG", "info").arg("--hooks").arg(hooks.path()).args(["test", "web1", "start"]);
    let ran = hooks.ran(&mut logged);
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn the_values_of_variables_are_not_listed() {
    let hooks = Hooks::new().script("test", "exit 0");
    hooks.file("test.toml", "env = { TOKEN = 's3cret' }\n", 0o644);
    for format in ["text", "json"] {
        for subcommand in ["list", "check"] {
            let ran = hooks.call(&[subcommand, "--format", format]);
            assert!(ran.stdout.contains("TOKEN") && !ran.stdout.contains("s3cret"), "{}", ran.stdout);
        }
    }
}
