//! Confined hooks that try to escape.

use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use hookvisor::Termination;

use super::{World, command};
use crate::support::alone::alone;
use crate::support::leftovers::Leftovers;
use crate::support::stderr;

/// Makes each attempt and prints the result: `allowed`, or the name of the error.
pub(super) const PREAMBLE: &str = r#"#!/usr/bin/python3
import array, ctypes, errno, os, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
W = os.environ['WORLD']
G = W + '/granted'
PARENT = os.getppid()
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if result == -1:
        raise OSError(ctypes.get_errno(), 'call')
    return result
def attempt(name, body):
    try:
        said = body()
        said = said if isinstance(said, str) else 'allowed'
    except OSError as error:
        said = errno.errorcode.get(error.errno, str(error))
    except Exception as error:
        said = repr(error)
    print(name + ': ' + said, file=sys.stderr, flush=True)
def ran(*command, **options):
    return 'exit %d' % subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options).returncode
def broker():
    return socket.socket(fileno=call(41, 1, 5, 0x484b))
def ask(program, *arguments, streams=(0, 2, 2), count=None):
    texts = ['/', program, program, *arguments]
    message = (len(arguments) + 1 if count is None else count).to_bytes(4, sys.byteorder)
    message += b''.join(text.encode() + b'\0' for text in texts)
    connection = broker()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', streams))] if streams else []
    connection.sendmsg([message], rights)
    return connection
def answer(connection):
    said = connection.recv(4096)
    return said[:1].decode() + (' %d' % said[1] if len(said) > 1 else '')
"#;

/// Name, attempt, and expected result.
const ATTEMPTS: &[(&str, &str, &str)] = &[
    ("read outside", "open(W + '/secret').read()", "EACCES"),
    ("list outside", "os.listdir(W)", "EACCES"),
    ("create outside", "open(W + '/new', 'w')", "EACCES"),
    ("append outside", "open(W + '/secret', 'a')", "EACCES"),
    ("unlink outside", "os.unlink(W + '/secret')", "EACCES"),
    ("mkdir outside", "os.mkdir(W + '/new')", "EACCES"),
    ("write what may be read", "open(W + '/read/file', 'w')", "EACCES"),
    ("truncate what may be read", "os.truncate(W + '/read/file', 0)", "EACCES"),
    ("truncate by reading", "os.open(W + '/read/file', os.O_RDONLY | os.O_TRUNC)", "EACCES"),
    ("neither read nor write", "os.open(W + '/read/file', 3)", "EPERM"),
    ("dot dot", "open(G + '/../secret')", "EACCES"),
    ("symbolic link", "(os.symlink('../secret', G + '/link'), open(G + '/link'))", "EACCES"),
    ("hard link in", "os.link(W + '/secret', G + '/hard')", "EXDEV"),
    ("rename in", "os.rename(W + '/secret', G + '/moved')", "EACCES"),
    ("rename out", "os.rename(G + '/file', W + '/moved')", "EACCES"),
    ("rename between", "os.rename(G + '/file', W + '/read/moved')", "EACCES"),
    ("chmod", "os.chmod(G + '/file', 0o777)", "EPERM"),
    ("fchmod", "os.fchmod(os.open(G + '/file', os.O_RDWR), 0o4777)", "EPERM"),
    ("chown", "os.chown(G + '/file', 1, 1)", "EPERM"),
    ("utimes", "os.utime(G + '/file')", "EPERM"),
    ("setxattr", "os.setxattr(G + '/file', 'user.x', b'y')", "EPERM"),
    ("removexattr", "os.removexattr(G + '/file', 'user.x')", "EPERM"),
    ("device", "os.mknod(G + '/sda', 0o60600, os.makedev(8, 0))", "EPERM"),
    ("set flags", "__import__('fcntl').ioctl(os.open(G + '/file', os.O_RDONLY), 0x40086602, b'\\0' * 8)", "EPERM"),
    ("memory of the runtime", "open('/proc/%d/mem' % PARENT, 'r+b')", "EACCES"),
    ("environment of init", "open('/proc/1/environ')", "EACCES"),
    ("root of init", "os.listdir('/proc/1/root/')", "EACCES"),
    ("descriptors of the runtime", "os.listdir('/proc/%d/fd' % PARENT)", "EACCES"),
    ("sysctl", "open('/proc/sys/kernel/hostname', 'w')", "EACCES"),
    ("kernel log", "open('/dev/kmsg', 'w')", "EACCES"),
    ("local socket", "socket.socket(socket.AF_UNIX)", "EPERM"),
    ("local datagrams", "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    ("TCP", "socket.socket(socket.AF_INET)", "EPERM"),
    ("TCP, IPv6", "socket.socket(socket.AF_INET6)", "EPERM"),
    ("UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "EPERM"),
    ("raw", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)", "EPERM"),
    ("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)", "EPERM"),
    ("packets", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)", "EPERM"),
    ("vsock", "socket.socket(40, socket.SOCK_STREAM)", "EPERM"),
    ("crypto", "socket.socket(38, socket.SOCK_SEQPACKET)", "EPERM"),
    ("Bluetooth", "socket.socket(31, socket.SOCK_RAW, 1)", "EPERM"),
    ("pair of datagrams", "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)", "EPERM"),
    ("pair of streams", "socket.socketpair()", "allowed"),
    ("connect a pair", "socket.socketpair()[0].connect('\\0x')", "EPERM"),
    ("ptrace", "call(101, 0x4206, PARENT, 0, 0)", "EPERM"),
    ("signal to the runtime", "os.kill(PARENT, 0)", "EPERM"),
    ("signal to init", "os.kill(1, 0)", "EPERM"),
    ("queued signal", "call(129, 1, 0, ctypes.create_string_buffer(128))", "EPERM"),
    ("signal by pidfd", "signal.pidfd_send_signal(os.pidfd_open(PARENT), 0)", "EPERM"),
    ("signal by descriptor", "__import__('fcntl').fcntl(socket.socketpair()[0], 8, PARENT)", "EPERM"),
    ("signal to itself", "os.kill(os.getpid(), 0)", "allowed"),
    ("mount", "call(165, b'none', W.encode(), b'tmpfs', 0, None)", "EPERM"),
    ("unmount", "call(166, b'/proc', 0)", "EPERM"),
    ("open a mount", "call(428, -100, b'/', 1)", "EPERM"),
    ("file system", "call(430, b'tmpfs', 0)", "EPERM"),
    ("chroot", "os.chroot(G)", "EPERM"),
    ("user namespace", "call(272, 0x10000000)", "EPERM"),
    ("mount namespace by clone", "call(56, 0x20000 | 17, 0, 0, 0, 0)", "EPERM"),
    ("clone3", "call(435, 0, 0)", "ENOSYS"),
    ("enter a namespace", "call(308, 0, 0)", "EPERM"),
    ("keyring", "call(250, 0, -3, 0)", "EPERM"),
    ("key", "call(248, b'user', b'x', b'y', 1, -3)", "EPERM"),
    ("bpf", "call(321, 0, 0, 0)", "EPERM"),
    ("perf", "call(298, 0, 0, -1, -1, 0)", "EPERM"),
    ("io_uring", "call(425, 1, 0)", "EPERM"),
    ("userfaultfd", "call(323, 0)", "EPERM"),
    ("file in memory", "os.memfd_create('x')", "EPERM"),
    ("execveat", "call(322, os.open('/usr/bin/python3', os.O_PATH), b'', 0, 0, 0x1000)", "EPERM"),
    ("file handle", "call(304, -100, 0, 0)", "EPERM"),
    ("kernel module", "call(175, 0, 0, b'')", "EPERM"),
    ("reboot", "call(169, 0, 0, 0, 0)", "EPERM"),
    ("swap", "call(168, b'/x')", "EPERM"),
    ("host name", "socket.sethostname('x')", "EPERM"),
    ("clock", "call(164, 0, 0)", "EPERM"),
    ("log buffer", "call(103, 3, 0, 0)", "EPERM"),
    ("memory of another", "call(310, PARENT, 0, 0, 0, 0, 0)", "EPERM"),
    ("descriptor of another", "call(438, os.pidfd_open(PARENT), 0, 0)", "EPERM"),
    ("limit of another", "__import__('resource').prlimit(PARENT, 7)", "EPERM"),
    ("priority of another", "os.setpriority(os.PRIO_PROCESS, PARENT, 10)", "EPERM"),
    ("processor of another", "os.sched_setaffinity(PARENT, {0})", "EPERM"),
    ("key stroke", "__import__('fcntl').ioctl(0, 0x5412, b'x')", "EPERM"),
    ("shared memory", "call(29, 0, 4096, 0o600)", "EPERM"),
    ("message queue", "call(240, b'x', 0, 0, 0)", "EPERM"),
    ("become a user", "os.setuid(1000)", "EPERM"),
    ("another system call table", "call(0x40000000 + 39)", "ENOSYS"),
    ("a system call of the future", "call(600)", "ENOSYS"),
    ("a program", "os.execv('/usr/bin/id', ['id'])", "EACCES"),
    (
        "a program in a writable directory",
        "(open(G + '/p', 'w').write('#!/bin/sh\\n'), os.execv(G + '/p', ['p']))",
        "EACCES",
    ),
    ("a program by the loader", "ran('/lib64/ld-linux-x86-64.so.2', '/usr/bin/id')", "exit 127"),
    ("a granted file by the loader", "ran('/lib64/ld-linux-x86-64.so.2', G + '/cat', W + '/read/file')", "exit 0"),
    ("which is confined too", "ran('/lib64/ld-linux-x86-64.so.2', G + '/cat', W + '/secret')", "exit 1"),
    ("a granted program", "ran('/usr/bin/true')", "exit 0"),
    ("a granted program with arguments", "ran('/usr/bin/true', 'x')", "exit 126"),
    (
        "a library for a granted program",
        "ran('/usr/bin/printenv', 'LD_PRELOAD', env={'LD_PRELOAD': G + '/x.so'})",
        "exit 1",
    ),
    ("capabilities", "str([l for l in open('/proc/self/status')])", "EACCES"),
    ("another's name by hand", "answer(ask('/usr/bin/id'))", "E 126"),
    ("a granted name by hand", "[answer(c) for c in [ask('/usr/bin/true')]][0]", "G"),
    ("a name that is not text", "answer(ask('/usr/bin/true', streams=(0, 1)))", "E 126"),
    ("no descriptors", "answer(ask('/usr/bin/true', streams=()))", "E 126"),
    ("too many descriptors", "answer(ask('/usr/bin/true', streams=(0, 1, 2, 0)))", "E 126"),
    ("a wrong count", "answer(ask('/usr/bin/true', count=9))", "E 126"),
    ("garbage", "[(c.send(b'\\xff' * 100), answer(c))[1] for c in [broker()]][0]", "E 126"),
    (
        "its own socket as a stream",
        "[answer(ask('/usr/bin/true', streams=(c.fileno(), c.fileno(), 2))) for c in [broker()]][0]",
        "G",
    ),
    ("a thousand connections", "list(map(lambda _: broker(), range(1000)))", "EAGAIN"),
    ("a shim that never reads", "ask('/usr/bin/true') and 'asked'", "asked"),
    ("still at work", "ran('/usr/bin/true')", "exit 0"),
];

#[test]
#[cfg(target_arch = "x86_64")]
fn no_attempt_gets_out() {
    alone("confined::hostile::no_attempt_gets_out", attempts);
}

#[cfg(target_arch = "x86_64")]
fn attempts() {
    let world = World::new();
    let local = UnixListener::bind(world.at("granted/socket")).unwrap();
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    for listener in [local.set_nonblocking(true), remote.set_nonblocking(true)] {
        listener.unwrap();
    }
    std::fs::copy("/usr/bin/cat", world.at("granted/cat")).unwrap();
    let mut script = PREAMBLE.to_owned();
    for (name, body, _) in ATTEMPTS {
        script += &format!("attempt({name:?}, lambda: {body})\n");
    }
    script += "sys.exit(3)\n";
    let grants = command("/usr/bin/true", "[]") + &command("/usr/bin/printenv", "['LD_PRELOAD']");
    let before = Leftovers::before();
    let report = world.run(&script, &grants);
    let said = stderr(&report);
    let wrong: Vec<String> = ATTEMPTS
        .iter()
        .filter(|(name, _, expected)| !said.lines().any(|line| line == format!("{name}: {expected}")))
        .map(|(name, _, expected)| {
            let was = said.lines().find(|line| line.starts_with(&format!("{name}: "))).unwrap_or("nothing");
            format!("{name}: expected {expected}, was {was}")
        })
        .collect();
    assert!(wrong.is_empty(), "{}\n{report}", wrong.join("\n"));
    assert_eq!(report.hooks[0].termination, Termination::Exited(3), "{report}");
    assert!(local.accept().is_err() && remote.accept().is_err());
    world.assert_unchanged();
    Leftovers::assert_none_since(&before, "a hostile hook");
}

/// Attempts of a shell, which has no other program. `allowed` or `refused`.
const SHELL_ATTEMPTS: &[(&str, &str, &str)] = &[
    ("read outside", "read -r line < $WORLD/secret", "refused"),
    ("write outside", "echo > $WORLD/new", "refused"),
    ("append outside", "echo >> $WORLD/secret", "refused"),
    ("write what may be read", "echo > $WORLD/read/file", "refused"),
    ("read and write what may be read", "exec 7<> $WORLD/read/file", "refused"),
    ("read what may be read", "read -r line < $WORLD/read/file || [ \"$line\" ]", "allowed"),
    ("write what may be written", "echo > $WORLD/granted/new", "allowed"),
    ("list outside", "files=($WORLD/*); [ -e \"${files[0]}\" ]", "refused"),
    ("a script outside", ". $WORLD/secret", "refused"),
    ("by dot dot", "cd $WORLD/granted && read -r line < ../secret", "refused"),
    ("by the directory", "cd $WORLD/granted && cd -P .. && read -r line < secret", "refused"),
    ("TCP", "exec 7<> /dev/tcp/127.0.0.1/1", "refused"),
    ("UDP", "exec 7<> /dev/udp/127.0.0.1/1", "refused"),
    ("signal the runtime", "kill -9 $PPID", "refused"),
    ("signal init", "kill -0 1", "refused"),
    ("environment of the runtime", "read -r line < /proc/$PPID/environ", "refused"),
    ("memory of the runtime", "exec 7<> /proc/$PPID/mem", "refused"),
    ("sysctl", "echo x > /proc/sys/kernel/hostname", "refused"),
    ("kernel log", "echo x > /dev/kmsg", "refused"),
    ("a program", "/usr/bin/id", "refused"),
    ("a program in its place", "(exec /usr/bin/id)", "refused"),
    ("a program by name", "rm -rf $WORLD/read", "refused"),
    ("a program under another name", "(exec -a true /usr/bin/id)", "refused"),
    ("a program through the granted one", "/usr/bin/true; /usr/bin/../bin/id", "refused"),
    ("a program with its own interpreter", "echo '#!/usr/bin/id' > $WORLD/granted/x; $WORLD/granted/x", "refused"),
    ("a hashed program", "hash -p /usr/bin/id nothing; nothing || command -p id", "refused"),
    ("a built-in from a file", "enable -f $WORLD/granted/new x", "refused"),
    ("more descriptors", "ulimit -n unlimited", "refused"),
    ("core files", "ulimit -c unlimited", "refused"),
    ("another shell", "/bin/bash -c 'read -r line < $WORLD/secret'", "refused"),
    ("a granted program", "/usr/bin/true", "allowed"),
];

#[test]
fn no_attempt_of_a_shell_gets_out() {
    let world = World::new();
    let mut script = "#!/bin/bash\ntry() { (eval \"$2\") > /dev/null 2>&1 && echo \"$1: allowed\" >&2 || echo \"$1: refused\" >&2; }\n".to_owned();
    for (name, body, _) in SHELL_ATTEMPTS {
        script += &format!("try '{name}' '{}'\n", body.replace('\'', "'\\''"));
    }
    let grants = format!("files = 100\n{}", command("/usr/bin/true", "[]"));
    let report = world.run(&(script + "exit 3\n"), &grants);
    let said = stderr(&report);
    let expected: Vec<String> =
        SHELL_ATTEMPTS.iter().map(|(name, _, expected)| format!("{name}: {expected}")).collect();
    assert_eq!(said.lines().collect::<Vec<_>>(), expected, "{report}");
    assert_eq!(report.hooks[0].termination, Termination::Exited(3), "{report}");
    world.assert_unchanged();
}

#[test]
fn no_capability_is_left() {
    let world = World::new();
    let script = "#!/bin/bash\nread_status() { while read -r line; do case $line in Cap[IPEA]*|NoNew*) echo \"$line\" >&2; esac; done; }\n\
                  read_status < <(cat /proc/$$/status)\nexit 1\n";
    let report = world.run(script, &command("/usr/bin/cat", "[{ regex = '/proc/[0-9]+/status' }]"));
    let said = stderr(&report);
    assert_eq!(said.matches("0000000000000000").count(), 4, "{said}");
    assert!(said.contains("NoNewPrivs:\t1"), "{said}");
}

#[test]
fn a_connection_is_made_to_what_is_granted_and_nothing_else() {
    let world = World::new();
    let (granted, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let (to, elsewhere) = (port(&granted), port(&other));
    let grants = format!("[[connect]]\nto = '127.0.0.1:{to}'\n");
    let script = format!(
        "{PREAMBLE}
attempt('granted', lambda: socket.create_connection(('127.0.0.1', {to})))
attempt('mapped', lambda: socket.create_connection(('::ffff:127.0.0.1', {to})))
attempt('other port', lambda: socket.create_connection(('127.0.0.1', {elsewhere})))
attempt('other address', lambda: socket.create_connection(('127.0.0.2', {to})))
attempt('nonblocking', lambda: (s := socket.socket(), s.setblocking(False), 'EINPROGRESS' if s.connect_ex(('127.0.0.1', {to})) in (0, 115) else 'no')[-1])
attempt('fast open', lambda: socket.socket().sendto(b'x', 0x20000000, ('127.0.0.1', {elsewhere})))
attempt('datagram', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt('listen', lambda: socket.socket().listen())
attempt('bind', lambda: socket.socket().bind(('127.0.0.1', 0)))
attempt('source route', lambda: socket.socket().setsockopt(0, 4, b'\\x83\\x07\\x04\\x7f\\x00\\x00\\x02\\x00'))
attempt('routing header', lambda: socket.socket(socket.AF_INET6).setsockopt(41, 57, bytes(24)))
attempt('other options', lambda: (s := socket.socket(), s.setsockopt(6, 1, 1), s.setsockopt(0, 1, 16)) and None)
attempt('dissolve', lambda: call(42, socket.socket().fileno(), bytes(16), 16))
attempt('local', lambda: socket.socket(socket.AF_UNIX))
attempt('bad address', lambda: call(42, socket.socket().fileno(), 0, 16))
attempt('no socket', lambda: call(42, 0, (ctypes.c_char * 16)(2, 0, {high}, {low}, 127, 0, 0, 1), 16))
sys.exit(1)
",
        high = to >> 8,
        low = to & 0xff
    );
    let report = world.run(&script, &grants);
    let said = stderr(&report);
    let expected = "granted: allowed\nmapped: allowed\nother port: EACCES\nother address: EACCES\nnonblocking: EINPROGRESS\n\
                    fast open: EPERM\ndatagram: EPERM\nlisten: EPERM\nbind: EPERM\nsource route: EPERM\n\
                    routing header: EPERM\nother options: allowed\ndissolve: EAFNOSUPPORT\nlocal: EPERM\nbad address: EFAULT\n\
                    no socket: ENOTSOCK\n";
    assert_eq!(said, expected, "{report}");
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err());
    let notes = report.hooks[0].notes.join("\n");
    assert!(notes.contains(&format!("[[connect]]\n    to = \"127.0.0.1:{elsewhere}\"")), "{notes}");
}
