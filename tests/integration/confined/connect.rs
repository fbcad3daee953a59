//! `[[connect]]` for Unix sockets of a confined hook, and for UDP of a component: each kind of hook can have what its confinement
//! can enforce. `unix.rs` has Unix sockets for every kind.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use super::World;
use crate::support::guests::{wasm_component_probe, wasm_probe};
use crate::support::{DRIVER, Hooks, event, start, stderr};

#[test]
fn a_confined_hook_reaches_the_socket_that_it_is_granted_and_no_other() {
    let world = World::new();
    let [granted, other] = ["read/socket", "read/other"].map(|name| {
        let listener = UnixListener::bind(world.at(name)).unwrap();
        listener.set_nonblocking(true).unwrap();
        listener
    });
    let grants = ["read/socket", "granted/inside", "read/missing"]
        .map(|name| format!("[[connect]]\nto = '{}'\n", world.at(name).display()));
    let script = "#!/usr/bin/python3\nimport os, socket, sys\n\
                  def connect(path, kind=socket.SOCK_STREAM):\n    try:\n        \
                  s = socket.socket(socket.AF_UNIX, kind)\n        s.connect(path)\n        s.sendall(b'x')\n        \
                  said = 'connected'\n    except OSError as error:\n        said = error.strerror\n    \
                  print(said, file=sys.stderr)\n\
                  world = os.environ['WORLD']\nos.symlink(world + '/read/other', world + '/granted/inside')\n\
                  for path in ['/read/socket', '/read/other', '/granted/inside', '/read/missing']:\n    \
                  connect(world + path)\nconnect('\\0abstract')\nconnect(world + '/read/socket', socket.SOCK_DGRAM)\n\
                  sys.exit(1)\n";
    let report = world.run(script, &grants.concat());
    assert_eq!(
        stderr(&report).lines().collect::<Vec<_>>(),
        [
            "connected",
            "Permission denied",
            "Connection refused",
            "No such file or directory",
            "Address family not supported by protocol",
            "Operation not permitted"
        ],
        "{report}"
    );
    assert!(granted.accept().is_ok() && other.accept().is_err());
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains(&format!("[[connect]]\n    to = \"{}\"", world.at("read/other").display())), "{notes}");
}

#[test]
fn a_component_sends_datagrams_where_it_is_granted_and_nowhere_else() {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let [granted, other] = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    let tcp = TcpListener::bind(granted).unwrap();
    let hooks = Hooks::new().copy(DRIVER, wasm_component_probe());
    hooks.file("test.toml", format!("[[connect]]\nto = '{granted}'\nprotocol = 'udp'\n"), 0o644);
    let status = |steps: String| hooks.runtime().run(&event(&steps, "start")).exit_status();
    assert_eq!(status(format!("udp={granted}")), 0);
    let mut bytes = [0; 8];
    sockets[0].set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!((sockets[0].recv(&mut bytes).unwrap(), &bytes[..5]), (5, b"hello".as_slice()));
    assert_ne!(status(format!("udp={other}")), 0);
    sockets[1].set_nonblocking(true).unwrap();
    assert!(sockets[1].recv(&mut bytes).is_err());
    assert_ne!(status(format!("connect={}", tcp.local_addr().unwrap())), 0, "TCP is not granted");
}

#[test]
fn what_a_kind_of_hook_cannot_be_held_to_is_refused_when_it_is_loaded() {
    let refused = |hooks: Hooks, settings: &str| {
        hooks.file("test.toml", settings, 0o644);
        let report = start(&hooks);
        assert_eq!(report.exit_status(), 126, "{report}");
        report.to_string()
    };
    let udp = "[[connect]]\nto = '127.0.0.1:53'\nprotocol = 'udp'\n";
    let unix = "[[connect]]\nto = '/run/x.sock'\n";
    let said = refused(Hooks::new().script("test", "exit 0"), &format!("confine = true\nuser = 'nobody'\n{unix}"));
    assert!(said.contains("`user` and a connection to /run/x.sock"), "{said}");
    let said = refused(Hooks::new().copy(DRIVER, wasm_probe()), udp);
    assert!(said.contains("which only a component can use"), "{said}");
}
