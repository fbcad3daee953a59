//! Called by a driver's name, as libvirt does, below a root that belongs to the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use crate::support::program::command;
use crate::support::{needs_root, skip};

/// A root with links to hookvisor in place of libvirt's hooks, and a hooks directory.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(TempDir::with_prefix("root-").unwrap());
        fs::set_permissions(root.0.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["etc/libvirt/hooks", "etc/hookvisor/hooks"] {
            fs::create_dir_all(root.path(directory)).unwrap();
        }
        for driver in ["qemu", "network"] {
            symlink(env!("CARGO_BIN_EXE_hookvisor"), root.path("etc/libvirt/hooks").join(driver)).unwrap();
        }
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn hook(self, name: &str, body: &str) -> Self {
        let path = self.path("etc/hookvisor/hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn config(self, text: &str) -> Self {
        fs::write(self.path("etc/hookvisor/hookvisor.toml"), text).unwrap();
        self
    }

    fn qemu(&self) -> assert_cmd::Command {
        command(self.path("etc/libvirt/hooks/qemu"))
    }

    /// Calls the hook like libvirt. Returns the exit status and both streams, with `ROOT` for the root.
    fn call(&self, operation: &str) -> (i32, String, String) {
        let called = self.qemu().args(["web1", operation, "begin", "-"]).write_stdin("<domain/>").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).replace(&self.0.path().display().to_string(), "ROOT");
        (called.status.code().unwrap(), text(&called.stdout), text(&called.stderr))
    }
}

fn said(status: i32, stdout: &str, stderr: &str) -> (i32, String, String) {
    (status, stdout.to_owned(), stderr.to_owned())
}

#[test]
fn arguments_and_document_are_libvirts_and_success_is_silent() {
    let seen = "echo \"$@\" > \"${0%/*}/../seen\"; cat >> \"${0%/*}/../seen\"; echo to nobody; echo nothing >&2";
    let root = Root::new().hook("qemu.d/10-a", seen);
    assert_eq!(root.call("prepare"), said(0, "", ""));
    assert_eq!(fs::read_to_string(root.path("etc/hookvisor/hooks/seen")).unwrap(), "web1 prepare begin -\n<domain/>");
}

#[test]
fn all_hooks_run_and_the_first_failure_is_the_exit_status() {
    let root = Root::new()
        .hook("qemu", "exit 0")
        .hook("qemu.d/10-xyzzy", "echo 'Could not find required XYZZY' >&2; exit 3")
        .hook("qemu.d/20-b", "kill -9 $$")
        .hook("network", "exit 9");
    let report = "Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu.d/10-xyzzy qemu failed with \
                  error code 3: Could not find required XYZZY\n\
                  Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu.d/20-b qemu killed by signal 9 \
                  (SIGKILL)\n";
    for operation in ["prepare", "release", "an-operation-to-come"] {
        assert_eq!(root.call(operation), said(3, "", report), "{operation}");
    }
}

/// libvirt puts it into its own error, which virsh shows on a terminal.
#[test]
fn what_libvirt_quotes_is_escaped() {
    let root = Root::new().hook("qemu", "printf 'up\\033[1A\\nHook script execution failed: forged' >&2; exit 1");
    let report = "Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu failed with error code 1: \
                  up\\u{1b}[1A\n    Hook script execution failed: forged\n";
    assert_eq!(root.call("prepare"), said(1, "", report));
}

#[test]
fn standard_output_is_for_a_filters_document_alone() {
    let root = Root::new().hook("qemu.d/10-a", "sed 's/domain/&  /'; echo a remark >&2");
    assert_eq!(root.call("restore"), said(0, "<domain  />", ""));
    for operation in ["prepare", "stopped"] {
        assert_eq!(root.call(operation), said(0, "", ""), "{operation}");
    }
    let root = Root::new().hook("qemu.d/10-a", "echo");
    assert_eq!(root.call("restore"), said(0, "", ""), "white space leaves the document as it was");
    let root = root.hook("qemu.d/20-b", "echo 'restoring web1'");
    let refused = "Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu.d/20-b qemu was refused: its output is not XML: unknown token at 1:1\n";
    assert_eq!(root.call("restore"), said(1, "", refused));
}

#[test]
fn a_document_that_does_not_reach_libvirt_is_a_failure() {
    let root = Root::new().hook("qemu", "cat");
    let qemu = root.path("etc/libvirt/hooks/qemu").display().to_string();
    for stdout in [">/dev/full", "1</dev/null"] {
        let script = format!("echo '<domain/>' | {qemu} web1 migrate begin - {stdout}");
        let called = command("sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&called.stderr).into_owned();
        assert_eq!(called.status.code(), Some(125), "{stdout}: {said}");
        assert!(said.starts_with("hookvisor: the new document could not be written to libvirt: "), "{said}");
    }
}

#[test]
fn a_failure_of_hookvisor_itself_is_a_veto() {
    let wrong = |root: Root| {
        let (status, stdout, stderr) = root.call("prepare");
        assert_eq!((status, stdout.as_str()), (125, ""), "{stderr}");
        stderr
    };
    let config = |text| wrong(Root::new().hook("qemu", "exit 0").config(text));
    assert_eq!(
        config("hook = '/srv'"),
        "hookvisor: the configuration ROOT/etc/hookvisor/hookvisor.toml: line 1: unknown field `hook`, expected one of \
         `confine`, `hooks`, `cache`, `state`, `limits`, `drivers`, `log`, `known_drivers`, `require_hooks`, `history`, `convention`\n"
    );
    assert!(config("hooks = 'elsewhere'").contains("hooks directory ROOT/etc/hookvisor/elsewhere"));
    let root = Root::new();
    let (few, newline) = (root.qemu().args(["web1", "start"]).output().unwrap(), {
        root.qemu().args(["we\nb", "start", "begin", "-"]).output().unwrap()
    });
    let bytes = std::os::unix::ffi::OsStrExt::from_bytes(b"we\xffb");
    let not_text = root.qemu().arg::<&std::ffi::OsStr>(bytes).args(["start", "begin", "-"]).output().unwrap();
    for called in [few, newline, not_text] {
        assert_eq!((called.status.code(), called.stdout.as_slice()), (Some(125), &b""[..]));
        assert!(called.stderr.starts_with(b"hookvisor: "), "{}", String::from_utf8_lossy(&called.stderr));
    }
}

/// A guest has stopped. Its hooks are told even if hookvisor's configuration is broken.
#[test]
fn a_shutdown_is_told_although_hookvisor_cannot_be_configured() {
    let told = "echo \"$2\" >> \"${0%/*}/../told\"";
    let calls = |root: &Root, status: i32, fault: &str| {
        for operation in ["stopped", "release"] {
            let (ended, stdout, stderr) = root.call(operation);
            assert_eq!((ended, stdout.as_str()), (status, ""), "{stderr}");
            assert!(stderr.starts_with(&format!("hookvisor: {fault}")), "{stderr}");
        }
        fs::read_to_string(root.path("etc/hookvisor/told")).unwrap_or_default()
    };
    let unknown = "the configuration ROOT/etc/hookvisor/hookvisor.toml: line 1: unknown field `hook`";
    let both = "stopped\nrelease\n";
    assert_eq!(calls(&Root::new().hook("qemu", told).config("hook = '/srv'"), 0, unknown), both);
    assert_eq!(calls(&Root::new().hook("qemu", &format!("{told}; exit 3")).config("hook = '/srv'"), 3, unknown), both);
    // The invalid file names another hooks directory, which can still be read.
    let root = Root::new().config("hook = '/srv'\nhooks = 'elsewhere'\n").hook("../elsewhere/qemu", told);
    assert_eq!(calls(&root, 0, unknown), both);
    let not_toml = "the configuration ROOT/etc/hookvisor/hookvisor.toml: line 1: ";
    assert_eq!(calls(&Root::new().hook("qemu", told).config("hooks = ["), 0, not_toml), both);
    let gone = "there is no hooks directory ROOT/etc/hookvisor/elsewhere";
    assert_eq!(calls(&Root::new().hook("qemu", told).config("hooks = 'elsewhere'"), 0, gone), "");
}

#[test]
fn a_fault_of_hookvisor_s_own_is_recorded() {
    if !needs_root("dropin::a_fault_of_hookvisor_s_own_is_recorded") {
        return;
    }
    for config in ["hook = '/srv'", "hooks = 'elsewhere'"] {
        let root = Root::new().hook("qemu", "exit 0").config(config);
        let statuses = ["prepare", "reconnect", "stopped"].map(|operation| root.call(operation).0);
        assert_eq!(statuses, [125, 0, 0]);
        let record = fs::read_to_string(root.path("var/log/hookvisor/history.jsonl")).unwrap();
        let entries: Vec<serde_json::Value> = record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let decisions: Vec<_> = entries.iter().map(|entry| entry["decision"].as_str().unwrap()).collect();
        assert_eq!(decisions, ["vetoed", "proceed", "notified"]);
        for entry in &entries {
            let why = entry["refused"].as_str().unwrap();
            assert!(why.contains("the configuration ") || why.contains("hooks directory"), "{entry}");
        }
    }
}

/// The hooks decide, not the log.
#[test]
fn a_log_that_cannot_be_written_changes_no_verdict() {
    let call = |root: &Root| root.call("prepare");
    let root = Root::new().config("[log]\nto = 'file'\nfile = 'no/such/log'");
    let (status, stdout, stderr) = call(&root);
    assert_eq!((status, stdout.as_str()), (0, ""), "{stderr}");
    let told = "hookvisor: the log ROOT/etc/hookvisor/no/such/log could not be opened: No such file or directory (os error \
                2); logging to standard error\n";
    assert_eq!(stderr, told);
    assert_eq!(call(&root.hook("qemu", "exit 3")).0, 3);

    let root = Root::new();
    let fifo = root.path("etc/hookvisor/log");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (status, _, stderr) = call(&root.config("[log]\nto = 'file'\nfile = 'log'"));
    assert_eq!(status, 0, "{stderr}");
    assert!(stderr.contains("hookvisor/log could not be opened: "), "{stderr}");
}

#[test]
fn a_configuration_that_others_may_write_is_refused_by_root() {
    if !needs_root("a_configuration_that_others_may_write_is_refused_by_root") {
        return;
    }
    let root = Root::new().config("");
    let config = root.path("etc/hookvisor/hookvisor.toml");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let (status, _, stderr) = root.call("prepare");
    assert_eq!(status, 125);
    assert!(stderr.contains("is writable by others (mode 0666)"), "{stderr}");
}

#[test]
fn the_configured_limits_hold_where_a_hook_has_none() {
    let root = Root::new().hook("qemu", "sleep 60").config("[limits]\ntimeout = '200ms'\n");
    let report = "Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu timed out after 200ms\n";
    assert_eq!(root.call("prepare"), said(124, "", report));
}

/// No inherited environment variable changes which hooks are called.
#[test]
fn no_environment_variable_changes_the_paths() {
    let root = Root::new().hook("qemu", "exit 3");
    let mut called = root.qemu();
    for name in ["HOOKVISOR_HOOKS", "HOOKVISOR_CONFIG", "HOOKVISOR_ROOT", "HOME", "XDG_CONFIG_HOME"] {
        called.env(name, "/nonexistent");
    }
    let called = called.env("HOOKVISOR_LOG", "trace").args(["web1", "prepare", "begin", "-"]).output().unwrap();
    assert_eq!(called.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&called.stderr).lines().count(), 1);
}

#[test]
fn a_log_that_many_write_at_once_keeps_its_lines_whole() {
    /// Number of concurrent callers, and calls of each.
    const WRITERS: usize = 8;
    let root = Root::new()
        .hook("qemu", "head -c 5000 /dev/zero | tr '\\0' x >&2; printf '\\nlast\\n' >&2; exit 1")
        .config("[log]\nto = 'file'\nfile = 'log'\n");
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| (0..5).for_each(|_| assert_eq!(root.call("start").0, 1)));
        }
    });
    let log = fs::read_to_string(root.path("etc/hookvisor/log")).unwrap();
    assert_eq!(log.lines().count(), WRITERS * 5);
    for line in log.lines() {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(
            time.ends_with('Z') && rest.starts_with("WARN driver=qemu object=web1 operation=start hook="),
            "{line}"
        );
        assert!(rest.ends_with("xxx\\nlast") && rest.contains(" status=1 duration_us="), "{line}");
    }
}

#[test]
fn the_log_on_standard_error_does_not_say_twice_what_the_report_says() {
    let root = Root::new().hook("qemu.d/10-a", "exit 0").hook("qemu.d/20-b", "exit 1");
    let root = root.config("[log]\nto = 'stderr'\n");
    let expected = "hookvisor: Hook script ROOT/etc/hookvisor/hooks/qemu.d/10-a qemu succeeded\n\
                    Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu.d/20-b qemu failed with error \
                    code 1 and wrote nothing to stderr\n";
    assert_eq!(root.call("prepare"), said(1, "", expected));
}

/// The journal's socket has a fixed path, so this test has its own /run.
#[test]
fn the_journal_gets_the_fields_of_each_call() {
    let root = Root::new().hook("qemu", "echo 'no\nXYZZY' >&2; exit 3").config("[log]\nto = 'journal'\n");
    fs::create_dir_all(root.path("run/systemd/journal")).unwrap();
    let journal = UnixDatagram::bind(root.path("run/systemd/journal/socket")).unwrap();
    journal.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let script = format!(
        "mount --bind {} /run && exec {} web1 start begin - </dev/null",
        root.path("run").display(),
        root.path("etc/libvirt/hooks/qemu").display()
    );
    let namespace = ["--user", "--map-root-user", "--mount", "--", "sh", "-c", &script];
    let called = command("unshare").args(namespace).output().unwrap();
    if called.status.code() != Some(3) {
        let why = String::from_utf8_lossy(&called.stderr).into_owned();
        assert!(!why.contains("hookvisor") && !why.contains("Hook script"), "{why}");
        return skip("the journal", &format!("no mount namespace can be made here: {why}"));
    }
    let mut entry = vec![0; 65536];
    // The first message is empty: it checks that somebody listens.
    let size = [(); 2].map(|()| journal.recv(&mut entry).unwrap())[1];
    let entry = String::from_utf8_lossy(&entry[..size]).into_owned();
    for field in ["HOOKVISOR_DRIVER", "HOOKVISOR_OBJECT", "HOOKVISOR_OPERATION", "HOOKVISOR_HOOK", "HOOKVISOR_STATUS"] {
        assert!(entry.lines().any(|line| line.starts_with(field)), "{field}: {entry:?}");
    }
    for part in ["HOOKVISOR_DURATION_US", "SYSLOG_IDENTIFIER", "PRIORITY"] {
        assert!(entry.contains(part), "{part}: {entry:?}");
    }
    assert!(entry.contains("Hook script execution failed: Hook script ") && entry.contains("error code 3: no\nXYZZY"));
}

/// An administrator's `[convention.qemu]` also replaces the built-in one of libvirt's hook: here, `start` becomes a
/// filter.
#[test]
fn libvirt_s_hook_goes_by_a_convention_of_the_administrator_s() {
    let root =
        Root::new().hook("qemu", "[ $2 != start ] || echo '<domain><new/></domain>'; [ $2 != stopped ] || exit 3");
    let root = root.config(
        "[convention.qemu.operations]\n\
         start = { stage = 'start', filter = 'xml' }\n\
         stopped = 'shutdown'\n",
    );
    assert_eq!(root.call("start"), said(0, "<domain><new/></domain>\n", ""));
    let (status, _, stderr) = root.call("stopped");
    assert!(status == 3 && stderr.contains("failed with error code 3"), "{status} {stderr}");
}

#[test]
fn a_missing_journal_is_reported() {
    if Path::new("/run/systemd/journal/socket").exists() {
        return skip("dropin::a_missing_journal_is_reported", "this machine has a journal");
    }
    let (status, _, stderr) = Root::new().config("[log]\nto = 'journal'\n").call("start");
    assert_eq!(status, 0);
    assert!(stderr.starts_with("hookvisor: the journal could not be reached: "), "{stderr}");
}

#[test]
fn a_file_is_run_by_its_interpreter_with_its_own_arguments() {
    let root = Root::new().hook("10-a", "printf '%s|' \"$@\"; exit 6");
    symlink(env!("CARGO_BIN_EXE_hookvisor"), root.path("hookvisor-exec")).unwrap();
    let hook = root.path("etc/hookvisor/hooks/10-a");
    let called = command(root.path("hookvisor-exec")).arg(&hook).args(["web1", "--help", "-", ""]).output().unwrap();
    assert_eq!((called.status.code(), called.stdout.as_slice()), (Some(6), &b"web1|--help|-||"[..]));
    let none = command(root.path("hookvisor-exec")).output().unwrap();
    assert_eq!(none.status.code(), Some(125));
}
