//! `[[connect]]` to a Unix socket, for every kind of hook that can have it: the same settings, and the same results. The peer may
//! do what it likes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{lchown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hookvisor::{Cancel, Event, Report, Termination};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};

use crate::support::guests::{build, wasm_for};
use crate::support::program::hookvisor;
use crate::support::{Hooks, needs_root, stderr, wait_until};

const WASM: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

/// The hook for a target, which may connect to these sockets. Native and confined without a target.
fn hook(target: Option<&str>, granted: &[&str]) -> Hooks {
    let hooks = Hooks::new();
    fs::create_dir(at(&hooks, "")).unwrap();
    let built = target.map_or_else(|| build("sdk", None), |target| wasm_for("sdk", target));
    let hooks = hooks.copy(if target.is_some() { "qemu.d/10-sdk.wasm" } else { "qemu.d/10-sdk" }, &built);
    let grants = granted.iter().map(|name| format!("[[connect]]\nto = '{}'\n", at(&hooks, name).display()));
    hooks.file("qemu.d/10-sdk.toml", format!("confine = true\n{}", grants.collect::<String>()), 0o644);
    hooks
}

/// A path in the directory of the sockets, `DIR` for the hook.
fn at(hooks: &Hooks, name: &str) -> PathBuf {
    hooks.path().join("at").join(name)
}

/// The event that has the hook do this.
fn event(hooks: &Hooks, what: &str) -> Event {
    let what = what.replace("DIR", &hooks.path().join("at").display().to_string());
    Event::new("qemu", "web1", "start").unwrap().with_extra(&what).unwrap().with_document("<domain/>")
}

fn run(hooks: &Hooks, what: &str) -> Report {
    hooks.runtime().run(&event(hooks, what))
}

fn run_impatiently(hooks: &Hooks, what: &str) -> Report {
    hooks.impatient_runtime().run(&event(hooks, what))
}

fn listener(hooks: &Hooks, name: &str) -> UnixListener {
    UnixListener::bind(at(hooks, name)).unwrap()
}

/// Waits for a connection, but not for ever, and no read from it takes for ever.
fn accept(listener: &UnixListener) -> UnixStream {
    listener.set_nonblocking(true).unwrap();
    let mut peer = None;
    wait_until("a connection", || {
        peer = listener.accept().ok().map(|(peer, _)| peer);
        peer.is_some()
    });
    let peer = peer.unwrap();
    peer.set_nonblocking(false).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    peer
}

#[test]
fn every_kind_of_hook_reaches_the_sockets_that_it_is_granted_and_no_other() {
    for target in [None, Some(WASM[0]), Some(WASM[1])] {
        let hooks = hook(target, &["socket", "dead", "file", "link", "missing"]);
        let (granted, other) = (listener(&hooks, "socket"), listener(&hooks, "other"));
        other.set_nonblocking(true).unwrap();
        drop(listener(&hooks, "dead"));
        hooks.file("at/file", "", 0o644);
        symlink(at(&hooks, "other"), at(&hooks, "link")).unwrap();
        let runtime = hooks.runtime();
        let may = &runtime.inventory().hooks[0].may;
        assert_eq!(may[0], format!("connect to {}", at(&hooks, "socket").display()), "{target:?}");

        let report = thread::scope(|scope| {
            let read = scope.spawn(|| {
                let mut read = String::new();
                accept(&granted).read_to_string(&mut read).unwrap();
                read
            });
            let report = runtime.run(&event(
                &hooks,
                "unix=DIR/socket DIR/other DIR/dead DIR/file DIR/link DIR/missing DIR/other%n[[command]]",
            ));
            assert_eq!(read.join().unwrap(), "<domain/>", "{target:?}: {report}");
            report
        });
        assert_eq!(
            stderr(&report).lines().collect::<Vec<_>>(),
            [
                "connected",
                "permission denied",
                "connection refused",
                "connection refused",
                "connection refused",
                "entity not found",
                "permission denied"
            ],
            "{target:?}: {report}"
        );
        assert_eq!(other.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let file = hooks.path().join("qemu.d/10-sdk.toml");
        let (file, other) = (file.display(), at(&hooks, "other").display().to_string());
        let notes =
            [(other.clone(), other.clone()), (format!("{other}\\n[[command]]"), format!("{other}\\n[[command]]"))];
        let notes = notes.map(|(to, line)| {
            format!(
                "it was refused a connection to {to}; to allow it, add to {file}:\n    [[connect]]\n    to = \"{line}\""
            )
        });
        assert_eq!(report.hooks[0].notes[..2], notes, "{target:?}");
    }
}

#[test]
fn a_sandboxed_hook_talks_with_its_peer_and_is_told_why_it_was_refused() {
    for target in WASM {
        let hooks = hook(Some(target), &["socket"]);
        let listener = listener(&hooks, "socket");
        let report = thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = accept(&listener);
                let mut read = Vec::new();
                peer.read_to_end(&mut read).unwrap();
                peer.write_all(&read.to_ascii_uppercase()).unwrap();
            });
            run(&hooks, "ask=DIR/socket")
        });
        assert_eq!((report.exit_status(), stderr(&report).as_str()), (1, "<DOMAIN/>\n"), "{target}: {report}");
        let refused = format!(
            "this hook may not connect to {}: the hook's settings do not list this connection (the report says how to \
             allow it)\n",
            at(&hooks, "other").display()
        );
        assert_eq!(stderr(&run(&hooks, "ask=DIR/other")), refused, "{target}");
    }
}

#[test]
fn a_peer_that_never_answers_ends_in_a_timeout_and_a_cancelled_call_at_once() {
    for target in WASM {
        let hooks = hook(Some(target), &["socket"]);
        let listener = listener(&hooks, "socket");
        for what in ["ask=DIR/socket", "flood=DIR/socket"] {
            let report = run_impatiently(&hooks, what);
            assert_eq!(report.exit_status(), 124, "{target} {what}: {report}");
            // The connection is closed.
            let mut rest = Vec::new();
            accept(&listener).read_to_end(&mut rest).unwrap();
        }
        let cancel = Cancel::new();
        let report = thread::scope(|scope| {
            scope.spawn(|| {
                let mut peer = accept(&listener);
                peer.read_exact(&mut [0; 9]).unwrap();
                cancel.cancel();
                // It stays open until the hook has ended.
                peer.read_to_end(&mut Vec::new()).unwrap();
            });
            hooks.runtime().call(&event(&hooks, "ask=DIR/socket")).cancel(&cancel).run()
        });
        assert_eq!(report.hooks[0].termination, Termination::Cancelled, "{target}: {report}");
    }
}

#[test]
fn a_peer_may_close_at_once_or_send_without_end() {
    for target in WASM {
        let hooks = hook(Some(target), &["socket"]);
        let listener = listener(&hooks, "socket");
        let with_peer = |what: &str, peer: fn(UnixStream)| {
            thread::scope(|scope| {
                scope.spawn(|| peer(accept(&listener)));
                stderr(&run(&hooks, what))
            })
        };
        assert_eq!(with_peer("drain=DIR/socket", drop), "0 bytes\n", "{target}");
        assert_eq!(with_peer("flood=DIR/socket", drop), "broken pipe\n", "{target}");
        let sent = with_peer("drain=DIR/socket", |mut peer| {
            (0..1000).for_each(|_| peer.write_all(&[b'x'; 100_000]).unwrap());
        });
        assert_eq!(sent, "100000000 bytes\n", "{target}");
    }
}

#[test]
fn a_full_queue_is_waited_for() {
    for target in [None, Some(WASM[0]), Some(WASM[1])] {
        let hooks = hook(target, &["socket"]);
        let new = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK, None).unwrap();
        let address = UnixAddr::new(&at(&hooks, "socket")).unwrap();
        let full = new();
        bind(full.as_raw_fd(), &address).unwrap();
        listen(&full, Backlog::new(1).unwrap()).unwrap();
        let queued: Vec<_> =
            (0..10).map(|_| new()).take_while(|socket| connect(socket.as_raw_fd(), &address).is_ok()).collect();
        assert!(queued.len() < 10);
        let report = run_impatiently(&hooks, "ask=DIR/socket");
        assert_eq!(report.exit_status(), 124, "{target:?}: {report}");
        let listener = UnixListener::from(full);
        let said = thread::scope(|scope| {
            scope.spawn(|| (0..=queued.len()).for_each(|_| drop(accept(&listener))));
            stderr(&run(&hooks, "drain=DIR/socket"))
        });
        assert_eq!(said, "0 bytes\n", "{target:?}");
    }
}

#[test]
fn a_hook_cannot_hoard_connections() {
    for target in WASM {
        let hooks = hook(Some(target), &["socket"]);
        let listener = listener(&hooks, "socket");
        let has_ended = AtomicBool::new(false);
        let (report, ended) = thread::scope(|scope| {
            let peers = scope.spawn(|| {
                let mut peers = Vec::new();
                while !has_ended.load(Ordering::Acquire) {
                    peers.push(accept(&listener));
                }
                peers
            });
            let report = run(&hooks, "hoard=DIR/socket");
            has_ended.store(true, Ordering::Release);
            let last = UnixStream::connect(at(&hooks, "socket")).unwrap();
            let mut peers = peers.join().unwrap();
            drop(last);
            let ended = peers.iter_mut().all(|peer| {
                peer.set_nonblocking(true).unwrap();
                peer.read(&mut [0]).is_ok_and(|read| read == 0)
            });
            (report, ended)
        });
        let said = stderr(&report);
        let count: usize = said.split(' ').next().unwrap().parse().unwrap();
        assert!((100..=512).contains(&count) && said.ends_with("after closing them: true\n"), "{target}: {said}");
        assert!(ended, "{target}: connections outlive the call");
    }
}

#[test]
fn root_s_path_is_not_redirected_by_another_user_s_link() {
    if !needs_root("unix") {
        return;
    }
    for target in WASM {
        let hooks = hook(Some(target), &["run/socket"]);
        fs::create_dir(at(&hooks, "theirs")).unwrap();
        let _listener = listener(&hooks, "theirs/socket");
        let link = at(&hooks, "run");
        symlink(at(&hooks, "theirs"), &link).unwrap();
        let said = || stderr(&run_impatiently(&hooks, "unix=DIR/run/socket"));
        assert_ne!(said(), "permission denied\n", "{target}: root's own link is followed");
        lchown(&link, Some(12345), None).unwrap();
        assert_eq!(said(), "permission denied\n", "{target}");
    }
}

#[test]
fn a_sandboxed_hook_s_connections_are_learned() {
    for target in WASM {
        let hooks = hook(Some(target), &[]);
        let listener = listener(&hooks, "socket");
        let ran = thread::scope(|scope| {
            scope.spawn(|| drop(accept(&listener)));
            let mut learn = hookvisor();
            learn.arg("learn").arg(hooks.path().join("qemu.d/10-sdk.wasm"));
            let what = format!("drain={}", at(&hooks, "socket").display());
            hooks.ran(learn.args(["qemu", "web1", "start", "begin", &what]).write_stdin(""))
        });
        assert!(ran.stdout.ends_with("\n[[connect]]\nto = \"DIR/at/socket\"\n"), "{target}: {ran:?}");
    }
}

/// The numbers of its connections are numbers of a table that WASI's files and streams are in, too.
#[test]
fn a_module_closes_nothing_but_its_connections() {
    const CLOSES: &str = r#"(module
        (import "hookvisor" "unix_close" (func $close (param i32)))
        (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) ".")
        (func (export "_start") (local $number i32)
            (drop (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))
            (loop $next
                (call $close (local.get $number))
                (local.set $number (i32.add (local.get $number) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $number) (i32.const 64))))
            (call $exit (call $stat (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 64)))))"#;
    let hooks = Hooks::new();
    hooks.file("qemu.d/10.wasm", wat::parse_str(CLOSES).unwrap(), 0o755);
    hooks.file("qemu.d/10.toml", format!("[[dir]]\nhost = '{}'\n", hooks.path().display()), 0o644);
    let report = run(&hooks, "-");
    assert_eq!(report.exit_status(), 0, "{report}");
}
