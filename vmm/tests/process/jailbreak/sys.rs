//! System calls by their numbers, as an intruder makes them.
#![allow(unsafe_code, reason = "raw system calls, with arguments made here")]

use std::io;

/// `arguments` are numbers, or addresses of what lives for the call.
pub(super) fn call<const N: usize>(number: libc::c_long, arguments: [u64; N]) -> io::Result<u64> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the callers pass numbers, or pointers to constants and locals of the size that the call
    // reads or writes; what a call that succeeds would change is this process, which ends then.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    u64::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// At once, without what a filter forbids.
pub(super) fn exit(status: i32) -> ! {
    // SAFETY: the process ends here; nothing of it is needed any more.
    unsafe { libc::_exit(status) }
}
