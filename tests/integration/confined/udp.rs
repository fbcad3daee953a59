//! `[[connect]]` with `protocol = "udp"` for confined hooks.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use hookvisor::Event;

use super::compiled::{compiled, install};
use super::hostile::PREAMBLE;
use super::{World, command};
use crate::support::{DRIVER, stderr};

/// A socket that a hook may send to, and one that it may not.
fn sockets() -> ([UdpSocket; 2], [SocketAddr; 2]) {
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    }
    (sockets, addresses)
}

fn grant(to: SocketAddr) -> String {
    format!("[[connect]]\nto = '{to}'\nprotocol = 'udp'\n")
}

/// What a socket has received, as text.
fn received(socket: &UdpSocket) -> Vec<String> {
    socket.set_nonblocking(true).unwrap();
    let mut bytes = [0; 1000];
    std::iter::from_fn(|| {
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    })
    .collect()
}

/// Name, attempt with `a` (granted) and `b`, and expected result.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    (
        "connect and send",
        "(s := udp(), s.connect(a), s.send(b'sent'), os.write(s.fileno(), b'written')) and None",
        "allowed",
    ),
    ("send to", "udp().sendto(b'sent to', a) and None", "allowed"),
    ("send a message", "udp().sendmsg([b'in two ', b'parts'], [], 0, a) and None", "allowed"),
    ("send several", "str(several(a))", "(1, 7)"),
    (
        "by the IPv4 form of an IPv6 address",
        "udp(socket.AF_INET6).sendto(b'mapped', ('::ffff:' + a[0], a[1])) and None",
        "allowed",
    ),
    ("connect, then to the same", "(s := udp(), s.connect(a), s.sendto(b'same', a)) and None", "allowed"),
    ("connect elsewhere", "udp().connect(b)", "EACCES"),
    ("send elsewhere", "udp().sendto(b'no', b)", "EACCES"),
    ("connect, then send elsewhere", "(s := udp(), s.connect(a), s.sendto(b'no', b))", "EACCES"),
    ("send a message elsewhere", "udp().sendmsg([b'no'], [], 0, b)", "EACCES"),
    ("send several elsewhere", "several(b)", "EACCES"),
    ("the port of another address", "udp().sendto(b'no', ('127.0.0.2', a[1]))", "EACCES"),
    ("without an address", "udp().send(b'no')", "EDESTADDRREQ"),
    ("an address that is none", "(s := udp(), call(44, s.fileno(), b'x', 1, 0, 8, 16))", "EFAULT"),
    ("a message that is none", "(s := udp(), call(46, s.fileno(), 8, 0))", "EFAULT"),
    ("no messages", "str([call(307, s.fileno(), 0, 0, 0) for s in [udp()]])", "[0]"),
    ("no socket", "call(46, 99, ctypes.create_string_buffer(56), 0)", "EBADF"),
    ("a local address", "(s := udp(), call(44, s.fileno(), b'x', 1, 0, b'\\1\\0/run/x\\0' + bytes(16), 24))", "EACCES"),
    ("a control message", "udp().sendmsg([b'no'], [(0, 7, bytes(8))], 0, a)", "EPERM"),
    ("credentials", "socket.socketpair()[0].sendmsg([b'x'], [(1, 2, bytes(12))])", "EPERM"),
    ("unknown flags", "udp().sendmsg([b'no'], [], 0x100000, a)", "ENOTSUP"),
    ("too long", "udp().sendto(bytes(65508), a)", "EMSGSIZE"),
    ("longer still", "udp().sendmsg([bytes(300000)], [], 0, a)", "EMSGSIZE"),
    ("dissolve", "(s := udp(), s.connect(a), call(42, s.fileno(), bytes(16), 16))", "EAFNOSUPPORT"),
    ("TCP", "socket.socket()", "EPERM"),
    ("ICMP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1)", "EPERM"),
    ("UDP-Lite", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 136)", "EPERM"),
    ("raw", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 17)", "EPERM"),
    ("local datagrams", "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    ("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "EPERM"),
    ("bind to any port", "udp().bind(('0.0.0.0', 0))", "allowed"),
    ("bind to a port", "udp().bind(('0.0.0.0', 50505))", "EPERM"),
    ("bind to an address", "udp().bind(('127.0.0.1', 0))", "EPERM"),
    ("bind a pair", "socket.socketpair()[0].bind('\\0x')", "EAFNOSUPPORT"),
    ("listen", "udp().listen()", "EPERM"),
    ("source route", "udp().setsockopt(0, 4, b'\\x83\\x07\\x04\\x7f\\x00\\x00\\x02\\x00')", "EPERM"),
    ("routing header", "udp(socket.AF_INET6).setsockopt(41, 57, bytes(24))", "EPERM"),
    ("multicast", "udp().setsockopt(0, 35, socket.inet_aton('239.1.1.1') + bytes(4))", "EPERM"),
    ("encapsulation", "udp().setsockopt(17, 100, 1)", "EPERM"),
    ("receive from all", "udp().setsockopt(1, 27, 0)", "EPERM"),
    ("receive from others", "udp().setsockopt(1, 26, (16).to_bytes(8, 'little') + bytes(8))", "EPERM"),
    ("broadcast", "udp().setsockopt(1, 6, 1)", "allowed"),
    ("pass a descriptor", "passed()", "x, as it was"),
    ("a granted program", "ran('/usr/bin/true')", "exit 0"),
    (
        "inherited by a program",
        "str([os.get_inheritable(call(41, 2, kind, 0)) for kind in (2, 0x80002)])",
        "[True, False]",
    ),
];

const FUNCTIONS: &str = r"
def udp(family=socket.AF_INET):
    return socket.socket(family, socket.SOCK_DGRAM)
def several(to):
    name = (2).to_bytes(2, 'little') + to[1].to_bytes(2, 'big') + socket.inet_aton(to[0]) + bytes(8)
    name, text = ctypes.create_string_buffer(name), ctypes.create_string_buffer(b'several')
    part = (ctypes.c_ulong * 2)(ctypes.addressof(text), 7)
    messages = (ctypes.c_ulong * 16)(*[ctypes.addressof(name), 16, ctypes.addressof(part), 1, 0, 0, 0, 0] * 2)
    s = udp()
    return call(307, s.fileno(), messages, 2, 0), messages[7]
def passed():
    one, other = socket.socketpair()
    socket.send_fds(one, [b'x'], [os.open(W + '/read/file', os.O_RDONLY)])
    text, received, _, _ = socket.recv_fds(other, 10, 4)
    return text.decode() + ', ' + os.read(received[0], 20).decode()
";

#[test]
#[cfg(target_arch = "x86_64")]
fn a_confined_hook_sends_datagrams_where_it_is_granted_and_nowhere_else() {
    let world = World::new();
    let ([granted, other], [a, b]) = sockets();
    let address = |address: SocketAddr| format!("('{}', {})", address.ip(), address.port());
    let mut script = format!("{PREAMBLE}{FUNCTIONS}a, b = {}, {}\n", address(a), address(b));
    for (name, body, _) in ATTEMPTS {
        script += &format!("attempt({name:?}, lambda: {body})\n");
    }
    let report = world.run(&(script + "sys.exit(1)\n"), &(grant(a) + &command("/usr/bin/true", "[]")));
    let said = stderr(&report);
    let expected: Vec<String> = ATTEMPTS.iter().map(|(name, _, expected)| format!("{name}: {expected}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{report}");
    assert_eq!(received(&granted), ["sent", "written", "sent to", "in two parts", "several", "mapped", "same"]);
    assert_eq!(received(&other), [""; 0]);
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains(&format!("[[connect]]\n    to = \"{b}\"\n    protocol = \"udp\"")), "{notes}");
    world.assert_unchanged();
}

#[test]
fn a_shell_sends_a_datagram() {
    let world = World::new();
    let ([granted, other], [a, b]) = sockets();
    let script = format!(
        "#!/bin/bash\necho hello > /dev/udp/127.0.0.1/{}; echo no > /dev/udp/127.0.0.1/{}; exit 1\n",
        a.port(),
        b.port()
    );
    let report = world.run(&script, &grant(a));
    assert_eq!(received(&granted), ["hello\n"], "{report}");
    assert_eq!(received(&other), [""; 0]);
}

#[test]
fn a_datagram_from_a_stranger_does_not_reach_a_confined_hook() {
    let world = World::new();
    let ([granted, stranger], [a, _]) = sockets();
    let answering = std::thread::spawn(move || {
        for _ in 0..2 {
            let mut bytes = [0; 10];
            let (_, mut from) = granted.recv_from(&mut bytes).unwrap();
            from.set_ip(from.ip().to_canonical());
            stranger.send_to(b"stranger", from).unwrap();
            granted.send_to(b"answer", from).unwrap();
        }
    });
    let script = format!(
        "#!/usr/bin/python3\nimport socket, sys\n\
         for family, host in (socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::ffff:127.0.0.1'):\n    \
         s = socket.socket(family, socket.SOCK_DGRAM)\n    s.sendto(b'hello', (host, {}))\n    \
         print(s.recvfrom(20)[0], file=sys.stderr)\nsys.exit(1)\n",
        a.port()
    );
    let report = world.run(&script, &grant(a));
    assert_eq!(stderr(&report), "b'answer'\nb'answer'\n", "{report}");
    answering.join().unwrap();
}

#[test]
fn no_race_sends_a_datagram_elsewhere() {
    let Some((_directory, racer)) = compiled("datagrams", &[]) else { return };
    let world = World::new();
    let ([granted, other], [a, b]) = sockets();
    install(&world, &racer, &grant(a));
    let object = format!("{} {}", a.port(), b.port());
    let report = world.hooks.runtime().run(&Event::new(DRIVER, &object, "start").unwrap());
    assert_eq!(report.exit_status(), 0, "{report}");
    assert!(!received(&granted).is_empty());
    assert_eq!(received(&other), [""; 0]);
}
