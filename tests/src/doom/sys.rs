//! ptrace, with PTRACE_SEIZE: threads stop at their system calls and nowhere else.
#![allow(unsafe_code, reason = "ptrace has no safe interface")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::ptr;

use libc::{c_int, c_long, c_uint, c_void};

/// Its number and what it is given.
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) arguments: [u64; 6],
}

/// Why a thread stands still.
pub(super) enum Stop {
    Entry(Call),
    Exit,
    Signal(c_int),
    /// The whole process was stopped.
    Group,
    Other,
    Ended,
}

fn ptrace(request: c_uint, id: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests that come here none reads or writes memory of ours: `data` is a number.
    let result = unsafe { libc::ptrace(request, id, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Trace a thread, and those that it makes.
pub(super) fn seize(id: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
    ptrace(libc::PTRACE_SEIZE, id, 0, options as usize)
}

/// It stops soon, if it is still there.
pub(super) fn interrupt(id: i32) -> io::Result<()> {
    match ptrace(libc::PTRACE_INTERRUPT, id, 0, 0) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

/// To its next system call, with a signal. A thread that has ended is told of by `wait`.
pub(super) fn go_on(id: i32, signal: c_int) {
    let _ = ptrace(libc::PTRACE_SYSCALL, id, 0, signal as usize);
}

/// Stay stopped as the process is, until that goes on.
pub(super) fn listen(id: i32) {
    let _ = ptrace(libc::PTRACE_LISTEN, id, 0, 0);
}

pub(super) fn kill(pid: i32) {
    // SAFETY: no memory is involved. The number is that of a child that its tracer has not waited for,
    // so it is nobody else's.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// The next that stops among those this thread traces; none if there are none left.
pub(super) fn wait() -> Option<(i32, Stop)> {
    let mut status = 0;
    let id = loop {
        // SAFETY: `status` is a valid place for one number during the call. With __WNOTHREAD only
        // threads that this one traces and its own children are waited for.
        let id = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if id > 0 {
            break id;
        }
        if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return None;
        }
    };
    if !libc::WIFSTOPPED(status) {
        return Some((id, Stop::Ended));
    }
    let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
    let stop = match (signal, event) {
        (signal, 0) if signal == libc::SIGTRAP | 0x80 => syscall(id),
        (signal, libc::PTRACE_EVENT_STOP) if signal != libc::SIGTRAP => Stop::Group,
        (signal, 0) => Stop::Signal(signal),
        _ => Stop::Other,
    };
    Some((id, stop))
}

fn syscall(id: i32) -> Stop {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    // SAFETY: the kernel writes at most as many bytes as the size it is given, which is that of `info`.
    let written = unsafe {
        libc::ptrace(
            libc::PTRACE_GET_SYSCALL_INFO,
            id,
            size_of::<libc::ptrace_syscall_info>(),
            ptr::from_mut(&mut info).cast::<c_void>(),
        )
    };
    if written <= 0 {
        return Stop::Other;
    }
    // SAFETY: it is made of integers alone, and every byte was zeroed before the kernel wrote to it.
    let info = unsafe { info.assume_init() };
    match info.op {
        libc::PTRACE_SYSCALL_INFO_ENTRY => {
            // SAFETY: as `op` says, the kernel has filled in this member; the others are integers as well.
            let entry = unsafe { info.u.entry };
            Stop::Entry(Call { number: entry.nr as c_long, arguments: entry.args })
        }
        libc::PTRACE_SYSCALL_INFO_EXIT => Stop::Exit,
        _ => Stop::Other,
    }
}
