//! Naming the system call that a filter refused, for whoever has to extend the list.
#![allow(unsafe_code, reason = "a signal handler for SIGSYS")]

use std::io;

use vmm_sys_util::signal::register_signal_handler;

/// Offsets into `siginfo_t` for SIGSYS: call address, then the number.
const NUMBER: usize = 24;

extern "C" fn on_refused(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo of SIGSYS, which has the number at this offset.
    let number = unsafe { info.cast::<u8>().add(NUMBER).cast::<i32>().read_unaligned() };
    let mut text = *b"seccomp: system call 0000 is not allowed on this thread\n";
    let mut rest = number.unsigned_abs();
    for digit in text[21..25].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // SAFETY: both calls are async-signal-safe, and write reads a local array.
    unsafe {
        libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        libc::_exit(128 + libc::SIGSYS);
    }
}

pub(super) fn name_refused_calls() -> io::Result<()> {
    register_signal_handler(libc::SIGSYS, on_refused)
        .map_err(|error| io::Error::from_raw_os_error(error.errno()))
}
