//! ptrace, for one thread that is held still.
#![allow(unsafe_code, reason = "ptrace has no safe interface")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_uint, c_void, user_regs_struct};

fn ptrace(request: c_uint, id: i32, address: u64, data: u64) -> io::Result<()> {
    // SAFETY: of the requests that come here none reads or writes memory of ours: `data` is a number.
    let result = unsafe { libc::ptrace(request, id, address as *mut c_void, data as *mut c_void) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Trace a thread, and have it stop.
pub(super) fn seize(id: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_SEIZE, id, 0, 0)?;
    ptrace(libc::PTRACE_INTERRUPT, id, 0, 0)
}

/// Wait until it stands still.
pub(super) fn stopped(id: i32) -> io::Result<()> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a valid place for one number during the call.
        let found = unsafe { libc::waitpid(id, &raw mut status, libc::__WALL) };
        match found {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ if libc::WIFSTOPPED(status) => return Ok(()),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

pub(super) fn registers(id: i32) -> io::Result<user_regs_struct> {
    let mut registers = MaybeUninit::<user_regs_struct>::zeroed();
    let place = registers.as_mut_ptr().cast::<c_void>();
    // SAFETY: the kernel writes one such structure to a place of that size.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_GETREGS, id, ptr::null_mut::<c_void>(), place) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is made of integers alone, and every byte was zeroed before the kernel wrote to it.
    Ok(unsafe { registers.assume_init() })
}

pub(super) fn set_registers(id: i32, registers: &user_regs_struct) -> io::Result<()> {
    let place = ptr::from_ref(registers).cast_mut().cast::<c_void>();
    // SAFETY: the kernel reads one such structure from a place of that size.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_SETREGS, id, ptr::null_mut::<c_void>(), place) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Eight bytes of its memory.
pub(super) fn word(id: i32, address: u64) -> io::Result<u64> {
    let mut word = [0_u8; 8];
    let file = std::fs::File::open(format!("/proc/{id}/mem"))?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut word, address)?;
    Ok(u64::from_le_bytes(word))
}

/// One instruction, and what it calls.
pub(super) fn step(id: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_SINGLESTEP, id, 0, 0)?;
    stopped(id)
}

pub(super) fn release(id: i32) {
    let _ = ptrace(libc::PTRACE_DETACH, id, 0, 0);
}
