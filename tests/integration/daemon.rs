//! The example daemon: its answers, what its hooks get, and what is left after its end.

use std::fs;
use std::thread;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::Hooks;
use crate::support::daemon::Daemon;
use crate::support::processes::{is_alive, line_of, wait_for_the_end_of, wait_until};

/// Hooks that record their calls in `calls` and then run this. `$dir` is their directory.
fn hooks(body: &str) -> Hooks {
    let record = "dir=${0%/*}/..; echo \"$2 $1 $(cat)\" >> \"$dir/calls\"";
    Hooks::new().script("daemon-example.d/10-first", &format!("{record}\n{body}"))
}

/// Waits in a hook for a file in its directory.
fn until(file: &str) -> String {
    format!("until [ -e \"$dir/{file}\" ]; do sleep 0.01; done")
}

/// The recorded calls, sorted.
fn calls(hooks: &Hooks) -> Vec<String> {
    let calls = fs::read_to_string(hooks.path().join("calls")).unwrap_or_default();
    let mut calls: Vec<String> = calls.lines().map(str::to_owned).collect();
    calls.sort();
    calls
}

fn wait_for(hooks: &Hooks, file: &str) {
    wait_until(file, || hooks.path().join(file).exists());
}

#[test]
fn hooks_are_asked_before_a_start_and_told_after_the_end() {
    let hooks = hooks("[ $1 != bad ] || { echo not this one >&2; exit 3; }");
    let daemon = Daemon::of(&hooks, &[]);
    let pid = daemon.start("web1", "sleep 3600");
    assert_eq!(daemon.ask("list"), format!("ok web1 runs as process {pid}"));
    assert_eq!(daemon.ask("start web1 true"), "no there is a guest web1 already");
    let veto = daemon.ask("start bad true");
    assert!(veto.starts_with("no Hook script execution failed: ") && veto.ends_with(": not this one"), "{veto}");
    let unmade = daemon.ask("start unmade /no/such");
    assert_eq!(unmade, "no /no/such could not be started: No such file or directory (os error 2)");
    assert!(is_alive(&pid));

    assert_eq!(daemon.ask("stop web1"), "ok web1 is stopped");
    assert!(!is_alive(&pid));
    assert_eq!((daemon.ask("stop web1"), daemon.ask("list")), ("no web1 is not running".into(), "ok".into()));
    let expected = [
        "start bad true",
        "start unmade /no/such",
        "start web1 sleep 3600",
        "stopped unmade /no/such",
        "stopped web1 sleep 3600",
    ];
    assert_eq!(calls(&hooks), expected);
}

#[test]
fn its_client_prints_the_answer_and_fails_on_a_no() {
    let hooks = hooks("[ $1 != bad ] || { printf 'first\\n\\nlast\\n' >&2; exit 3; }");
    let daemon = Daemon::of(&hooks, &[]);
    let (started, said) = daemon.ctl(&["start", "web1", "sleep", "-s", "3600"]);
    assert!(started && said.starts_with("web1 runs as process "), "{said}");
    let (started, said) = daemon.ctl(&["start", "bad", "true"]);
    assert!(!started && said.starts_with("no: ") && said.ends_with(": first\nlast"), "{said}");
    let (passed_on, said) = daemon.ctl(&["start", "web2", "sh", "-c", "sleep 1; true"]);
    assert!(!passed_on && said.contains("there is no quoting"), "{said}");
    assert_eq!(calls(&hooks).iter().filter(|call| call.starts_with("start")).count(), 2);
}

#[test]
fn when_a_guest_exits_its_hooks_are_told_and_its_process_group_ends() {
    let hooks = hooks("");
    let guest = hooks.file("guest", "#!/bin/sh\nsleep 3600 & echo $! > \"$0.child\"\n", 0o755);
    let daemon = Daemon::of(&hooks, &[]);
    let command = guest.display();
    daemon.start("short", &command.to_string());
    wait_until("the end of the guest", || daemon.ask("list") == "ok");
    assert_eq!(calls(&hooks), [format!("start short {command}"), format!("stopped short {command}")]);
    wait_for_the_end_of(&line_of(&hooks.path().join("guest.child")));
    daemon.start("short", "true");
}

#[test]
fn starts_of_different_guests_run_in_parallel_and_reserve_their_names() {
    // Each start ends only after the other has begun.
    let both = format!(": > \"$dir/began-$1\"; [ $2 = stopped ] || {{ {}; {}; }}", until("began-a"), until("began-b"));
    let hooks = hooks(&both);
    let daemon = Daemon::of(&hooks, &[]);
    thread::scope(|scope| {
        let a = scope.spawn(|| daemon.start("a", "sleep 3600"));
        wait_for(&hooks, "began-a");
        assert_eq!(daemon.ask("list"), "ok a is starting");
        assert_eq!(daemon.ask("stop a"), "no a is still starting");
        assert_eq!(daemon.ask("start a true"), "no there is a guest a already");
        let b = daemon.start("b", "sleep 3600");
        let a = a.join().unwrap();
        assert_eq!(daemon.ask("list"), format!("ok a runs as process {a}\nb runs as process {b}"));
    });
}

#[test]
fn the_option_limits_how_many_hooks_run_at_once() {
    let hooks = hooks(&format!(": > \"$dir/began-$1\"; {}", until("go")));
    let daemon = Daemon::of(&hooks, &["--max-hooks", "1"]);
    thread::scope(|scope| {
        let start = |name: &'static str| {
            let daemon = &daemon;
            scope.spawn(move || daemon.start(name, "sleep 3600"))
        };
        let first = start("first");
        wait_for(&hooks, "began-first");
        let second = start("second");
        wait_until("the second start", || daemon.ask("list").contains("second is starting"));
        assert!(!hooks.path().join("began-second").exists());
        hooks.file("go", "", 0o644);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn sighup_reloads_the_hooks_and_keeps_the_old_ones_on_failure() {
    let hooks = hooks(&format!("[ $1 != slow ] || [ $2 = stopped ] || {{ : > \"$dir/began\"; {}; }}", until("go")));
    let daemon = Daemon::of(&hooks, &[]);
    let new = |hooks: &Hooks| calls(hooks).into_iter().filter(|call| call.starts_with("new")).collect::<Vec<_>>();
    thread::scope(|scope| {
        let slow = scope.spawn(|| daemon.start("slow", "sleep 3600"));
        wait_for(&hooks, "began");
        let record = "#!/bin/sh\necho \"new $2 $1\" >> \"${0%/*}/../calls\"\n";
        hooks.file("daemon-example.d/20-new", record, 0o755);
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for_log("the hooks are loaded again");
        daemon.start("quick", "sleep 3600");
        assert_eq!(new(&hooks), ["new start quick"]);
        hooks.file("go", "", 0o644);
        slow.join().unwrap();
        assert_eq!(new(&hooks), ["new start quick"], "a start ends with the hooks that it began with");
    });

    let away = hooks.path().with_extension("away");
    fs::rename(hooks.path(), &away).unwrap();
    daemon.signal(Signal::SIGHUP);
    wait_until("the failure", || {
        fs::read_to_string(away.join("log")).unwrap().contains("ERROR daemon: the hooks stay as they were: ")
    });
    fs::rename(&away, hooks.path()).unwrap();
    daemon.start("later", "sleep 3600");
    assert_eq!(new(&hooks), ["new start later", "new start quick"]);
}

#[test]
fn sigterm_ends_every_guest_tells_its_hooks_and_leaves_nothing() {
    let hooks = hooks("");
    let stubborn = hooks.file("stubborn", "#!/bin/sh\ntrap '' TERM\n: > \"$0.began\"\nsleep 3600\n", 0o755);
    let mut daemon = Daemon::of(&hooks, &[]);
    let mut pids: Vec<String> = (0..20).map(|guest| daemon.start(&format!("web{guest}"), "sleep 3600")).collect();
    pids.push(daemon.start("stubborn", &stubborn.display().to_string()));
    wait_for(&hooks, "stubborn.began");
    let mut idle = daemon.client();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.end().code(), Some(0), "{}", daemon.log());
    assert_eq!(idle.answer(), "");
    assert!(!daemon.has_socket());
    for pid in &pids {
        assert!(!is_alive(pid));
    }
    let told = calls(&hooks).iter().filter(|call| call.starts_with("stopped ")).count();
    assert_eq!(told, 21);
}

#[test]
fn sigterm_cancels_a_start_whose_hook_hangs() {
    let hooks = hooks("[ $2 = stopped ] || { sleep 3600 & echo $! > \"$dir/child\"; echo $$ > \"$dir/hook\"; wait; }");
    let mut daemon = Daemon::of(&hooks, &[]);
    let mut client = daemon.client();
    client.write(b"start web1 sleep 3600\nstart web2 sleep 3600\n");
    let [hook, child] = ["hook", "child"].map(|file| line_of(&hooks.path().join(file)));
    daemon.signal(Signal::SIGTERM);
    let given_up = client.answer();
    assert!(given_up.ends_with(" was interrupted"), "{given_up}\n{}", daemon.log());
    assert_eq!(client.answer(), "no the daemon is ending");
    assert_eq!(daemon.end().code(), Some(0));
    wait_for_the_end_of(&hook);
    wait_for_the_end_of(&child);
    assert_eq!(calls(&hooks), ["start web1 sleep 3600"]);
}

#[test]
fn a_killed_daemon_leaves_no_hook_and_the_next_one_takes_its_socket() {
    let hangs = "[ $1 != hangs ] || { sleep 3600 & echo $! > \"$dir/child\"; echo $$ > \"$dir/hook\"; wait; }";
    let hooks = hooks(hangs);
    let mut daemon = Daemon::of(&hooks, &[]);
    let guest = daemon.start("web1", "sleep 3600");
    daemon.client().write(b"start hangs sleep 3600\n");
    let [hook, child] = ["hook", "child"].map(|file| line_of(&hooks.path().join(file)));
    daemon.signal(Signal::SIGKILL);
    daemon.end();
    wait_for_the_end_of(&hook);
    wait_for_the_end_of(&child);
    assert!(is_alive(&guest), "guests are not hooks");
    killpg(Pid::from_raw(guest.parse().unwrap()), Signal::SIGKILL).unwrap();

    assert!(daemon.has_socket());
    let next = Daemon::of(&hooks, &[]);
    assert_eq!(next.ask("list"), "ok");
}

#[test]
fn only_one_daemon_gets_the_socket_and_other_files_stay() {
    let hooks = hooks("");
    let first = Daemon::of(&hooks, &[]);
    let mut second = Daemon::spawn(&hooks, &[]);
    assert_eq!(second.end().code(), Some(1));
    assert!(second.log().contains("another daemon has "), "{}", second.log());
    assert_eq!(first.ask("list"), "ok");
    drop(first);

    let file = hooks.file("socket", "somebody's", 0o644);
    let mut third = Daemon::spawn(&hooks, &[]);
    assert_eq!(third.end().code(), Some(1));
    assert!(third.log().contains("is something else than a socket"), "{}", third.log());
    assert_eq!(fs::read_to_string(file).unwrap(), "somebody's");
}

#[test]
fn invalid_commands_are_refused_and_other_clients_go_on() {
    let hooks = hooks("");
    let daemon = Daemon::of(&hooks, &[]);
    let usage = "no a command is: start NAME PROGRAM [ARG…], stop NAME, or list";
    let mut client = daemon.client();
    client.write(b"\nfrobnicate\n\xff\xfe\nstart\nstart web1\nstart a\0b true\nstop nobody\nlist");
    client.write(b"\n");
    let answers: Vec<String> = (0..8).map(|_| client.answer()).collect();
    assert_eq!([&answers[0], &answers[1], &answers[3]], [usage; 3]);
    assert!(answers[2].starts_with("no a command is text: "), "{}", answers[2]);
    assert_eq!(answers[4], "no start what?");
    assert!(answers[5].contains("contains a NUL byte"), "{}", answers[5]);
    assert_eq!(answers[6..], ["no nobody is not running", "ok"]);

    let mut long = daemon.client();
    long.write(&[b'a'; 100_000]);
    assert_eq!(long.answer(), "no the line is longer than 65536 bytes");
    assert_eq!((long.answer(), daemon.ask("list")), (String::new(), "ok".into()));
    assert_eq!(calls(&hooks), [""; 0]);
}

#[test]
fn a_start_goes_on_when_its_client_has_left() {
    let hooks = hooks(&format!("[ $2 = stopped ] || {{ : > \"$dir/began\"; {}; }}", until("go")));
    let daemon = Daemon::of(&hooks, &[]);
    let mut client = daemon.client();
    client.write(b"start web1 sleep 3600\n");
    wait_for(&hooks, "began");
    drop(client);
    hooks.file("go", "", 0o644);
    wait_until("the guest", || daemon.ask("list").starts_with("ok web1 runs as process "));
}

#[test]
fn fifty_clients_at_once_are_each_answered_their_own() {
    let hooks = hooks("");
    let daemon = Daemon::of(&hooks, &[]);
    thread::scope(|scope| {
        for client in 0..50 {
            let daemon = &daemon;
            scope.spawn(move || {
                let name = format!("web{client}");
                let pid = daemon.start(&name, "sleep 3600");
                assert!(daemon.ask("list").contains(&format!("{name} runs as process {pid}")));
                assert_eq!(daemon.ask(&format!("stop {name}")), format!("ok {name} is stopped"));
                assert!(!is_alive(&pid));
            });
        }
    });
    assert_eq!((daemon.ask("list"), calls(&hooks).len()), ("ok".into(), 100));
}

#[test]
fn a_client_above_the_limit_is_turned_away() {
    let hooks = hooks("");
    let daemon = Daemon::of(&hooks, &[]);
    let mut clients: Vec<_> = (0..256).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.write(b"list\n");
        assert_eq!(client.answer(), "ok");
    }
    assert_eq!(daemon.client().answer(), "");
    daemon.wait_for_log("a client was not taken: there are 256 already");
    clients.pop();
    wait_until("a place", || daemon.client().is_taken());
}

#[test]
fn the_log_has_fields_for_programs_too() {
    let hooks = hooks("[ $1 != bad ] || exit 3");
    let mut daemon = Daemon::of(&hooks, &["--log", "json"]);
    let pid = daemon.start("web1", "sleep 3600");
    daemon.ask("start bad true");
    daemon.signal(Signal::SIGTERM);
    daemon.end();
    let log = daemon.log();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let fields = |message: &str| {
        let line = lines.iter().find(|line| line["fields"]["message"] == message);
        line.unwrap_or_else(|| panic!("{message} in {log}"))["fields"].clone()
    };
    let started = fields("started");
    assert_eq!((started["guest"].as_str(), started["pid"].as_str()), (Some("web1"), Some(pid.as_str())));
    assert_eq!(fields("daemon-example bad: start is vetoed")["hookvisor.object"], "bad");
}

#[test]
fn its_guests_have_no_signal_blocked() {
    let hooks = hooks("");
    let daemon = Daemon::of(&hooks, &[]);
    let pid = daemon.start("web1", "sleep 3600");
    let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    wait_until("sleep", || status().starts_with("Name:\tsleep\n"));
    assert!(status().contains("SigBlk:\t0000000000000000\n"), "{}", status());
}

#[test]
fn the_next_daemon_reconnects_running_guests_and_reports_ended_ones() {
    let hooks = hooks("[ \"$2 $1\" != 'reconnect unwanted' ] || exit 3");
    let mut killed = Daemon::of(&hooks, &[]);
    let [stays, unwanted, ends] = ["stays", "unwanted", "ends"].map(|name| killed.start(name, "sleep 3600"));
    killed.signal(Signal::SIGKILL);
    killed.end();
    killpg(Pid::from_raw(ends.parse().unwrap()), Signal::SIGKILL).unwrap();
    wait_for_the_end_of(&ends);
    assert!(is_alive(&stays) && is_alive(&unwanted));

    let mut next = Daemon::of(&hooks, &[]);
    assert_eq!(next.ask("list"), format!("ok stays runs as process {stays}"), "{}", next.log());
    wait_for_the_end_of(&unwanted);
    let begins = |word: &str| calls(&hooks).into_iter().filter(|call| call.starts_with(word)).collect::<Vec<_>>();
    assert_eq!(begins("reconnect"), ["reconnect stays sleep 3600", "reconnect unwanted sleep 3600"]);
    assert_eq!(begins("stopped"), ["stopped ends sleep 3600", "stopped unwanted sleep 3600"]);

    // It is a guest like any other: its name is reserved, it can be stopped, and its end is noticed.
    assert_eq!(next.ask("start stays true"), "no there is a guest stays already");
    assert_eq!(next.ask("stop stays"), "ok stays is stopped");
    wait_for_the_end_of(&stays);
    assert_eq!(begins("stopped stays"), ["stopped stays sleep 3600"]);
    next.signal(Signal::SIGTERM);
    assert_eq!(next.end().code(), Some(0), "{}", next.log());
    assert_eq!(fs::read_to_string(hooks.path().join("socket.state")).unwrap(), "{}");
}

#[test]
fn a_process_that_reuses_a_guest_s_number_is_left_alone() {
    let hooks = hooks("");
    let mut other = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
    let state = format!(
        "{{\"web1\": {{\"program\": [\"true\"], \"process\": {{\"pid\": {}, \"started\": 1, \"boot\": \"then\"}}}}}}",
        other.id()
    );
    hooks.file("socket.state", state, 0o600);
    let daemon = Daemon::of(&hooks, &[]);
    assert_eq!((daemon.ask("list"), calls(&hooks)), ("ok".into(), vec!["stopped web1 true".to_owned()]));
    drop(daemon);
    assert!(is_alive(&other.id().to_string()));
    other.kill().unwrap();
    other.wait().unwrap();

    hooks.file("socket.state", "no JSON", 0o600);
    let mut refused = Daemon::spawn(&hooks, &[]);
    assert_eq!(refused.end().code(), Some(1));
    assert!(refused.log().contains("socket.state cannot be read: remove it if no guest runs"), "{}", refused.log());
}
