//! The record of decisions: what `history` shows, and how faults affect it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hookvisor::{Event, Record, Recorded, RecordedEvent};
use tempfile::TempDir;

use crate::support::program::{Ran, command, hookvisor};
use crate::support::{DRIVER, Hooks, event, skip};

impl Hooks {
    fn record(&self) -> PathBuf {
        self.path().join(".history/history.jsonl")
    }

    /// Runs and records an event.
    fn recorded(&self, arguments: &[&str]) -> Ran {
        let record = self.record();
        self.ran(self.command("run").arg("--hooks").arg(self.path()).arg("--record").arg(record).args(arguments))
    }

    fn history(&self, arguments: &[&str]) -> Ran {
        self.ran(hookvisor().arg("history").arg("--record").arg(self.record()).args(arguments))
    }

    fn events(&self) -> Vec<RecordedEvent> {
        events(&Record::at(self.record()))
    }
}

fn events(record: &Record) -> Vec<RecordedEvent> {
    let mut entries = record.entries();
    let events = entries.by_ref().filter_map(|entry| match entry {
        Recorded::Event(event) => Some(event),
        _ => None,
    });
    let events = events.collect();
    assert!(entries.take_error().is_none());
    events
}

/// Three events. The second is vetoed.
fn three_events() -> Hooks {
    let hooks = Hooks::new()
        .script("test.d/10-xyzzy", "[ \"$1\" != web2 ] || { echo 'Could not find required XYZZY' >&2; exit 3; }")
        .script("test.d/20-other", "exit 0");
    for (object, status) in [("web1", 0), ("web2", 3), ("db", 0)] {
        assert_eq!(hooks.recorded(&[DRIVER, object, "start"]).status, status);
    }
    hooks
}

#[test]
fn a_veto_can_be_read_later_word_for_word() {
    let hooks = three_events();
    let said = hooks.recorded(&[DRIVER, "web2", "start"]).stderr;
    let shown = hooks.history(&["--last"]).stdout;
    let lines: Vec<&str> = shown.lines().map(str::trim).collect();
    assert!(lines[0].contains("test     web2         start -          vetoed"), "{shown}");
    assert!(lines[1].contains("asked by hookvisor run"), "{shown}");
    assert!(lines[2].starts_with("failed     native DIR/test.d/10-xyzzy") && lines[2].contains("  sha256 "), "{shown}");
    assert_eq!(lines[3], "skipped           DIR/test.d/20-other: it was not called: an earlier hook vetoed");
    assert_eq!(lines[4].to_owned() + "\n", said);
    let events = hooks.events();
    assert_eq!(events.len(), 4);
    assert_eq!(events[1].to_text().replace(&hooks.path().display().to_string(), "DIR"), said);
}

#[test]
fn the_digest_is_that_of_the_hook_that_ran() {
    let hooks = three_events();
    let digests = |event: &RecordedEvent| event.hooks.iter().map(|hook| hook.sha256.clone()).collect::<Vec<_>>();
    let sum = command("sha256sum").arg(hooks.path().join("test.d/10-xyzzy")).output().unwrap().stdout;
    let sum = String::from_utf8_lossy(&sum).split(' ').next().map(str::to_owned);
    assert_eq!(digests(&hooks.events()[0])[0], sum);
    hooks.file("test.d/10-xyzzy", "#!/bin/sh\nexit 0\n", 0o755);
    hooks.recorded(&[DRIVER, "web1", "start"]);
    assert_ne!(digests(&hooks.events()[3])[0], sum);
}

#[test]
fn events_are_found_by_guest_driver_decision_hook_and_time() {
    let hooks = three_events();
    let count = |arguments: &[&str]| {
        let shown = hooks.history(&[&["--format", "json"], arguments].concat());
        assert_eq!((shown.status, shown.stderr.as_str()), (0, ""), "{arguments:?}");
        let lines = shown.stdout.lines();
        lines.filter(|line| serde_json::from_str::<serde_json::Value>(line).unwrap().is_object()).count()
    };
    for (arguments, expected) in [
        (&[][..], 3),
        (&["--object", "web*"], 2),
        (&["--object", "web"], 0),
        (&["--driver", "test"], 3),
        (&["--driver", "qemu"], 0),
        (&["--decision", "vetoed"], 1),
        (&["--decision", "proceed"], 2),
        (&["--decision", "would-veto"], 0),
        (&["--hook", "20-other"], 2),
        (&["--hook", "test.d/10-xyzzy"], 3),
        (&["--hook", "xyzzy"], 0),
        (&["--since", "2 hours ago"], 3),
        (&["--until", "2 hours ago"], 0),
        (&["--since", "yesterday", "--until", "tomorrow"], 3),
        (&["-n", "2"], 2),
        (&["--last"], 1),
        (&["--last", "2"], 1),
        (&["--object", "web1", "--last"], 0),
    ] {
        assert_eq!(count(arguments), expected, "{arguments:?}");
    }
    let wrong = hooks.history(&["--since", "soon"]);
    assert_eq!(wrong.status, 2);
    assert!(wrong.stderr.contains("\"soon\" is not a time; write one like \"2 hours ago\""), "{}", wrong.stderr);
}

#[test]
fn the_statistics_are_of_each_hook() {
    let hooks = three_events();
    let json: serde_json::Value =
        serde_json::from_str(&hooks.history(&["--stats", "--format", "json"]).stdout).unwrap();
    let of = |hook: usize| ["calls", "failures", "vetoes"].map(|field| json["hooks"][hook][field].as_u64().unwrap());
    assert_eq!([of(0), of(1)], [[3, 1, 1], [2, 0, 0]]);
    assert!(json["hooks"][0]["p50_us"].as_u64() <= json["hooks"][0]["p95_us"].as_u64());
    let text = hooks.history(&["--stats"]).stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.lines().nth(1).unwrap().ends_with("  DIR/test.d/10-xyzzy"), "{text}");
}

#[test]
fn a_follower_sees_events_as_they_are_decided() {
    use std::io::{BufRead, BufReader};
    let hooks = three_events();
    let mut follower = std::process::Command::new(env!("CARGO_BIN_EXE_hookvisor"))
        .args(["history", "--follow", "--format", "json", "--record"])
        .arg(hooks.record())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.by_ref().take(3).count(), 3);
    hooks.recorded(&[DRIVER, "later", "start"]);
    assert!(lines.next().unwrap().contains("\"object\":\"later\""));
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// A root with a link in place of libvirt's hook, and a hook that vetoes.
fn root(config: &str) -> TempDir {
    let root = TempDir::with_prefix("root-").unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let hooks = root.path().join("etc/hookvisor/hooks");
    for directory in [hooks.clone(), root.path().join("etc/libvirt/hooks")] {
        fs::create_dir_all(directory).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_hookvisor"), root.path().join("etc/libvirt/hooks/qemu")).unwrap();
    fs::write(hooks.join("qemu"), "#!/bin/sh\ncase $1 in bad*) echo no >&2; exit 3;; esac\n").unwrap();
    fs::set_permissions(hooks.join("qemu"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.path().join("etc/hookvisor/hookvisor.toml"), config).unwrap();
    root
}

fn qemu(root: &Path, object: &str) -> (Option<i32>, String) {
    let mut called = command(root.join("etc/libvirt/hooks/qemu"));
    let called = called.args([object, "prepare", "begin", "-"]).write_stdin("<domain/>").output().unwrap();
    (called.status.code(), String::from_utf8_lossy(&called.stderr).replace(&root.display().to_string(), "ROOT"))
}

#[test]
fn the_drop_in_records_below_its_root_for_root_alone() {
    let root = root("");
    assert_eq!([qemu(root.path(), "web1").0, qemu(root.path(), "bad").0], [Some(0), Some(3)]);
    let file = root.path().join("var/log/hookvisor/history.jsonl");
    if !nix::unistd::geteuid().is_root() {
        return assert!(!file.exists(), "another user has no place for it");
    }
    let recorded: Vec<_> =
        events(&Record::at(&file)).into_iter().map(|event| (event.caller, event.object, event.decision)).collect();
    let expected = [("libvirt", "web1", "proceed"), ("libvirt", "bad", "vetoed")];
    assert_eq!(recorded, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    let silent = self::root("[history]\nenabled = false\n");
    assert_eq!(qemu(silent.path(), "bad").0, Some(3));
    assert!(!silent.path().join("var").exists());
}

/// A record that cannot be written is reported, and the verdict is the same.
#[test]
fn a_record_that_cannot_be_written_changes_no_verdict() {
    let broken = |make: &dyn Fn(&Path)| {
        let root = root("[history]\nfile = 'record/history.jsonl'\n");
        let file = root.path().join("etc/hookvisor/record/history.jsonl");
        make(&file);
        for (object, status, report) in [
            ("web1", 0, ""),
            (
                "bad",
                3,
                "Hook script execution failed: Hook script ROOT/etc/hookvisor/hooks/qemu failed with error code 3: no\n",
            ),
        ] {
            let (code, said) = qemu(root.path(), object);
            let (told, rest) = said.split_once('\n').unwrap();
            assert_eq!((code, rest), (Some(status), report), "{said}");
            assert!(
                told.starts_with(
                    "hookvisor: the record ROOT/etc/hookvisor/record/history.jsonl could not be written: "
                ),
                "{told}"
            );
        }
    };
    let inside = |file: &Path| fs::create_dir_all(file.parent().unwrap()).unwrap();
    broken(&|file| fs::create_dir_all(file).unwrap());
    broken(&|file| fs::write(file.parent().unwrap(), "a file in the directory's place").unwrap());
    broken(&|file| {
        inside(file);
        nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    });
    broken(&|file| {
        inside(file);
        symlink("/dev/full", file).unwrap();
    });
    if nix::unistd::geteuid().is_root() {
        broken(&|file| {
            inside(file);
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o666)).unwrap();
        });
    }
}

#[test]
fn a_full_disk_and_a_limit_on_files_change_no_verdict_and_leave_no_half_entry() {
    let root = root("[history]\nfile = '/mnt/history.jsonl'\nmax_size = '1GiB'\n");
    let hook = root.path().join("etc/libvirt/hooks/qemu");
    // A disk of 64 KiB: the first entries fit, then a part of one, then nothing.
    let script = format!(
        "mount -t tmpfs -o size=64k none /mnt || exit 99
         for number in $(seq 60); do
             {hook} $(head -c 3000 /dev/zero | tr '\\0' x)$number prepare begin - < /dev/null 2>> /mnt/../tmp/$1 || exit 1
         done
         {hook} bad prepare begin - < /dev/null 2>/dev/null
         [ $? = 3 ] || exit 2
         rm -f /mnt/filler; {program} history --record /mnt/history.jsonl --format json
         exit 0",
        hook = hook.display(),
        program = env!("CARGO_BIN_EXE_hookvisor"),
    );
    let said = format!("{}-said", root.path().file_name().unwrap().display());
    let ran = command("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script, "sh", &said])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    if ran.status.code() == Some(99) || stderr.contains("unshare") {
        return skip("a full disk", &format!("no mounts here: {}", stderr.trim().replace('\n', "; ")));
    }
    let told = fs::read_to_string(Path::new("/tmp").join(&said)).unwrap();
    fs::remove_file(Path::new("/tmp").join(&said)).unwrap();
    assert_eq!(ran.status.code(), Some(0), "{stderr}{told}");
    let recorded = String::from_utf8_lossy(&ran.stdout).lines().count();
    assert!((5..40).contains(&recorded), "{recorded}: {told}");
    assert_eq!(told.lines().count() + recorded, 60, "each event is recorded or told: {told}");
    assert!(told.lines().all(|line| line.contains("/mnt/history.jsonl could not be written: ")), "{told}");

    let limited = self::root("");
    let hook = limited.path().join("etc/libvirt/hooks/qemu").display().to_string();
    let script = format!("ulimit -f 0; {hook} web1 prepare begin - < /dev/null");
    let ran = command("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// The calls of one process. Every fifth event is vetoed. Every fourth call is killed after a while, sometimes in the middle.
const CALLER: &str = "for number in $(seq \"$2\"); do
         name=$1-$number expected=0 limit=
         [ $((($1 + number) % 5)) = 0 ] && name=bad-$name expected=3
         [ $((($1 + number) % 4)) = 0 ] && limit=\"timeout -s KILL 0.0$(($1 % 10))\"
         $limit \"$HOOK\" \"$name\" prepare begin - < /dev/null
         status=$?
         if [ $status = $expected ]; then echo \"$name\" >> \"$DONE\"
         elif [ -z \"$limit\" ] || [ $status != 137 ]; then echo \"$name: $status\" >> \"$WRONG\"
         fi
     done 2> /dev/null";

/// Concurrent processes, some of which are killed, while the file is rotated, and replaced by another program.
#[test]
fn entries_of_many_processes_are_all_there_and_whole_and_change_no_verdict() {
    let slow = std::env::var_os("HOOKVISOR_SLOW_TESTS").is_some();
    let (processes, each) = if slow { (64, 32) } else { (64, 2) };
    let root = root("[history]\nfile = 'record'\nmax_size = '20KiB'\nkeep = 200\n");
    let hook = root.path().join("etc/libvirt/hooks/qemu");
    let (done, wrong) = (root.path().join("done"), root.path().join("wrong"));
    let mut callers: Vec<_> = (0..processes)
        .map(|process: u32| {
            let mut caller = std::process::Command::new("sh");
            caller.args(["-c", CALLER, "sh"]).arg(process.to_string()).arg(each.to_string());
            caller.env("HOOK", &hook).env("DONE", &done).env("WRONG", &wrong).spawn().unwrap()
        })
        .collect();
    let file = root.path().join("etc/hookvisor/record");
    let mut records = vec![Record::at(&file).keep(200)];
    while !callers.is_empty() {
        let moved = root.path().join(format!("moved-{}", records.len()));
        if fs::rename(&file, &moved).is_ok() {
            records.push(Record::at(moved));
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        callers.retain_mut(|caller| caller.try_wait().unwrap().is_none());
    }
    assert!(!wrong.exists(), "verdicts changed: {}", fs::read_to_string(wrong).unwrap());
    let mut done: Vec<String> = fs::read_to_string(done).unwrap().lines().map(str::to_owned).collect();
    let mut recorded: Vec<String> = records.iter().flat_map(events).map(|event| event.object).collect();
    done.sort();
    recorded.sort();
    let lost: Vec<_> = done.iter().filter(|object| recorded.binary_search(object).is_err()).collect();
    assert_eq!(lost, [""; 0], "{} of {} were recorded", recorded.len(), processes * each);
    let all = recorded.len();
    recorded.dedup();
    assert_eq!(recorded.len(), all, "an event was recorded twice");
    assert!(recorded.len() <= (processes * each) as usize);
    assert!(records.len() > 2, "the file was replaced");
    if slow {
        let files = fs::read_dir(root.path().join("etc/hookvisor")).unwrap().count();
        assert!(files > 3, "the file was rotated: {files}");
    }
}

#[test]
fn a_daemon_records_what_its_runtime_decides() {
    let hooks = Hooks::new().script(DRIVER, "[ \"$2\" != start ]");
    let runtime = hooks.builder().record(Record::at(hooks.record()).caller("mydaemon")).build().unwrap();
    assert!(runtime.start(&event("web1", "start")).into_result().is_err());
    drop(runtime.shutdown(&event("web1", "stopped")));
    // The file was replaced meanwhile, as logrotate does.
    fs::rename(hooks.record(), hooks.path().join(".history/elsewhere")).unwrap();
    drop(runtime.run(&Event::new(DRIVER, "web2", "release").unwrap()));
    let decisions =
        |record: &Path| events(&Record::at(record)).into_iter().map(|event| event.decision).collect::<Vec<_>>();
    assert_eq!(decisions(&hooks.path().join(".history/elsewhere")), ["vetoed", "notified"]);
    assert_eq!(decisions(&hooks.record()), ["notified"]);
    assert_eq!(hooks.events()[0].caller, "mydaemon");
}
