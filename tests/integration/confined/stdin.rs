//! What confined hooks may give their commands to read.

use super::World;
use crate::support::stderr;

const GRANT: &str = "[[command]]\nprogram = '/usr/bin/cat'\nstdin = { lines = 'add [a-z]+' }\n";

#[test]
fn what_a_command_reads_is_checked_before_it_starts() {
    let world = World::new();
    let script = "#!/bin/bash\nexec >&2\nprintf 'add one\\nadd two\\n' | cat >&2; cat <<< 'add three' >&2\n\
                  printf 'no\\nadd four\\nadd five' > $WORLD/granted/in\n{ read -r first; cat >&2; } < $WORLD/granted/in; echo\n\
                  cat <&- >&2; echo $?; cat < /dev/null; echo $?\n\
                  printf 'add six\\nflush\\n' | cat >&2; echo $?\n\
                  printf 'add %300000d' 1 | cat >&2; echo $?\nprintf 'add \\xff\\n' | cat; echo $?\n\
                  exec 9<> <(:); cat <&9 & kill $!; wait $!; echo $?; exit 1\n";
    let report = world.run(script, GRANT);
    let said = stderr(&report);
    let said: Vec<&str> = said.lines().filter(|line| !line.contains("Terminated")).collect();
    let refused = "hookvisor: the hook's settings do not allow this stdin for the command (the report says why)";
    let expected = [
        "add one",
        "add two",
        "add three",
        "add four",
        "add five",
        "0",
        "0",
        refused,
        "126",
        refused,
        "126",
        refused,
        "126",
        "143",
    ];
    assert_eq!(said, expected, "{report}");
    let notes = report.hooks[0].notes.join("\n").replace(&world.hooks.path().display().to_string(), "HOOKS");
    assert_eq!(
        notes,
        "`stdin` in HOOKS/test.toml does not allow the stdin that it gave /usr/bin/cat: line 2 does not match: \"flush\"; to \
         allow it, write in HOOKS/test.toml:\n    stdin = { lines = \"add [a-z]+|flush\" }\n\
         `stdin` in HOOKS/test.toml does not allow the stdin that it gave /usr/bin/cat: it is larger than 256 KiB\n\
         `stdin` in HOOKS/test.toml does not allow the stdin that it gave /usr/bin/cat: it is not UTF-8 text"
    );
}

#[test]
fn what_was_checked_is_what_the_command_reads() {
    let world = World::new();
    // The second grant allows what the first one does not.
    let grants = format!("{GRANT}[[command]]\nprogram = '/usr/bin/cat'\nstdin = {{ regex = 'COMMIT\\n' }}\n");
    let script = "#!/usr/bin/python3\nimport os, subprocess, sys\n\
                  read, write = os.pipe()\nos.write(write, b'add one\\n')\n\
                  asked = subprocess.Popen(['cat'], stdin=read, stdout=2)\nos.close(read)\nos.write(write, b'flush\\n')\n\
                  os.close(write)\nprint(asked.wait(), file=sys.stderr, flush=True)\n\
                  commit = subprocess.run(['cat'], input=b'COMMIT\\n', stdout=2)\n\
                  print(commit.returncode, file=sys.stderr)\nsys.exit(1)\n";
    let said = stderr(&world.run(script, &grants));
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with("hookvisor: ")).collect();
    assert_eq!(lines, ["126", "COMMIT", "0"], "{said}");
}
