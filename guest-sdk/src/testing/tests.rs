use std::fs;

use std::io::{Read, Write};

use super::*;
use crate::{UnixStream, granted, setting};

type Decision = Result<Verdict, Box<dyn Error>>;

fn harness() -> Harness {
    Harness::new(Event::new("web1", "prepare"))
}

#[test]
fn only_scripted_commands_run() {
    let seen = harness().command("/bin/a", ["x"], Answer::exited(0).with_stdout("yes")).run(|_| {
        let output = Command::new("/bin/a").arg("x").stdin("in").run()?;
        assert_eq!(output.stdout, b"yes");
        assert!(Command::new("/bin/a").run().is_err_and(|error| error.is_refusal()));
        Command::new("/bin/b").args(["x", "two words"]).run()?;
        Ok(Verdict::proceed())
    });
    assert_eq!(
        seen.verdict.message(),
        "this hook may not run /bin/b: the test has no answer for `/bin/b x \"two words\"`"
    );
    assert_eq!(seen.command_lines(), ["/bin/a x", "/bin/a", "/bin/b x \"two words\""]);
    assert_eq!(seen.commands[0].input(), b"in");
}

#[test]
fn answers_come_in_order_and_the_last_one_stays() {
    let args = [""; 0];
    let seen = harness()
        .command("/bin/a", args, Answer::not_started("no such file"))
        .command("/bin/a", args, Answer::ended(ExitStatus::Signaled(9)))
        .command("/bin/a", args, Answer::exited(0))
        .run(|_| {
            let a = || Command::new("/bin/a").run().map_or_else(|error| error.to_string(), |_| "ok".into());
            assert_eq!(a(), "/bin/a could not be run: no such file");
            assert_eq!(a(), "/bin/a was killed by signal 9");
            assert_eq!([a(), a()], ["ok", "ok"]);
            Ok(Verdict::proceed())
        });
    assert_eq!(seen.verdict, Verdict::proceed());
}

#[test]
fn a_granted_file_is_read_and_written_and_no_other() {
    let count = "/sys/kernel/mm/hugepages/nr_hugepages";
    let seen = harness().file(count, "0").run(|_| {
        assert_eq!(fs::read_to_string(granted(count))?, "0");
        fs::write(granted(count), "512")?;
        assert!(fs::read(granted("/etc/hostname")).is_err());
        assert!(fs::read(granted("/sys/kernel/mm/hugepages/../../../../etc/hostname")).is_err());
        Ok(Verdict::proceed())
    });
    assert_eq!((seen.verdict.is_veto(), seen.file(count).as_deref()), (false, Some("512")));
    assert_eq!(seen.file("/etc/hostname"), None);
}

#[test]
fn a_directory_of_the_test_can_be_granted() -> std::io::Result<()> {
    let own = Scratch::default();
    own.write(Path::new("/state"), b"kept");
    let seen = harness().dir("/run/hook", own.place(Path::new("/"))).run(|_| {
        fs::rename(granted("/run/hook/state"), granted("/run/hook/new"))?;
        Ok(Verdict::proceed())
    });
    assert_eq!(seen.file("/run/hook/new").as_deref(), Some("kept"));
    assert_eq!(fs::read(own.place(Path::new("/new")))?, b"kept");
    Ok(())
}

#[test]
fn settings_are_those_of_the_test() {
    let decide = |_: &Event| -> Decision { Ok(Verdict::veto(setting("PATH").ok_or("not set")?)) };
    assert_eq!(harness().run(decide).verdict, Verdict::veto("not set"));
    assert_eq!(harness().setting("PATH", "strict").run(decide).verdict, Verdict::veto("strict"));
    assert!(setting("PATH").is_some_and(|path| path != "strict"));
}

#[test]
fn the_hooks_own_settings_hold_it_as_in_production() {
    let own = Scratch::default();
    let settings =
        "env = { MODE = 'strict' }\n[[dir]]\nhost = '/sys/a'\n[[command]]\nprogram = '/bin/a'\nargs = ['{object}']";
    own.write(Path::new("/own.toml"), settings.as_bytes());
    let held = || {
        let held = harness().settings_file(own.place(Path::new("/own.toml")));
        held.file("/sys/a/x", "1").file("/sys/b/x", "2").command("/bin/a", ["web2"], Answer::exited(0))
    };
    let seen = held().command("/bin/a", ["web1"], Answer::exited(0)).run(|event| {
        assert_eq!(setting("MODE").as_deref(), Some("strict"));
        Command::new("/bin/a").arg(event.object()).run()?;
        assert!(Command::new("/bin/a").arg("web2").run().is_err_and(|error| error.is_refusal()));
        assert_eq!(fs::read(granted("/sys/a/x"))?, b"1");
        assert!(fs::read(granted("/sys/b/x")).is_err() && fs::write(granted("/sys/b/y"), "").is_err());
        Ok(Verdict::proceed())
    });
    assert_eq!(seen.verdict, Verdict::proceed());
    let writes = || held().run(|_| Ok(fs::write(granted("/sys/a/x"), "3").map(|()| Verdict::proceed())?));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(writes)).is_err(), "it may only read there");
}

#[test]
fn secrets_state_and_other_variables_are_as_in_production() {
    let own = Scratch::default();
    let settings = "state = true\nenv = { MODE = 'strict' }\n[[secret]]\nfile = '/etc/token'\nvariable = 'TOKEN'\n\
                    [[command]]\nprogram = '/bin/watch'\ndetach = true\ntimeout = '5min'";
    own.write(Path::new("/own.toml"), settings.as_bytes());
    own.write(Path::new("/more.toml"), format!("env_file = '/etc/more.env'\n{settings}").as_bytes());
    let held = |name: &str| {
        let held = harness().settings_file(own.place(Path::new(name))).setting("MORE", "x");
        held.file("/etc/token", "s3cret").command("/bin/watch", [""; 0], Answer::exited(3).with_stdout("said"))
    };
    let seen = held("/own.toml").run(|_| {
        let token = setting("TOKEN").ok_or("no secret")?;
        assert_eq!(fs::read_to_string(granted(token))?, "s3cret");
        assert!(fs::read(granted("/etc/token")).is_err(), "a hook finds it by the variable alone");
        fs::write(granted(setting("HOOKVISOR_STATE").ok_or("no state")?).join("count"), "1")?;
        assert_eq!(setting("MORE"), None, "the settings do not set it");
        assert_eq!(Command::new("/bin/watch").run()?.stdout, b"", "nobody waits for its output");
        Ok(Verdict::proceed())
    });
    assert_eq!(seen.verdict, Verdict::proceed());
    assert_eq!(seen.file("/var/lib/hookvisor/state/hook/count").as_deref(), Some("1"));
    let more = held("/more.toml").run(|_| Ok(Verdict::veto(setting("MORE").unwrap_or_default())));
    assert_eq!(more.verdict.message(), "x");
}

#[test]
fn a_socket_answers_as_the_test_says_and_only_where_the_settings_allow_it() {
    let ask = |_: &Event| -> Decision {
        let mut socket = UnixStream::connect("/run/a.sock")?;
        socket.write_all(b"status\n")?;
        socket.shutdown_write()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(Verdict::veto(answer))
    };
    let seen = harness().socket("/run/a.sock", "fine").socket("/run/b.sock", "").run(ask);
    assert_eq!((seen.verdict.message(), seen.sent("/run/a.sock")), ("fine", Some(b"status\n".into())));
    assert_eq!(seen.sent("/run/b.sock"), None);
    let refused = harness().run(ask).verdict;
    assert_eq!(refused.message(), "this hook may not connect to /run/a.sock: the test has no answer for this socket");
    let own = Scratch::default();
    for (settings, told) in [("to = '/run/a.sock'", "fine"), ("to = '/run/b.sock'", "does not list this connection")] {
        own.write(Path::new("/own.toml"), format!("[[connect]]\n{settings}").as_bytes());
        let held = harness().settings_file(own.place(Path::new("/own.toml"))).socket("/run/a.sock", "fine");
        let verdict = held.run(ask).verdict;
        assert!(verdict.message().ends_with(told), "{verdict:?}");
    }
    let relative = harness().run(|_| Ok(UnixStream::connect("a.sock").map(|_| Verdict::proceed())?)).verdict;
    assert_eq!(relative.message(), "the path of a socket has to be absolute");
}

#[test]
fn what_is_logged_is_seen() {
    let seen = harness().run(|event| {
        log::warn!("{} is slow", event.object());
        log::info!("done");
        Ok(Verdict::proceed())
    });
    assert_eq!(seen.log, [(log::Level::Warn, "web1 is slow".into()), (log::Level::Info, "done".into())]);
}

#[test]
fn nothing_stays_on_stage_after_a_panic() {
    let panicked = std::panic::catch_unwind(|| harness().run(|_| std::panic::resume_unwind(Box::new(()))));
    assert!(panicked.is_err());
    assert!(place(Path::new("/")).is_none());
}
