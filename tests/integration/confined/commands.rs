//! The commands of confined hooks.

use std::time::{Duration, Instant};

use hookvisor::Limits;

use super::{World, command};
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::{event, stderr};

/// The output of a hook, which must exit with this status.
#[track_caller]
fn says(script: &str, grants: &str, status: u8) -> String {
    let world = World::new();
    let report = world.run(script, grants);
    assert_eq!(report.exit_status(), status, "{report}");
    stderr(&report)
}

#[test]
fn every_interpreter_reaches_a_command_by_name_and_by_path() {
    let grants = command("/usr/bin/id", "['-u']");
    let shell = |interpreter: &str| {
        format!(
            "#!{interpreter}\nid -u >&2\n/usr/bin/id -u >&2\nx=$(id -u); echo \"x$x\" >&2\n(exec id -u) >&2\nexit 1\n"
        )
    };
    for interpreter in ["/bin/bash", "/bin/dash", "/usr/bin/env bash"] {
        assert_eq!(says(&shell(interpreter), &grants, 1), "0\n0\nx0\n0\n", "{interpreter}");
    }
    let python = "#!/usr/bin/python3\nimport os, subprocess, sys\n\
                  subprocess.run(['id', '-u'], stdout=2, check=True)\n\
                  sys.stderr.write(subprocess.check_output(['/usr/bin/id', '-u'], text=True, start_new_session=True))\n\
                  sys.stderr.flush(); os.execv('/usr/bin/id', ['id', '-u', '-g'])\n";
    let said = says(python, &grants, 126);
    assert!(said.starts_with("0\n0\nhookvisor: ") && said.contains("do not list this command"), "{said}");
    let perl = "#!/usr/bin/perl\nprint STDERR `id -u`; system('/usr/bin/id', '-u'); exit(1);\n";
    assert_eq!(says(perl, &grants, 1), "0\n");
}

#[test]
fn streams_status_and_directory_are_those_of_the_script() {
    let world = World::new();
    let grants = ["tr", "cat", "sh", "pwd"].map(|name| match name {
        "sh" => command("/usr/bin/sh", "['-c', '*']"),
        "tr" => command("/usr/bin/tr", "['a-z', 'A-Z']"),
        name => command(&format!("/usr/bin/{name}"), "[]"),
    });
    let script = "#!/bin/bash\necho one | tr a-z A-Z | cat | tr a-z A-Z >&2\n\
                  sh -c 'exit 7'; echo $? >&2\nsh -c 'kill -9 $$'; echo $? >&2\n\
                  sh -c 'echo out; echo err >&2' > $WORLD/granted/out 2> $WORLD/granted/err\n\
                  cat < $WORLD/granted/out >&2; cat < $WORLD/granted/err >&2\n\
                  cd $WORLD/granted && /usr/bin/pwd >&2\n\
                  sh -c 'read x || echo end of file' <&- >&2 2>&1\n\
                  cat <<EOF >&2\nhere\nEOF\n\
                  yes() { while echo y; do :; done; }; yes | sh -c 'read x; echo $x' >&2\nexit 1\n";
    let report = world.run(script, &grants.concat());
    let granted = world.at("granted").canonicalize().unwrap();
    let expected = format!("ONE\n7\n137\nout\nerr\n{}\nend of file\nhere\ny\n", granted.display());
    let said: Vec<String> =
        stderr(&report).lines().filter(|line| !line.contains("Killed")).map(str::to_owned).collect();
    assert_eq!(said.join("\n") + "\n", expected, "{report}");
}

#[test]
fn background_commands_and_signals_are_those_of_the_script() {
    let grants = command("/usr/bin/sleep", "['*']") + &command("/usr/bin/sh", "['-c', '*']");
    let script = "#!/bin/bash\nsleep 1000 & kill $!; wait $!; echo $? >&2\n\
                  sleep 1000 & kill -9 $!; wait $!; echo $? >&2\n\
                  sh -c 'trap \"exit 3\" USR1; echo ready; while :; do :; done' > >(read -r x; echo $x >&2; echo > $WORLD/granted/ready) &\n\
                  pid=$!; until [ -e $WORLD/granted/ready ]; do :; done; kill -USR1 $pid; wait $pid; echo $? >&2\n\
                  sleep 0.1 & wait; echo done >&2; exit 1\n";
    let said = says(script, &grants, 1);
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("Killed")).collect();
    assert_eq!(said, ["143", "137", "ready", "3", "done"]);
}

#[test]
fn what_is_not_listed_is_refused_with_the_lines_that_would_allow_it() {
    let world = World::new();
    let script = "#!/bin/sh\nid -g; echo $? >&2; rm -f $WORLD/secret; echo $? >&2; nosuch; echo $? >&2; exit 1\n";
    let report = world.run(script, &command("/usr/bin/id", "['-u']"));
    let said = stderr(&report);
    let statuses: Vec<&str> = said.lines().filter(|line| line.parse::<u8>().is_ok()).collect();
    assert_eq!(statuses, ["126", "126", "127"], "{said}");
    let notes = report.hooks[0].notes.join("\n");
    assert_eq!(report.hooks[0].notes.len(), 2, "{notes}");
    assert!(notes.contains("/usr/bin/id") && notes.contains("\"-g\""), "{notes}");
    assert!(notes.contains("/usr/bin/rm") && notes.contains("/secret"), "{notes}");
    world.assert_unchanged();
}

#[test]
fn a_command_ends_with_the_hook_and_in_its_time() {
    alone("confined::commands::a_command_ends_with_the_hook_and_in_its_time", ends_with_the_hook);
}

fn ends_with_the_hook() {
    let world = World::new();
    let grants = command("/usr/bin/sleep", "['*']");
    let before = Leftovers::before();
    world.hook("#!/bin/bash\nsleep 1000\n", &grants);
    let mut limits = Limits::default();
    limits.timeout = Duration::from_millis(300);
    limits.grace = Duration::from_secs(20);
    let began = Instant::now();
    let report = world.hooks.builder().limits(limits).build().unwrap().run(&event("web1", "start"));
    assert!(report.to_string().contains("timed out"), "{report}");
    assert!(began.elapsed() < Duration::from_secs(15));
    let report = world.run("#!/bin/bash\nsleep 1000 &\nexit 1\n", &grants);
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains("/usr/bin/sleep was still running when the hook ended"), "{notes}");
    Leftovers::assert_none_since(&before, "confined hooks");
}

/// The time after the hook's end does not grow with the number of its commands.
#[test]
fn commands_that_ignore_sigterm_end_together_after_the_hook() {
    alone("confined::commands::commands_that_ignore_sigterm_end_together_after_the_hook", || {
        const COMMANDS: usize = 24;
        let world = World::new();
        let files = world.at("granted");
        let stubborn = format!("trap \"\" TERM; : > {}/up.$0; while :; do sleep 1; done", files.display());
        let script = format!(
            "#!/bin/bash\nfor i in {{1..{COMMANDS}}}; do sh -c '{stubborn}' $i < /dev/null > /dev/null 2>&1 & done\n\
             until set -- $WORLD/granted/up.*; [ $# -eq {COMMANDS} ]; do :; done\n: > $WORLD/granted/ended\nexit 1\n"
        );
        let before = Leftovers::before();
        let report = world.run(&script, &command("/usr/bin/sh", "['-c', '*', '*']"));
        let ended = std::fs::metadata(files.join("ended")).unwrap().modified().unwrap();
        let after = ended.elapsed().unwrap();
        assert_eq!(report.exit_status(), 1, "{report}");
        assert_eq!(
            report.hooks[0].notes,
            ["/usr/bin/sh was still running when the hook ended, so hookvisor stopped it"]
        );
        // Half a second for all of them. For each of them in turn it would be 12 s.
        assert!(after < Duration::from_secs(6), "{after:?}");
        Leftovers::assert_none_since(&before, "stubborn commands");
    });
}
