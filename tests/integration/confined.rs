//! Confined native hooks: what is granted works as without confinement, and nothing else works.

mod commands;
mod compiled;
#[cfg(feature = "compiler")]
mod connect;
mod dbus;
#[cfg(feature = "compiler")]
mod detach;
mod hostile;
mod launch;
mod public;
#[cfg(feature = "compiler")]
mod secret;
mod settings;
#[cfg(feature = "compiler")]
mod state;
#[cfg(feature = "compiler")]
mod stdin;
mod udp;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hookvisor::{Decision, Report};
use tempfile::TempDir;

use crate::support::alone::alone;
use crate::support::old_kernel::lose_system_call;
use crate::support::{DRIVER, Hooks, event, start};

/// Files on the host: `granted` may be written, `read` may be read, and `secret` is next to them.
struct World {
    directory: TempDir,
    hooks: Hooks,
}

impl World {
    fn new() -> Self {
        let directory = TempDir::with_prefix("world-").unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["granted", "read"] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("file"), "as it was").unwrap();
        }
        fs::write(at("secret"), "a secret of the host").unwrap();
        Self { directory, hooks: Hooks::new() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A confined hook with the two directories and these additional settings. `$WORLD` is their parent directory.
    fn hook(&self, script: &str, more: &str) {
        let world = self.directory.path().display();
        self.hooks.file(DRIVER, script, 0o755);
        let settings = format!(
            "confine = true\nenv = {{ WORLD = '{world}' }}\n{more}\n[[dir]]\nhost = '{world}/granted'\naccess = 'read-write'\n\
             [[dir]]\nhost = '{world}/read'\n"
        );
        self.hooks.file("test.toml", settings, 0o644);
    }

    fn run(&self, script: &str, more: &str) -> Report {
        self.hook(script, more);
        start(&self.hooks)
    }

    /// The files are unchanged.
    fn assert_unchanged(&self) {
        let text = |name: &str| fs::read_to_string(self.at(name)).unwrap();
        assert_eq!((text("secret"), text("read/file")), ("a secret of the host".to_owned(), "as it was".to_owned()));
        let mut names: Vec<_> = fs::read_dir(self.directory.path()).unwrap().flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["granted", "read", "secret"]);
    }
}

/// The grant of a command.
fn command(program: &str, arguments: &str) -> String {
    format!("[[command]]\nprogram = '{program}'\nargs = {arguments}\n")
}

#[test]
fn files_are_reached_as_granted() {
    let world = World::new();
    let script = "#!/bin/bash\nread -r line < $WORLD/read/file; echo \"$line\" > $WORLD/granted/new\n\
                  echo more >> $WORLD/granted/file; cd $WORLD/granted && mapfile -t lines < new; echo \"${lines[0]}\" >&2\n\
                  [ -e $WORLD/secret ] && echo there >&2; read -r line < $WORLD/secret; exit 4\n";
    let report = world.run(script, "");
    let said = String::from_utf8_lossy(&report.hooks[0].stderr);
    assert_eq!(report.exit_status(), 4, "{report}");
    assert!(said.starts_with("as it was\nthere\n") && said.contains("secret: Permission denied"), "{said}");
    assert_eq!(fs::read_to_string(world.at("granted/new")).unwrap(), "as it was\n");
    assert_eq!(fs::read_to_string(world.at("granted/file")).unwrap(), "as it wasmore\n");
    world.assert_unchanged();
}

#[test]
fn all_hooks_are_confined_where_the_host_says_so() {
    let hooks = Hooks::new().script("test", "echo x > /dev/null; : < /etc/shadow");
    let run = |hooks: &Hooks| hooks.builder().confine_all(true).build().unwrap().run(&event("web1", "start"));
    let report = run(&hooks);
    assert!(report.to_string().contains("/etc/shadow"), "{report}");
    hooks.file("test.toml", "confine = false", 0o644);
    assert!(run(&hooks).to_string().contains("`confine = \"all\"`"));
}

#[test]
fn a_refused_file_is_noted_with_the_lines_that_would_allow_it() {
    let world = World::new();
    fs::set_permissions(world.at("secret"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::write(world.at("granted/own"), "").unwrap();
    fs::set_permissions(world.at("granted/own"), fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(world.at("granted/own"), Some(1), Some(1)).unwrap();
    let script = "#!/bin/bash\nread -r line < $WORLD/secret\necho > $WORLD/new\necho > $WORLD/read/file\n\
                  read -r line < $WORLD/granted/own\nread -r line < $WORLD/secret\nid\nexit 1\n";
    let report = world.run(script, "");
    let at = |name: &str| fs::canonicalize(world.directory.path()).unwrap().join(name).display().to_string();
    let settings = world.hooks.path().join("test.toml").display().to_string();
    let lines = |host: &str, access: &str| {
        format!("; to allow it, add to {settings}:\n    [[dir]]\n    host = \"{host}\"\n    access = {access}")
    };
    let notes = &report.hooks[0].notes;
    let expected = [
        format!(
            "it asked for a command that its settings do not list; to allow it, add to {settings}:\n    [[command]]\n    program = \"/usr/bin/id\"\n    args = []"
        ),
        format!("it was refused {}{}", at("secret"), lines(&at("secret"), "\"read\"")),
        format!("it was refused {}{}", at("new"), lines(at("").trim_end_matches('/'), "\"read-write\"")),
        format!("it was refused {}{}", at("read/file"), lines(&at("read/file"), "\"read-write\"")),
        format!(
            "it was refused {}, although its settings grant it: a confined hook has no capabilities, so the file's owner and \
             mode hold for it even as root",
            at("granted/own")
        ),
    ];
    assert_eq!(notes.join("\n"), expected.join("\n"), "{report}");
}

#[test]
fn a_refusal_that_names_no_file_is_noted_with_the_way_to_learn_what_is_needed() {
    let world = World::new();
    let script = "#!/usr/bin/python3\nimport os, sys\nprint('open: Permission denied', file=sys.stderr)\n\
                  os.chmod(os.environ['WORLD'] + '/granted/file', 0o777)\n";
    let notes = world.run(script, "").hooks[0].notes.join("\n");
    let hook = world.hooks.path().join(DRIVER).display().to_string();
    assert!(notes.contains(&format!("`hookvisor learn {hook} …` shows the settings that it needs")), "{notes}");
    assert!(notes.contains("a confined hook cannot change modes"), "{notes}");
}

/// Set in a virtual machine whose kernel was started without Landlock.
pub(crate) const NO_LANDLOCK: &str = "HOOKVISOR_TEST_NO_LANDLOCK";

#[test]
fn without_landlock_every_confined_hook_vetoes() {
    alone("confined::without_landlock_every_confined_hook_vetoes", || {
        if std::env::var_os(NO_LANDLOCK).is_none() {
            lose_system_call(libc::SYS_landlock_create_ruleset);
        }
        vetoes_for_lack_of("Landlock (Linux 5.13, and `landlock` in the kernel parameter lsm=, if that is set)");
    });
}

#[test]
fn without_user_notification_every_confined_hook_vetoes() {
    alone("confined::without_user_notification_every_confined_hook_vetoes", || {
        lose_system_call(libc::SYS_seccomp);
        vetoes_for_lack_of("seccomp user notification (Linux 5.9)");
    });
}

/// Each confined hook vetoes, `check` says why, and a hook that is not confined runs.
fn vetoes_for_lack_of(feature: &str) {
    let hooks = Hooks::new().script(DRIVER, "exit 3");
    for (confine_all, settings) in [(false, "confine = true"), (true, "")] {
        hooks.file("test.toml", settings, 0o644);
        let runtime = hooks.builder().confine_all(confine_all).build().unwrap();
        let why = format!(
            "it cannot be confined here (`confine = true`): this needs {feature}, which this system does not have"
        );
        assert_eq!(runtime.inventory().hooks[0].reason.as_deref(), Some(why.as_str()));
        let report = runtime.run(&event("web1", "start"));
        assert_eq!((report.decision, report.exit_status()), (Decision::Vetoed, 126), "{report}");
        assert!(report.to_string().contains(&why), "{report}");
    }
    hooks.file("test.toml", "", 0o644);
    assert_eq!(start(&hooks).exit_status(), 3);
}

/// What a shell alone can show, on kernels that have no other program.
#[test]
fn a_shell_is_held_to_its_connections_and_commands() {
    let world = World::new();
    let [granted, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [to, elsewhere] = [&granted, &other].map(|listener| listener.local_addr().unwrap().port());
    let script = format!(
        "#!/bin/bash\nexec 3<>/dev/tcp/127.0.0.1/{to} && echo connected > $WORLD/granted/said\n\
         exec 4<>/dev/tcp/127.0.0.1/{elsewhere} && echo elsewhere >> $WORLD/granted/said\n\
         head -c 2 $WORLD/secret >> $WORLD/granted/said\n/usr/bin/head -c 3 $WORLD/secret >> $WORLD/granted/said\n\
         kill -0 $PPID || echo kept >> $WORLD/granted/said\n: > $WORLD/granted/file\n: > $WORLD/read/file\n\
         sleep 1000 & kill $!; wait $!; exit 5\n"
    );
    let secret = world.at("secret").display().to_string();
    let grants = command("/usr/bin/head", &format!("['-c', '2', '{secret}']")) + &command("/usr/bin/sleep", "['1000']");
    let grants = format!("{grants}[[connect]]\nto = '127.0.0.1:{to}'\n");
    let report = world.run(&script, &grants);
    assert_eq!(report.exit_status(), 5, "{report}");
    let said = fs::read_to_string(world.at("granted/said")).unwrap();
    assert_eq!(said, "connected\na kept\n", "{report}");
    assert_eq!(fs::read_to_string(world.at("granted/file")).unwrap(), "");
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains(&format!("to = \"127.0.0.1:{elsewhere}\"")) && notes.contains("\"3\""), "{notes}");
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err());
    world.assert_unchanged();
}
