//! Confined native hooks: what is granted works as without confinement, and nothing else works.

mod commands;
mod connect;
mod detach;
mod hostile;
mod secret;
mod settings;
mod state;
mod stdin;

use std::fs;
use std::path::PathBuf;

use hookvisor::Report;
use tempfile::TempDir;

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
