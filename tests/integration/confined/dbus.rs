//! A real message bus whose service is a program that root runs: what a hook can ask for there is no longer confined.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::World;
use crate::support::{DRIVER, needs_root, skip, start, stderr};

/// Speaks the bus's protocol without its library, and waits until the service has ended.
const CLIENT: &str = r#"#!/usr/bin/python3
import os, socket, sys
def text(s):
    return len(s).to_bytes(4, sys.byteorder) + s.encode() + b'\0'
def padded(b, n):
    return b + bytes(-len(b) % n)
def message(serial, member, body=b'', signature=''):
    number = lambda n: n.to_bytes(4, sys.byteorder)
    fields = b''
    for code, kind, value in (1, b'o', '/org/freedesktop/DBus'), (2, b's', 'org.freedesktop.DBus'), (3, b's', member), \
            (6, b's', 'org.freedesktop.DBus'):
        fields = padded(fields, 8) + bytes([code, 1]) + kind + b'\0' + text(value)
    if signature:
        fields = padded(fields, 8) + b'\x08\1g\0' + bytes([len(signature)]) + signature.encode() + b'\0'
    order = b'l' if sys.byteorder == 'little' else b'B'
    return padded(order + b'\1\0\1' + number(len(body)) + number(serial) + number(len(fields)) + fields, 8) + body
try:
    bus = socket.socket(socket.AF_UNIX)
    bus.connect(os.environ['BUS'])
    bus.sendall(b'\0AUTH EXTERNAL %s\r\n' % str(os.getuid()).encode().hex().encode())
    bus.recv(1000)
    start = padded(text('org.example.Root'), 4) + bytes(4)
    bus.sendall(b'BEGIN\r\n' + message(1, 'Hello') + message(2, 'StartServiceByName', start, 'su'))
    said = b''
    while b'ChildExited' not in said:
        piece = bus.recv(1000)
        if not piece:
            break
        said += piece
    print('started', file=sys.stderr)
except OSError as error:
    print(error.strerror, file=sys.stderr)
sys.exit(1)
"#;

/// A message bus with one service, which writes down that it ran.
struct Bus {
    directory: TempDir,
    daemon: Child,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    /// `None` if the test cannot run here.
    fn new() -> Option<Self> {
        const TEST: &str = "a real D-Bus";
        if !needs_root(TEST) {
            return None;
        }
        let lacks =
            ["dbus-daemon", "dbus-send"].into_iter().find(|&program| !Path::new("/usr/bin").join(program).exists());
        if let Some(program) = lacks {
            skip(TEST, &format!("{program} is not installed (scripts/install-test-tools installs it on Debian)"));
            return None;
        }
        let directory = TempDir::with_prefix("bus-").unwrap();
        let at = directory.path().display();
        let config = format!(
            "<busconfig><listen>unix:path={at}/socket</listen><auth>EXTERNAL</auth><servicedir>{at}/services</servicedir>\
             <policy context='default'><allow send_destination='*'/><allow receive_sender='*'/><allow own='*'/></policy>\
             </busconfig>"
        );
        // The bus waits for a service that exits with 0.
        let run = format!("/bin/sh -c 'touch {at}/ran; exit 1'");
        let service = format!("[D-BUS Service]\nName=org.example.Root\nExec={run}\n");
        fs::write(directory.path().join("config"), config).unwrap();
        // A directory of its own: the bus watches it.
        fs::create_dir(directory.path().join("services")).unwrap();
        fs::write(directory.path().join("services/org.example.Root.service"), service).unwrap();
        let mut daemon = Command::new("/usr/bin/dbus-daemon")
            .arg(format!("--config-file={at}/config"))
            .args(["--nofork", "--nopidfile", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        assert!(address.starts_with("unix:path="), "{address:?}");
        Some(Self { directory, daemon })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Whether root has run the service's program since the last time.
    fn has_run(&self) -> bool {
        fs::remove_file(self.directory.path().join("ran")).is_ok()
    }
}

#[test]
fn a_service_of_root_is_out_of_reach() {
    let Some(bus) = Bus::new() else { return };
    let world = World::new();
    let socket = bus.socket().display().to_string();
    let shell = format!(
        "#!/bin/bash\ndbus-send --bus=unix:path={socket} --dest=org.example.Root --print-reply / org.example.Root.Run\n\
         echo \"status $?\" >&2; exit 1\n"
    );
    let environment = format!("env = {{ BUS = '{socket}' }}\n");
    for hook in [CLIENT, &shell] {
        world.hooks.file(DRIVER, hook, 0o755);
        world.hooks.file("test.toml", &environment, 0o644);
        let report = start(&world.hooks);
        assert!(bus.has_run(), "unconfined, it reaches the service: {report}");
    }
    let elsewhere = "[[connect]]\nto = '127.0.0.1:1'\n[[connect]]\nto = '/run/other.sock'\n";
    for (hook, grants, said) in [
        (CLIENT, "", "Operation not permitted\n"),
        (CLIENT, elsewhere, "Permission denied\n"),
        (&shell, "", "status 126\n"),
        (&shell, elsewhere, "status 126\n"),
    ] {
        world.hooks.file(DRIVER, hook, 0o755);
        world.hooks.file("test.toml", format!("confine = true\n{environment}{grants}"), 0o644);
        let report = start(&world.hooks);
        assert!(stderr(&report).ends_with(said), "{report}");
        assert!(!bus.has_run(), "{report}");
    }
    // Its address is what keeps it out of reach.
    world.hooks.file(DRIVER, CLIENT, 0o755);
    world.hooks.file("test.toml", format!("confine = true\n{environment}[[connect]]\nto = '{socket}'\n"), 0o644);
    let report = start(&world.hooks);
    assert!(bus.has_run() && stderr(&report) == "started\n", "{report}");
}
