//! Imitates an older kernel with a system call filter. Real processes get its answers.
#![expect(unsafe_code, reason = "a filter is installed by prctl and seccomp")]

use std::mem::offset_of;

use nix::errno::Errno;

/// Denies what Linux 5.8 does not have, and Linux 6.1 has in part: close_range (5.9), signals to a process group by
/// pidfd (6.9), and the exit status of a reaped child (6.15).
///
/// For this thread from now on, and for all that it starts.
pub(crate) fn become_linux_5_8() {
    const NUMBER: u32 = offset_of!(libc::seccomp_data, nr) as u32;
    // The low half of an argument, on a little-endian machine.
    const SECOND: u32 = offset_of!(libc::seccomp_data, args) as u32 + 8;
    const FOURTH: u32 = offset_of!(libc::seccomp_data, args) as u32 + 24;
    let load = |at| (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    // Skips the next `skip` instructions unless equal.
    let unless_equal_skip = |value: u32, skip| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, skip, value);
    let fail = |errno: Errno| (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32);
    let number = |call: libc::c_long| u32::try_from(call).unwrap();
    let filter: Vec<libc::sock_filter> = [
        load(NUMBER),
        unless_equal_skip(number(libc::SYS_close_range), 1),
        fail(Errno::ENOSYS),
        unless_equal_skip(number(libc::SYS_pidfd_send_signal), 3),
        load(FOURTH),
        // Only flags of zero are valid.
        (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 5, 0, 0),
        fail(Errno::EINVAL),
        unless_equal_skip(number(libc::SYS_ioctl), 3),
        load(SECOND),
        unless_equal_skip(libc::PIDFD_GET_INFO as u32, 1),
        fail(Errno::ENOTTY),
        (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
    .map(instruction)
    .into();
    install(&filter);
}

/// A kernel that was built, or started, without this system call: for this thread from now on, and for all that it starts.
pub(crate) fn lose_system_call(call: libc::c_long) {
    let filter = [
        (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset_of!(libc::seccomp_data, nr) as u32),
        (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
        (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | Errno::ENOSYS as u32),
        (libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    install(&filter.map(instruction));
}

fn instruction((code, jt, jf, k): (u32, u8, u8, u32)) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn install(filter: &[libc::sock_filter]) {
    let program = libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program and its instructions live during the calls, and the kernel copies them.
    let installed = unsafe {
        Errno::result(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)).and_then(|_| {
            Errno::result(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0))
        })
    };
    installed.unwrap();
}
