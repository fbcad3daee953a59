//! `learn`: what a hook did, as settings that allow it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::guests::wasm_for;
use crate::support::program::{Ran, hookvisor};
use crate::support::{Hooks, skip};

/// Whether processes can be traced here.
pub(crate) fn can_watch() -> bool {
    let can =
        Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output().is_ok_and(|ran| ran.status.success());
    if !can {
        skip(
            "learn",
            "strace is not installed (scripts/install-test-tools installs it on Debian), or may not trace here",
        );
    }
    can
}

/// A hook that reserves huge pages, with substitutes for the kernel's files.
const HUGEPAGES: &str = "case $2 in
prepare) echo 512 > STATE/mm/nr_hugepages; read -r pages < STATE/mm/nr_hugepages; [ \"$pages\" = 512 ] || exit 1;;
release) echo 0 > STATE/mm/nr_hugepages; rm -f STATE/run/$1;;
started) echo \"$1\" > STATE/run/$1; uname -r > /dev/null;;
esac
cat > /dev/null";

fn with_state(body: &str) -> Hooks {
    let hooks = Hooks::new();
    for directory in ["state/mm", "state/run"] {
        fs::create_dir_all(hooks.path().join(directory)).unwrap();
    }
    let body = body.replace("STATE", &hooks.path().join("state").display().to_string());
    hooks.script("qemu.d/10-hook", &body)
}

impl Hooks {
    fn learn(&self, merge: Option<&Path>, operation: &str) -> Ran {
        let mut learn = hookvisor();
        learn.arg("learn").args(merge.map(|file| format!("--merge={}", file.display())));
        learn.arg(self.path().join("qemu.d/10-hook")).args(["qemu", "web1", operation]).write_stdin("<domain/>");
        self.ran(&mut learn)
    }
}

#[test]
fn the_runs_of_all_operations_make_one_file() {
    if !can_watch() {
        return;
    }
    let hooks = with_state(HUGEPAGES);
    let learned = hooks.path().join("learned.toml");
    fs::write(&learned, "").unwrap();
    for operation in ["prepare", "started", "stopped", "release"] {
        let ran = hooks.learn(Some(&learned), operation);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{operation}");
        fs::write(&learned, ran.stdout.replace("DIR", &hooks.path().display().to_string())).unwrap();
    }
    assert_eq!(fs::read_to_string(hooks.path().join("state/mm/nr_hugepages")).unwrap(), "0\n", "the hook really ran");
    let learned = fs::read_to_string(learned).unwrap().replace(&hooks.path().display().to_string(), "DIR");
    let grants: Vec<&str> = learned.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let expected = [
        "confine = true",
        "[[dir]]",
        "host = \"DIR/state/mm\"",
        "access = \"read-write\"",
        "[[dir]]",
        "host = \"DIR/state/run\"",
        "access = \"read-write\"",
        "[[command]]",
        "program = \"/usr/bin/cat\"",
        "args = []",
        "[[command]]",
        "program = \"/usr/bin/rm\"",
        "args = [\"-f\", \"DIR/state/run/{object}\"]",
        "[[command]]",
        "program = \"/usr/bin/uname\"",
        "args = [\"-r\"]",
    ];
    assert_eq!(grants, expected, "{learned}");
    assert!(learned.contains("# writes DIR/state/mm/nr_hugepages\n"), "{learned}");
}

/// Imitates a hook that binds a device to another driver: it reads one file, writes another, and runs programs.
const VFIO: &str = "device=0000:01:00.0
case $2 in
prepare) read -r driver < STATE/mm/driver; echo \"$device\" > STATE/run/unbind; echo \"$driver\" > STATE/run/saved; uname > /dev/null;;
release) read -r driver < STATE/run/saved; echo \"$device $driver\" > STATE/run/bind; rm STATE/run/saved;;
esac";
/// Imitates a hook that sets the processors' governor.
const GOVERNOR: &str = "case $2 in
started) for cpu in STATE/run/cpu*; do echo performance > \"$cpu\"; done;;
stopped) for cpu in STATE/run/cpu*; do basename \"$cpu\" > /dev/null; echo powersave > \"$cpu\"; done;;
esac";

const LIFE: [&str; 4] = ["prepare", "started", "stopped", "release"];

/// The files that the hook left in its state directory, by name.
fn state(hooks: &Hooks) -> Vec<(String, String)> {
    let files = ["mm", "run"].iter().flat_map(|name| fs::read_dir(hooks.path().join("state").join(name)).unwrap());
    let mut files: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    files.sort();
    files
}

fn prepare_state(hooks: &Hooks) {
    for name in ["mm", "run"] {
        fs::remove_dir_all(hooks.path().join("state").join(name)).unwrap();
    }
    hooks.file("state/mm/driver", "nvidia\n", 0o644);
    for name in ["state/run/cpu0", "state/run/cpu1"] {
        hooks.file(name, "powersave\n", 0o644);
    }
}

/// Three hooks like the public ones, learned over four operations and merged without edits, and then confined to the
/// result.
#[test]
fn what_was_learned_confines_the_hook_that_it_was_learned_from() {
    if !can_watch() {
        return;
    }
    for body in [HUGEPAGES, VFIO, GOVERNOR] {
        let hooks = with_state(body);
        let learned = hooks.path().join("learned.toml");
        fs::write(&learned, "").unwrap();
        prepare_state(&hooks);
        for operation in LIFE {
            let ran = hooks.learn(Some(&learned), operation);
            assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{operation}");
            fs::write(&learned, ran.stdout.replace("DIR", &hooks.path().display().to_string())).unwrap();
        }
        let expected = state(&hooks);
        prepare_state(&hooks);
        fs::rename(&learned, hooks.path().join("qemu.d/10-hook.toml")).unwrap();
        let runtime = hooks.runtime();
        if let Some(reason) = runtime.inventory().hooks[0].reason.clone() {
            return skip("learn", &format!("no hook can be confined here: {reason}"));
        }
        for operation in LIFE {
            let event = hookvisor::Event::new("qemu", "web1", operation).unwrap().with_document("<domain/>");
            let report = runtime.run(&event);
            let learned = fs::read_to_string(hooks.path().join("qemu.d/10-hook.toml")).unwrap();
            assert_eq!(
                (report.exit_status(), &report.hooks[0].notes[..]),
                (0, &[][..]),
                "{operation}: {report}\n{learned}"
            );
            assert_eq!(report.hooks[0].stderr, b"", "{operation}: {report}\n{learned}");
        }
        assert_eq!(state(&hooks), expected);
    }
}

/// The lines that a report's notes say to add to this file, as a person would copy them.
fn lines_to_add(report: &str, file: &Path) -> String {
    let heading = format!("add to {}:", file.display());
    let mut lines = report.lines().peekable();
    let mut added = String::new();
    while let Some(line) = lines.next() {
        while let Some(line) = lines.next_if(|next| line.ends_with(&heading) && next.starts_with("    ")) {
            added += &format!("{line}\n");
        }
    }
    added
}

/// It was learned for one guest. For another, it runs a program and writes to another directory.
#[test]
fn something_new_on_another_path_is_refused_until_the_lines_of_the_notes_are_added() {
    if !can_watch() {
        return;
    }
    let hooks = with_state(
        "echo $1 > STATE/run/guest || exit 1; [ \"$1\" = web1 ] && exit 0\n\
         uname -r > /dev/null || exit 3; echo 512 > STATE/mm/nr_hugepages || exit 4",
    );
    let settings = hooks.path().join("qemu.d/10-hook.toml");
    let learned = hooks.learn(None, "prepare");
    fs::write(&settings, learned.stdout.replace("DIR", &hooks.path().display().to_string())).unwrap();
    let run = |object: &str| hooks.runtime().run(&hookvisor::Event::new("qemu", object, "prepare").unwrap());
    if let Some(reason) = hooks.runtime().inventory().hooks[0].reason.clone() {
        return skip("learn", &format!("no hook can be confined here: {reason}"));
    }
    assert_eq!(run("web1").exit_status(), 0, "{}", run("web1"));
    for (status, line) in [(3, "    [[command]]"), (4, "    [[dir]]")] {
        let refused = run("web2");
        assert_eq!(refused.exit_status(), status, "{refused}");
        let lines = lines_to_add(&refused.shown(), &settings);
        assert!(lines.starts_with(line) && lines.lines().count() == 3, "{lines}{refused}");
        assert!(!hooks.path().join("state/mm/nr_hugepages").exists());
        fs::write(&settings, format!("{}\n{lines}", fs::read_to_string(&settings).unwrap())).unwrap();
    }
    let report = run("web2");
    assert_eq!((report.exit_status(), report.hooks[0].notes.len()), (0, 0), "{report}");
    assert_eq!(fs::read_to_string(hooks.path().join("state/mm/nr_hugepages")).unwrap(), "512\n");
}

#[test]
fn what_is_dangerous_or_cannot_be_granted_is_told() {
    if !can_watch() {
        return;
    }
    let hooks = with_state(
        "bash -c 'exit 0'; sh -c 'exit 0'; chmod 600 STATE/mm; kill -0 1; : > $0.new; : > STATE/bin/tool; exit 3",
    );
    fs::create_dir(hooks.path().join("state/bin")).unwrap();
    let ran = hooks.learn(None, "prepare");
    assert_eq!(ran.status, 3);
    assert!(
        ran.stderr.contains("10-hook failed with error code 3")
            && ran.stderr.contains("the settings cover only this run"),
        "{}",
        ran.stderr
    );
    // The hook's own interpreter needs no grant.
    assert!(!ran.stdout.contains("/sh\""), "{}", ran.stdout);
    for (warning, directory) in
        [("it contains this hook, which could change itself", "qemu.d"), ("it contains programs", "state/bin")]
    {
        let line = ran.stdout.lines().skip_while(|line| !line.contains(warning)).nth(2).unwrap_or_default();
        assert_eq!(line, format!("host = \"DIR/{directory}\""), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("# warning: bash can run or write more than its arguments show"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("# not granted: a signal to another process: run a command that sends it"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_mistake_is_told_before_the_hook_runs() {
    let hooks = with_state("touch STATE/ran");
    let broken = hooks.file("broken.toml", "[[dir]", 0o644);
    let ran = hooks.learn(Some(&broken), "prepare");
    assert_eq!(ran.status, 125);
    assert!(ran.stderr.contains("the file to merge is not TOML"), "{}", ran.stderr);
    let ran = hooks.learn(None, "strat");
    assert_eq!(ran.status, 2);
    assert!(
        ran.stderr.contains("driver qemu has no operation \"strat\": its operations are prepare"),
        "{}",
        ran.stderr
    );
    let ran = hooks.learn(Some(Path::new("/nonexistent.toml")), "prepare");
    assert!(ran.stderr.contains("/nonexistent.toml could not be read"), "{}", ran.stderr);
    assert!(!hooks.path().join("state/ran").exists());
}

/// A sandboxed hook that reads one file and writes another, and one that runs a command.
#[test]
fn a_sandboxed_hook_is_learned_from_what_it_asks_for() {
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let hooks = Hooks::new().copy("qemu.d/10-probe.wasm", &wasm_for("probe", target));
        for directory in ["in", "out/made"] {
            fs::create_dir_all(hooks.path().join(directory)).unwrap();
        }
        hooks.file("in/state", "ready", 0o644);
        let root = hooks.path().display().to_string();
        let steps = format!("show={root}/in/state;write={root}/out/made/new:text");
        let learn = |merge: Option<&Path>, steps: &str| {
            let mut learn = hookvisor();
            learn.arg("learn").args(merge.map(|file| format!("--merge={}", file.display())));
            learn.arg(hooks.path().join("qemu.d/10-probe.wasm")).args(["test", steps, "start"]).write_stdin("");
            hooks.ran(&mut learn)
        };
        let ran = learn(None, &steps);
        assert_eq!((ran.status, ran.stderr.as_str()), (0, "ready"), "{target}: {}", ran.stdout);
        assert_eq!(fs::read_to_string(hooks.path().join("out/made/new")).unwrap(), "text", "{target}");
        let expected = "# Learned by `hookvisor learn`: read it before you use it.\n\n\
             # reads DIR/in/state\n[[dir]]\nhost = \"DIR/in\"\n\n\
             # writes DIR/out/made/new\n[[dir]]\nhost = \"DIR/out/made\"\naccess = \"read-write\"\n";
        assert_eq!(ran.stdout, expected, "{target}");

        let settings = hooks.file("qemu.d/10-probe.toml", ran.stdout.replace("DIR", &root), 0o644);
        fs::remove_file(hooks.path().join("out/made/new")).unwrap();
        let run = |steps: &str| hooks.runtime().run(&hookvisor::Event::new("qemu", steps, "start").unwrap());
        let report = run(&steps);
        assert_eq!((report.exit_status(), report.hooks[0].notes.len()), (0, 0), "{target}: {report}");
        assert_eq!(fs::read_to_string(hooks.path().join("out/made/new")).unwrap(), "text", "{target}");

        // Something new is refused; the lines of the note allow it.
        let more = format!("write={root}/out/other:text");
        let refused = run(&more);
        assert_ne!(refused.exit_status(), 0, "{target}: {refused}");
        let note = &refused.hooks[0].notes[0];
        let (said, lines) = note.split_once(":\n").unwrap();
        assert!(said.starts_with(&format!("it is not granted the directory {root}/out; ")), "{target}: {note}");
        let before = fs::read_to_string(&settings).unwrap();
        fs::write(&settings, format!("{before}\n{lines}\n")).unwrap();
        assert_eq!(run(&more).exit_status(), 0, "{target}: {}", run(&more));

        // Merged, both are there.
        fs::write(&settings, before).unwrap();
        let merged = learn(Some(&settings), &more);
        assert!(
            merged.stdout.contains("host = \"DIR/in\"") && merged.stdout.contains("host = \"DIR/out\""),
            "{}",
            merged.stdout
        );
    }
}

#[test]
fn a_sandboxed_hook_s_commands_are_learned() {
    for target in ["wasm32-wasip1", "wasm32-wasip2"] {
        let hooks = Hooks::new().copy("qemu.d/10-sdk.wasm", &wasm_for("sdk", target));
        let mut learn = hookvisor();
        learn.arg("learn").arg(hooks.path().join("qemu.d/10-sdk.wasm"));
        learn.args(["qemu", "web1", "start", "begin", "run=/bin/sh -c echo_web1_>&2"]).write_stdin("");
        let ran = hooks.ran(&mut learn);
        assert_eq!(ran.status, 1, "the hook of the tests always vetoes: {}", ran.stderr);
        assert!(ran.stderr.contains("said \"web1\"") && ran.stderr.contains("which failed"), "{}", ran.stderr);
        let expected = "# at qemu web1 start begin run=/bin/sh -c echo_web1_>&2\n\
             # warning: sh can run or write more than its arguments show: grant a program made for this hook instead\n\
             [[command]]\nprogram = \"/bin/sh\"\nargs = [\"-c\", \"echo {object} >&2\"]\n";
        assert!(ran.stdout.ends_with(expected), "{target}: {}", ran.stdout);
    }
}
