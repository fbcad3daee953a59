//! `env_file`: secret variables, for every kind of hook.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use hookvisor::Report;

use crate::support::program::Ran;
use crate::support::{DRIVER, Hooks, event, needs_root, start};

/// A hook that fails and prints its environment, with settings that name a file of variables.
fn hooks(more: &str) -> (Hooks, PathBuf) {
    let hooks = Hooks::new().script(DRIVER, "echo \"TOKEN is <$TOKEN>, MODE is <$MODE>\" >&2; exit 3");
    let secrets = hooks.file("secrets", "# not for others\nTOKEN=s3cret = \"x\"\n", 0o600);
    hooks.file(
        "test.toml",
        format!("env = {{ MODE = 'strict' }}\nenv_file = '{}'\n{more}\n", secrets.display()),
        0o644,
    );
    (hooks, secrets)
}

fn said(report: &Report) -> String {
    String::from_utf8_lossy(&report.hooks[0].stderr).into_owned()
}

/// The number of times that a command opens the file, according to strace.
fn opened(hooks: &Hooks, arguments: &[&str]) -> usize {
    let mut strace = crate::support::program::command("strace");
    let trace = hooks.path().join(".trace");
    strace.args(["-f", "-e", "trace=openat", "-o"]).arg(&trace).arg(env!("CARGO_BIN_EXE_hookvisor")).args(arguments);
    strace.output().unwrap();
    fs::read_to_string(trace)
        .unwrap()
        .lines()
        .filter(|line| line.contains("variables\"") && !line.contains("O_PATH"))
        .count()
}

#[test]
fn a_single_event_reads_it_once() {
    let traces = std::process::Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !traces.is_ok_and(|status| status.success()) {
        return crate::support::skip("env_file: reads", "strace is not installed, or may not trace here");
    }
    // Elsewhere, since `list` also looks at what is in the hooks directory.
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("variables");
    fs::write(&file, "TOKEN=s3cret\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    hooks.file("test.toml", format!("env_file = '{}'\n", file.display()), 0o644);
    let directory = hooks.path().display().to_string();
    assert_eq!(opened(&hooks, &["list", "--hooks", &directory]), 1, "a fault is found before the first call");
    assert_eq!(opened(&hooks, &["run", "--hooks", &directory, DRIVER, "web1", "start"]), 1);
    assert_eq!(opened(&hooks, &["exec", &format!("{directory}/{DRIVER}")]), 1);
}

#[test]
fn its_lines_are_variables_of_the_hook_and_are_read_at_each_call() {
    let (hooks, secrets) = hooks("");
    let runtime = hooks.runtime();
    let called = || runtime.run(&event("web1", "start"));
    assert_eq!(said(&called()), "TOKEN is <s3cret = \"x\">, MODE is <strict>\n");
    fs::write(&secrets, "TOKEN=another\n").unwrap();
    assert_eq!(said(&called()), "TOKEN is <another>, MODE is <strict>\n");
    fs::remove_file(&secrets).unwrap();
    let report = called();
    let why = format!("could not be run: its `env_file` {}: there is no such file", secrets.display());
    assert!(report.exit_status() == 126 && report.to_string().contains(&why), "{report}");
}

#[test]
fn a_confined_hook_gets_them_and_cannot_open_the_file() {
    if !needs_root("env_file::a_confined_hook_gets_them_and_cannot_open_the_file") {
        return;
    }
    let (hooks, secrets) = hooks("confine = true");
    let script = format!("echo \"TOKEN is <$TOKEN>\" >&2; read -r line < {}; exit 3", secrets.display());
    let said = said(&start(&hooks.script(DRIVER, &script)));
    assert!(said.starts_with("TOKEN is <s3cret = \"x\">\n") && said.contains("Permission denied"), "{said}");
}

#[cfg(feature = "compiler")]
#[test]
fn a_webassembly_hook_gets_them() {
    let hooks = Hooks::new().copy("test.d/10@variables;exit=3", crate::support::guests::wasm_probe());
    let secrets = hooks.file("secrets", "TOKEN=s3cret\n", 0o600);
    hooks.file("test.d/10@variables;exit=3.toml", format!("env_file = '{}'\n", secrets.display()), 0o644);
    let report = start(&hooks);
    assert!(said(&report).contains("TOKEN=s3cret\n"), "{report}");
}

#[test]
fn a_fault_vetoes_is_found_beforehand_and_quotes_no_value() {
    type Fault = (&'static str, &'static str, fn(&PathBuf));
    let faults: [Fault; 7] = [
        ("0640", "it can be read by others (mode 0640): run `chmod 600 ", |secrets| mode(secrets, 0o640)),
        ("0604", "it can be read by others (mode 0604): run `chmod 600 ", |secrets| mode(secrets, 0o604)),
        ("gone", "there is no such file", |secrets| fs::remove_file(secrets).unwrap()),
        ("a directory", "it is a directory", |secrets| {
            fs::remove_file(secrets).unwrap();
            fs::create_dir(secrets).unwrap();
        }),
        ("no variable", "line 1: it has no `=`", |secrets| fs::write(secrets, "s3cret\n").unwrap()),
        ("a name twice", "MODE is in `env` too: remove one of the two", |secrets| {
            fs::write(secrets, "MODE=s3cret").unwrap()
        }),
        ("too long", "it is longer than 64 KiB", |secrets| fs::write(secrets, "s3cret".repeat(20_000)).unwrap()),
    ];
    for (fault, why, make) in faults {
        let (hooks, secrets) = hooks("");
        make(&secrets);
        let Ran { status, stderr, .. } = hooks.call(&["run", DRIVER, "web1", "start"]);
        assert_eq!(status, 126, "{fault}: {stderr}");
        assert!(stderr.contains(&format!("could not be run: its `env_file` DIR/secrets: {why}")), "{fault}: {stderr}");
        let Ran { status, stdout, .. } = hooks.call(&["check"]);
        assert!(status == 1 && stdout.contains(why), "{fault}: {stdout}");
        assert!(!stderr.contains("s3cret") && !stdout.contains("s3cret"), "{fault}: {stderr}{stdout}");
    }
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    hooks.file("test.toml", "env_file = 'secrets'\n", 0o644);
    let report = start(&hooks).to_string();
    assert!(report.contains("line 1: \"secrets\" is not an absolute path"), "{report}");
}

fn mode(path: &PathBuf, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn root_reads_none_that_another_user_could_have_written() {
    if !needs_root("env_file::root_reads_none_that_another_user_could_have_written") {
        return;
    }
    let (hooks, secrets) = hooks("");
    std::os::unix::fs::chown(&secrets, Some(1234), None).unwrap();
    let report = start(&hooks).to_string();
    assert!(report.contains("it is owned by user 1234"), "{report}");
    let (hooks, secrets) = self::hooks("");
    let theirs = hooks.path().join("theirs");
    fs::rename(&secrets, &theirs).unwrap();
    symlink(&theirs, &secrets).unwrap();
    std::os::unix::fs::lchown(&secrets, Some(1234), None).unwrap();
    let report = start(&hooks).to_string();
    assert!(report.contains("is a link that is owned by user 1234"), "{report}");
    // A hook that another user could have written gets no secrets of root.
    let (hooks, _) = self::hooks("");
    std::os::unix::fs::chown(hooks.path(), Some(1234), None).unwrap();
    let Ran { stderr, .. } = hooks.exec(DRIVER, &[], "");
    assert!(!stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn listings_name_the_file_and_never_a_value() {
    let (hooks, _) = hooks("");
    for subcommand in ["list", "check"] {
        for format in ["text", "json"] {
            let Ran { stdout, .. } = hooks.call(&[subcommand, "--format", format]);
            assert!(stdout.contains("see the variables in DIR/secrets") && !stdout.contains("s3cret"), "{stdout}");
        }
    }
    let Ran { stdout, .. } = hooks.call(&["explain", DRIVER, "web1", "start"]);
    assert!(stdout.contains("see the variables in DIR/secrets") && !stdout.contains("s3cret"), "{stdout}");
}
