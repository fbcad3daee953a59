//! A process that only computes: it reads its stdin, and writes its stdout and stderr.

use std::collections::BTreeMap;
use std::ffi::c_long;

use landlock::{Access as _, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use super::support::Support;

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // Its streams.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    // Threads.
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals, time and random numbers.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

/// Confines this thread, and every thread that it starts from now on, to its open descriptors. It can no longer open a
/// file, create a socket, execute a program or its own data, or signal another process.
///
/// A kernel without Landlock or seccomp confines it less or not at all.
pub(crate) fn compute_only() {
    // Landlock keeps the files away even without the filter. The filter is last, since it refuses Landlock's calls.
    let _ = leave_files(Support::of_the_running_kernel());
    if let Ok(filter) = filter() {
        let _ = apply_filter(&filter);
    }
}

/// Enters a Landlock domain without any rule.
fn leave_files(support: Support) -> Result<(), RulesetError> {
    let abi = support.abi();
    let (ports, scope) = (AccessNet::from_all(abi), Scope::from_all(abi));
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let mut ruleset = ruleset.handle_access(AccessFs::from_all(abi))?;
    if !ports.is_empty() {
        ruleset = ruleset.handle_access(ports)?;
    }
    if !scope.is_empty() {
        ruleset = ruleset.scope(scope)?;
    }
    ruleset.create()?.restrict_self().map(drop)
}

/// Allows the calls of a program that computes. All others do not exist, as in an older kernel, so that a C library
/// does without them.
fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = ALLOWED.iter().map(|&number| (number, Vec::new())).collect();
    let mut only = |number: c_long, conditions: Vec<SeccompCondition>| {
        SeccompRule::new(conditions).map(|rule| drop(rules.insert(number, vec![rule])))
    };
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        only(number, vec![masked(2, libc::PROT_EXEC as u64, 0)?])?;
    }
    let thread = libc::CLONE_THREAD as u64;
    only(libc::SYS_clone, vec![masked(0, thread, thread)?])?;
    only(libc::SYS_prctl, vec![equal(0, libc::PR_SET_NAME)?])?;
    // A signal to itself: abort(3).
    only(libc::SYS_tgkill, vec![equal(0, std::process::id().cast_signed())?])?;
    // It reads its limits and sets none.
    let no_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    only(libc::SYS_prlimit64, vec![equal(0, 0)?, no_limit])?;
    let otherwise = SeccompAction::Errno(libc::ENOSYS as u32);
    Ok(SeccompFilter::new(rules, otherwise, SeccompAction::Allow, ARCHITECTURE)?.try_into()?)
}

fn equal(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u32 as u64)?)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)?)
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(not(target_arch = "x86_64"))]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;
    use std::thread;

    use nix::sys::signal::kill;
    use nix::unistd::{getppid, pipe};

    use super::*;

    #[test]
    fn a_thread_that_computes_has_its_open_descriptors_and_nothing_else() -> std::io::Result<()> {
        let directory = tempfile::tempdir()?;
        let (file, socket) = (directory.path().join("file"), directory.path().join("socket"));
        fs::write(&file, "")?;
        let (_listens, port) = (UnixListener::bind(&socket)?, TcpListener::bind("127.0.0.1:0")?);
        let port = port.local_addr()?;
        let (read, write) = pipe()?;
        let parent = getppid();
        // Only this thread is confined, and the threads that it starts.
        let confined = thread::spawn(move || {
            compute_only();
            let denied = [
                ("open", File::open(&file).is_err()),
                ("write", fs::write(&file, "written").is_err()),
                ("list", fs::read_dir("/").is_err()),
                ("remove", fs::remove_file(&file).is_err()),
                ("link", fs::hard_link(&file, file.with_extension("link")).is_err()),
                ("run", Command::new("/bin/true").status().is_err()),
                ("connect to a port", TcpStream::connect(port).is_err()),
                ("connect to a socket", UnixStream::connect(&socket).is_err()),
                ("create a socket", UnixStream::pair().is_err()),
                ("signal", kill(parent, None).is_err()),
            ];
            let computed = thread::spawn(|| vec![7_u8; 1 << 24].iter().map(|&n| u64::from(n)).sum::<u64>()).join();
            File::from(write).write_all(b"computed")?;
            Ok::<_, std::io::Error>((denied, computed.unwrap_or_default()))
        });
        let (denied, computed) = confined.join().unwrap_or_else(|_| unreachable!("it panicked"))?;
        assert_eq!(denied.into_iter().filter(|(_, is_denied)| !is_denied).map(|(what, _)| what).next(), None);
        assert_eq!(computed, 7 << 24);
        let mut said = String::new();
        File::from(read).read_to_string(&mut said)?;
        assert_eq!(said, "computed");
        // This thread is as it was.
        assert_eq!(fs::read(directory.path().join("file"))?, b"");
        Ok(())
    }
}
