//! Cases that cannot be tested from outside on this kernel.

use std::io::Read;
use std::os::fd::RawFd;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

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
