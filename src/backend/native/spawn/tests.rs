//! Cases that cannot be tested from outside on this kernel.

use std::io::Read;
use std::os::fd::RawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::unistd::{gettid, write};

use super::*;
use crate::backend::native::process::Reaped;
use crate::report::termination::Termination;

/// Runs `sh -c SCRIPT` after these steps. Returns how it ended, and its output.
fn sh(script: &CStr, steps: impl FnOnce(RawFd) -> Vec<Step<'static>>) -> (Reaped, String) {
    let [read, write] = pipe();
    let [_error_read, error] = pipe().map(|end| above_assigned(end).unwrap_or_else(|e| unreachable!("{e:?}")));
    let argv = [c"sh".as_ptr(), c"-c".as_ptr(), script.as_ptr(), ptr::null()];
    let mut steps = steps(error.as_raw_fd());
    steps.insert(0, Step::Stream { from: write.as_raw_fd(), to: libc::STDOUT_FILENO });
    steps.push(Step::Execute { program: c"/bin/sh", argv: &argv, envp: &[ptr::null()] });
    let child = child::start(&steps, error.as_fd());
    drop((write, error));
    let mut said = String::new();
    File::from(read).read_to_string(&mut said).unwrap_or_else(|error| unreachable!("{error}"));
    let reaped = child.map(|mut child| child.reap(Duration::from_secs(60)));
    (reaped.unwrap_or_else(Reaped::Failed), said)
}

fn pipe() -> [OwnedFd; 2] {
    pipe2(OFlag::O_CLOEXEC).map(Into::into).unwrap_or_else(|errno| unreachable!("{errno}"))
}

#[test]
fn without_close_range_the_descriptors_that_proc_lists_are_closed() {
    // Enough descriptors for more than one read of the list, and one above a lowered limit.
    let leaked: Vec<OwnedFd> = (0..300).flat_map(|_| pipe()).collect();
    let inherited = leaked.iter().map(AsFd::as_fd).map(|fd| fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())));
    assert!(inherited.collect::<Vec<_>>().iter().all(Result::is_ok));
    let listing = c"for fd in /proc/self/fd/*; do if [ -e \"$fd\" ]; then echo \"${fd##*/}\"; fi; done";
    let steps = |error| vec![Step::ErrorPipe { from: error }, Step::CloseListedFrom(ERROR_FD + 1)];
    let (ended, said) = sh(listing, steps);
    assert_eq!((ended, said.trim()), (Reaped::Ended(Termination::Exited(0)), "0\n1\n2"), "{said}");
    drop(leaked);
}

/// The signals that a process or thread has blocked, as /proc shows them.
fn blocked(status: &str) -> String {
    let status = std::fs::read_to_string(status).unwrap_or_else(|error| unreachable!("{status}: {error}"));
    let line = status.lines().find(|line| line.starts_with("SigBlk:")).unwrap_or_default();
    line.trim_start_matches("SigBlk:").trim().to_owned()
}

#[test]
fn all_signals_are_blocked_around_the_clone_and_none_in_the_program() {
    /// All 64 signals, the two of the C library included. SIGKILL (9) and SIGSTOP (19) cannot be blocked.
    const ALL: u64 = !(1 << 8 | 1 << 18);
    // The child waits in the middle of its steps: it writes to a full pipe.
    let [read, full] = pipe();
    let full = above_assigned(full).unwrap_or_else(|errno| unreachable!("{errno}"));
    let non_blocking = |flags| fcntl(&full, FcntlArg::F_SETFL(flags)).unwrap_or_else(|errno| unreachable!("{errno}"));
    non_blocking(OFlag::O_NONBLOCK);
    while write(&full, &[b'x'; 4096]).is_ok() {}
    non_blocking(OFlag::empty());
    let announce_on = full.as_raw_fd();
    let (tell, told) = mpsc::channel();
    let launch = thread::spawn(move || {
        let before = blocked("/proc/thread-self/status");
        let told = tell.send(gettid());
        let steps = |error| vec![Step::ErrorPipe { from: error }, Step::Announce(announce_on), Step::UnblockSignals];
        let (ended, said) = sh(c"grep SigBlk /proc/self/status", steps);
        assert_eq!((told, ended), (Ok(()), Reaped::Ended(Termination::Exited(0))), "{said}");
        assert_eq!(blocked("/proc/thread-self/status"), before);
        said
    });
    let launching = told.recv().unwrap_or_else(|error| unreachable!("{error}"));
    let children = format!("/proc/self/task/{launching}/children");
    let child = loop {
        let child = std::fs::read_to_string(&children).unwrap_or_else(|error| unreachable!("{error}"));
        if !child.is_empty() {
            break child.trim().to_owned();
        }
        thread::yield_now();
    };
    let masks = [format!("/proc/self/task/{launching}/status"), format!("/proc/{child}/status")];
    assert_eq!(masks.map(|status| blocked(&status)), [format!("{ALL:016x}"), format!("{ALL:016x}")]);
    // The child goes on.
    drop(full);
    let mut written = Vec::new();
    let mut read = File::from(read);
    while !written.ends_with(b"\n") {
        let mut piece = [0; 4096];
        let length = read.read(&mut piece).unwrap_or_else(|error| unreachable!("{error}"));
        assert_ne!(length, 0, "it ended without a word");
        written.extend_from_slice(&piece[..length]);
    }
    let said = launch.join().unwrap_or_else(|_| unreachable!("the launch failed"));
    assert_eq!(said, format!("SigBlk:\t{:016x}\n", 0));
}
