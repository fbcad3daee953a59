//! The command line: the arguments, output and exit status of each subcommand.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use insta::assert_snapshot;
use nix::pty::openpty;

use crate::support::program::{Ran, hookvisor};
use crate::support::{DRIVER, Hooks};

fn ran(status: i32, stdout: &str, stderr: &str) -> Ran {
    Ran { status, stdout: stdout.to_owned(), stderr: stderr.to_owned() }
}

/// Durations and process numbers differ between runs.
fn redacted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\"duration_us\":") {
        out += before;
        out += "\"duration_us\":…";
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[test]
fn success_is_silent() {
    let hooks = Hooks::new().script(DRIVER, "echo to nobody; echo a remark >&2; cat").script("test.d/10", "exit 0");
    // Masked on purpose, so it is not reported.
    symlink("/dev/null", hooks.path().join("test.d/20-packaged")).unwrap();
    assert_eq!(hooks.call(&["run", DRIVER, "web1", "start"]), ran(0, "", ""));
    assert_eq!(hooks.call(&["run", DRIVER, "web1", "stopped"]), ran(0, "", ""));
    assert_eq!(hooks.call(&["run", "another", "web1", "start"]), ran(0, "", ""));
}

#[test]
fn a_failure_is_one_entry_with_the_bytes_that_the_hook_wrote() {
    let hooks = Hooks::new().script(DRIVER, r"printf 'no \377\376 \303\274\0!\n\n' >&2; exit 1");
    let mut run = hooks.command("run");
    let output = run.arg("--hooks").arg(hooks.path()).args([DRIVER, "web1", "start"]).output().unwrap();
    let path = hooks.path().join(DRIVER);
    let mut entry =
        format!("Hook script execution failed: Hook script {} failed with error code 1: no ", path.display())
            .into_bytes();
    entry.extend_from_slice(b"\xff\xfe \xc3\xbc\0!\n");
    assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(1), Vec::new(), entry));
}

#[test]
fn the_exit_status_is_that_of_the_first_hook_that_failed() {
    for (body, status, said) in [
        ("exit 7", 7, "failed with error code 7 and wrote nothing to stderr"),
        ("exit 126", 126, "failed with error code 126 and wrote nothing to stderr"),
        ("exit 255", 255, "failed with error code 255 and wrote nothing to stderr"),
        ("kill -9 $$", 137, "killed by signal 9 (SIGKILL)"),
    ] {
        let hooks = Hooks::new().script(DRIVER, "exit 0").script("test.d/10", body).script("test.d/20", "exit 99");
        let entry = |file, said| format!("Hook script execution failed: Hook script DIR/{file} test {said}\n");
        let run = |operation| hooks.call(&["run", DRIVER, "web1", operation]);
        assert_eq!(run("start"), ran(status, "", &entry("test.d/10", said)));
        let both =
            entry("test.d/10", said) + &entry("test.d/20", "failed with error code 99 and wrote nothing to stderr");
        assert_eq!(run("stopped"), ran(status, "", &both));
    }
}

#[test]
fn a_time_limit_holds_for_hooks_that_have_none_of_their_own() {
    let said = |hooks: &Hooks, arguments: &[&str]| {
        let ran = hooks.call(&[&["run"], arguments, &[DRIVER, "web1", "start"]].concat());
        assert_eq!(ran.status, 124);
        ran.stderr
    };
    let entry = |limit| format!("Hook script execution failed: Hook script DIR/test timed out after {limit}\n");
    let hooks = Hooks::new().script(DRIVER, "exec sleep 3600");
    assert_eq!(said(&hooks, &["--timeout", "50ms"]), entry("50ms"));
    hooks.file("test.toml", "timeout = \"60ms\"\n", 0o644);
    assert_eq!(said(&hooks, &["--timeout", "1h"]), entry("60ms"));
}

#[test]
fn the_json_report_goes_to_standard_output_always() {
    let hooks = Hooks::new()
        .script(DRIVER, "exit 0")
        .script("test.d/10-refuses", r"printf 'no \377\n' >&2; exit 1")
        .script("test.d/20-after", "exit 0");
    hooks.file("test.d/15-later", "#!/bin/sh\n", 0o644);
    let json = |arguments: &[&str]| {
        let ran = hooks.call(&[&["run", "--format", "json"], arguments].concat());
        (ran.status, redacted(&ran.stdout), ran.stderr)
    };
    let (status, vetoed, log) = json(&[DRIVER, "web1", "start", "-", "more"]);
    assert_eq!(status, 1);
    assert_eq!(log.lines().count(), 1, "what is skipped is logged: {log}");
    let (status, notified, _) = json(&[DRIVER, "web1", "stopped"]);
    assert_eq!(status, 1);
    let (status, proceed, _) = json(&["other", "-", "start"]);
    assert_eq!(status, 0);
    // All documented fields, in order.
    assert_snapshot!("json_decisions", [vetoed, notified, proceed].concat());
}

#[test]
fn the_json_report_says_how_each_hook_ended() {
    let hooks = Hooks::new()
        .script("qemu.d/10-killed", "kill -9 $$")
        .script("qemu.d/20-late", "exec sleep 3600")
        .script("qemu.d/30-daemon", "setsid sleep 3600 2>&1 & echo $! > ${0%/*}/pid~");
    hooks.file("qemu.d/20-late.toml", "timeout = \"50ms\"\n", 0o644);
    hooks.file("qemu.d/40-broken", "exit 0\n", 0o755);
    let ran = hooks.call(&["run", "--format", "json", "qemu", "web1", "start"]);
    assert_eq!(ran.status, 137);
    let pid = fs::read_to_string(hooks.path().join("qemu.d/pid~")).unwrap();
    let json = redacted(&ran.stdout).replace(pid.trim(), "PID");
    let pid = nix::unistd::Pid::from_raw(pid.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_snapshot!("json_terminations", json);
}

#[test]
fn a_changed_document_goes_to_standard_output() {
    let migrate = |body: &str, format: &str| {
        let hooks = Hooks::new().script("qemu", body);
        let mut command = hooks.command("run");
        command.arg("--hooks").arg(hooks.path()).args(["--format", format, "qemu", "web1", "migrate"]);
        let mut ran = hooks.ran(command.write_stdin("<domain>one</domain>\n"));
        ran.stdout = redacted(&ran.stdout);
        ran
    };
    assert_eq!(migrate("sed s/one/two/", "text"), ran(0, "<domain>two</domain>\n", ""));
    assert_eq!(migrate("cat > /dev/null", "text"), ran(0, "", ""));
    let vetoed = migrate("sed s/one/two/; exit 1", "text");
    assert_eq!((vetoed.status, vetoed.stdout.as_str()), (1, ""), "a document that is vetoed is nobody's");
    let document = |body| {
        let ran = migrate(body, "json");
        ran.stdout.split_once(",\"skipped\":[]").unwrap().1.to_owned()
    };
    assert_eq!(document("sed s/one/two/"), ",\"document\":\"<domain>two</domain>\\n\"}\n");
    assert_eq!(document("cat > /dev/null"), "}\n");
    assert_eq!(document("sed s/one/two/; exit 1"), "}\n");
}

#[test]
fn omitted_fields_of_an_event_get_the_driver_s_defaults() {
    let hooks = Hooks::new();
    let body = "echo \"$*\" >&2; exit 1";
    let hooks =
        ["qemu", "network", "daemon", DRIVER].into_iter().fold(hooks, |hooks, driver| hooks.script(driver, body));
    let arguments = |event: &[&str]| {
        let ran = hooks.call(&[&["run"], event].concat());
        ran.stderr.trim_end().rsplit_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(arguments(&["qemu", "web1", "start"]), "web1 start begin -");
    assert_eq!(arguments(&["qemu", "web1", "release"]), "web1 release end -");
    assert_eq!(arguments(&["qemu", "web1", "release", "end", "destroyed"]), "web1 release end destroyed");
    assert_eq!(arguments(&["network", "lan", "updated"]), "lan updated begin -");
    assert_eq!(arguments(&["daemon", "-", "reload", "begin", "SIGHUP"]), "- reload begin SIGHUP");
    assert_eq!(arguments(&[DRIVER, "web1", "start"]), "web1 start - -");
    assert_eq!(arguments(&[DRIVER, "web1", "start", "early"]), "web1 start early -");
}

/// A directory with every kind of entry.
fn furnished() -> Hooks {
    let hooks = Hooks::new()
        .script("qemu", "exit 0")
        .script("qemu.d/10-check.sh", "exit 0")
        .script("qemu.d/20-broken", "exit 0")
        .script("qemu.d/web1/prepare/begin/10-isolate", "exit 0")
        .script("qemu.d/web1/prepare/begin/deeper/10-lost", "exit 0")
        .script("qemu.d/web1/prepare/10-too-high", "exit 0")
        .script("qemu.d/web1/release/end/10-return", "exit 0")
        .script("network.d/10-lan", "exit 0")
        .script("not a driver", "exit 0");
    hooks.file("qemu.d/10-check.sh.toml", "timeout = \"5s\"\nenv = { MODE = \"strict\" }\n", 0o644);
    hooks.file("qemu.d/20-broken.toml", "timeout = 5\n", 0o644);
    hooks.file("qemu.d/30-off", "#!/bin/sh\n", 0o644);
    hooks.file("qemu.d/40-orphan.toml", "", 0o644);
    hooks.file("network.d/10-lan.toml", "operations = [\"start\", \"started\"]\nobjects = [\"lan*\"]\n", 0o644);
    hooks.file("lxc.d", "a file", 0o644);
    for passed_over in [".hidden", "10-check.sh~", "a.bak", "a.rpmsave", "a.rpmnew", "a.rpmorig", "a.dpkg-old", "a.swp"]
    {
        hooks.file(&format!("qemu.d/{passed_over}"), "#!/bin/sh\nexit 1\n", 0o755);
    }
    symlink("/dev/null", hooks.path().join("qemu.d/50-masked")).unwrap();
    symlink("/no/such", hooks.path().join("bhyve.d")).unwrap();
    hooks
}

#[test]
fn list_shows_the_hooks_in_call_order() {
    let hooks = furnished();
    let listed = hooks.call(&["list"]);
    assert_eq!((listed.status, listed.stderr.as_str()), (0, ""));
    assert_snapshot!("list", listed.stdout);
}

#[test]
fn check_reports_on_every_file() {
    let hooks = furnished();
    let checked = hooks.call(&["check"]);
    assert_eq!((checked.status, checked.stderr.as_str()), (1, ""));
    assert_snapshot!("check", checked.stdout);

    fs::remove_file(hooks.path().join("bhyve.d")).unwrap();
    fs::remove_file(hooks.path().join("qemu.d/20-broken.toml")).unwrap();
    for mistake in ["lxc.d", "not a driver", "qemu.d/web1/prepare/10-too-high"] {
        fs::remove_file(hooks.path().join(mistake)).unwrap();
    }
    fs::remove_dir_all(hooks.path().join("qemu.d/web1/prepare/begin/deeper")).unwrap();
    let mended = hooks.call(&["check"]);
    assert_eq!(mended.status, 0);
    assert!(mended.stdout.ends_with("\n6 ok, 0 would fail, 2 skipped\n"), "{}", mended.stdout);
}

#[test]
fn list_and_check_have_the_same_json() {
    let hooks = furnished();
    let (listed, checked) = (hooks.call(&["list", "--format", "json"]), hooks.call(&["check", "--format", "json"]));
    assert_eq!((listed.status, checked.status), (0, 1));
    let inventory = |ran: &Ran| -> serde_json::Value {
        let mut json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let fields = json.as_object_mut().unwrap();
        // Only `check` looks at these: the configuration, and the installation as libvirt's hook.
        fields.remove("problems");
        fields.remove("notes");
        json
    };
    assert_eq!(inventory(&listed), inventory(&checked));
    assert_snapshot!("check_json", checked.stdout);
}

#[test]
fn per_event_hooks_run_only_for_their_event() {
    let hooks =
        Hooks::new().script("qemu.d/web1/prepare/begin/10-isolate", "exit 3").script("qemu.d/10-general", "exit 0");
    let status = |event: &[&str]| hooks.call(&[&["run", "qemu"], event].concat()).status;
    assert_eq!(status(&["web1", "prepare"]), 3);
    for other in [&["web2", "prepare"][..], &["web1", "start"], &["web1", "prepare", "end"]] {
        assert_eq!(status(other), 0, "{other:?}");
    }
}

#[test]
fn exec_passes_on_arguments_document_output_and_status() {
    let hooks = Hooks::new().script("hook", r#"printf '<%s>' "$@"; cat; echo "$MODE $#" >&2; exit 5"#);
    hooks.file("hook.toml", "env = { MODE = \"strict\" }\n", 0o644);
    let mut command = hooks.command("exec");
    // The path is relative to the caller's directory, and no argument is hookvisor's own.
    command.current_dir(hooks.path()).args(["./hook", "", "--help", "-x", "a b", "--", "ü"]);
    assert_eq!(
        hooks.ran(command.write_stdin("the document\n")),
        ran(
            5,
            "<><--help><-x><a b><--><ü>the document\n",
            "Hook script execution failed: Hook script DIR/hook failed with error code 5: strict 6\n"
        )
    );
    let quiet = Hooks::new().script("hook", r"printf 'a\377b'; echo a remark >&2");
    let output = quiet.command("exec").arg(quiet.path().join("hook")).output().unwrap();
    assert_eq!((output.status.code(), output.stdout, output.stderr), (Some(0), b"a\xffb".to_vec(), Vec::new()));
}

#[test]
fn exec_says_how_much_of_an_endless_output_it_dropped() {
    let hooks = Hooks::new().script("hook", "exec head -c 8388618 /dev/zero");
    let output = hooks.command("exec").arg(hooks.path().join("hook")).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 8 << 20));
    let note = "hookvisor: 10 more bytes of its standard output were dropped\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), note);
}

#[cfg(feature = "wasm")]
mod wasm {
    use super::*;
    use crate::support::event;
    use crate::support::guests::wasm_probe;

    #[test]
    fn exec_runs_a_module_as_it_runs_a_process() {
        let hooks = Hooks::new().copy("hook.wasm", wasm_probe());
        let exec = |arguments: &[&str], document: &str| hooks.exec("hook.wasm", arguments, document);
        assert_eq!(exec(&["stdout=said;cat;exit=0"], " the document"), ran(0, "said the document", ""));
        assert_eq!(
            exec(&["arguments;exit=200", "", "--help", "ü"], ""),
            ran(
                200,
                "",
                "Hook script execution failed: Hook script DIR/hook.wasm failed with error code 200: \
                 [\"arguments;exit=200\", \"\", \"--help\", \"ü\"]\n"
            )
        );
    }

    #[test]
    fn check_and_list_show_a_module_and_its_rights() {
        let hooks = Hooks::new().copy("test.d/20-policy.wasm", wasm_probe());
        hooks.file("test.d/20-policy.toml", "memory = \"32MiB\"\nenv = { MODE = \"strict\" }\n", 0o644);
        let details = "DIR/test.d/20-policy.wasm; may see the variable MODE, use 32.0 MiB of memory; timeout 90s\n";
        assert_eq!(hooks.call(&["list"]), ran(0, &format!("test     wasm   {details}"), ""));
        assert_eq!(
            hooks.call(&["check"]),
            ran(0, &format!("ok       wasm   {details}1 ok, 0 would fail, 0 skipped\n"), "")
        );
    }

    /// The names of hookvisor's threads, as seen by one of its hooks.
    #[test]
    fn native_hooks_never_create_an_engine() {
        let look = "cat /proc/$PPID/task/*/comm >&2; exit 1";
        let threads = |hooks: &Hooks| {
            let ran = hooks.call(&["run", DRIVER, "web1", "start"]);
            ran.stderr.split_once("error code 1: ").unwrap().1.to_owned()
        };
        let hooks = Hooks::new().script(DRIVER, look).script("test.d/10", "exit 0");
        assert_eq!(threads(&hooks), "hookvisor\n");
        // Proves that the test can see threads.
        let hooks = hooks.copy("test.d/20.wasm", wasm_probe());
        assert!(threads(&hooks).lines().any(|name| name == "hookvisor-clock"));
    }

    /// A pool of instances reserves more address space than anything else.
    #[test]
    fn a_single_event_creates_no_pool() {
        let hooks = Hooks::new()
            .copy("test.d/10.wasm", wasm_probe())
            .script("test.d/20", "grep VmSize: /proc/$PPID/status >&2");
        let mut report = hooks.runtime().run(&event("exit=0", "start"));
        let kibibytes = |said: &str| -> u64 {
            let size = said.split_once("VmSize:").and_then(|(_, size)| size.split_whitespace().next());
            size.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
        };
        const TIB: u64 = 1 << 30;
        assert!(kibibytes(&String::from_utf8_lossy(&report.hooks.remove(1).stderr)) > TIB, "so that it could be seen");
        let ran = hooks.call(&["run", "--format", "json", DRIVER, "exit=0", "start"]);
        assert!(kibibytes(&ran.stdout.replace("\\t", " ")) < TIB, "{}", ran.stdout);
    }
}

/// With all features. The help leaves out what a build does not have.
#[cfg(feature = "wasm")]
#[test]
fn help() {
    let hooks = Hooks::new();
    for subcommand in [
        "",
        "run",
        "list",
        "check",
        "exec",
        "explain",
        "disable",
        "enable",
        "history",
        "learn",
        "compile",
        "new",
        "libvirt",
        "libvirt install",
        "libvirt uninstall",
        "libvirt status",
        "binfmt",
    ] {
        let mut command = hookvisor();
        command.args(subcommand.split_whitespace()).arg("--help");
        let help = hooks.ran(&mut command);
        assert_eq!((help.status, help.stderr.as_str()), (0, ""));
        assert_snapshot!(format!("help_{subcommand}").replace(' ', "_").trim_end_matches('_'), help.stdout);
    }
}

#[test]
fn without_arguments_it_prints_the_help() {
    let hooks = Hooks::new();
    let version = hooks.ran(hookvisor().arg("--version"));
    assert_eq!(version, ran(0, concat!("hookvisor ", env!("CARGO_PKG_VERSION"), "\n"), ""));
    // It is still an error.
    let nothing = hooks.ran(&mut hookvisor());
    assert_eq!((nothing.status, nothing.stdout.as_str()), (2, ""));
    assert!(nothing.stderr.contains("\nCommands:\n"), "{}", nothing.stderr);
}

#[test]
fn the_log_level_decides_what_is_logged() {
    let hooks = Hooks::new().script(DRIVER, "exit 0");
    hooks.file("test.d/10-broken", "exit 0\n", 0o755);
    hooks.file("a stray", "", 0o644);
    let log = |level: &str| {
        hooks.ran(hooks.command("check").env("HOOKVISOR_LOG", level).arg("--hooks").arg(hooks.path())).stderr
    };
    assert_eq!(log("error"), "");
    assert_eq!(log("loud"), "hookvisor: HOOKVISOR_LOG=loud is ignored: use error, warn, info, debug or trace\n");
    assert_snapshot!(log("debug"), @r"
    hookvisor: hook DIR/test is loaded
    hookvisor: hook DIR/test.d/10-broken cannot be run and fails when it is called: it is neither a program nor a script: a script begins with a line such as `#!/bin/sh`
    hookvisor: DIR/a stray is not called: hooks are named after their driver, or are in <driver>.d
    ");
}

/// At a terminal, nobody types a document, and a quick hook prints nothing.
#[test]
fn at_a_terminal_no_document_is_read() {
    let hooks = Hooks::new().script(DRIVER, "cat >&2; exit 1");
    let terminal = openpty(None, None).unwrap();
    let mut command = Command::new("sh");
    command.arg("-c").arg(hooks.function() + "hookvisor run --hooks \"$HOOKS\" test web1 start");
    command.env("HOOKS", hooks.path());
    let ours = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    command.stdin(ours(&terminal.slave)).stdout(ours(&terminal.slave)).stderr(terminal.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    // Read while it runs and up to the end: the terminal reports EIO after the child has ended.
    let mut said = Vec::new();
    let _ = fs::File::from(terminal.master).read_to_end(&mut said);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let entry = format!(
        "Hook script execution failed: Hook script {}/test failed with error code 1 and wrote nothing to stderr\r\n",
        hooks.path().display()
    );
    assert_eq!(String::from_utf8(said).unwrap(), entry);
}
