//! [`Puppet`]: a thread of another process makes the system calls that it is told to make, with the rights
//! and the filter it has: what somebody could do who has taken the process over.

mod sys;

use std::io;
use std::marker::PhantomData;

/// It stands still until this is dropped, and goes on then as if nothing had been.
pub struct Puppet {
    id: i32,
    /// As it was found.
    registers: libc::user_regs_struct,
    /// Only the thread that traces another may move it.
    _here: PhantomData<*const ()>,
}

/// `syscall`, in two bytes.
const SYSCALL: u64 = 0x050f;

impl Puppet {
    /// A thread that waits in a system call.
    ///
    /// # Errors
    /// Where it may not be traced, is gone, or is in the middle of something else.
    pub fn take(id: i32) -> io::Result<Self> {
        sys::seize(id)?;
        sys::stopped(id)?;
        let registers = sys::registers(id)?;
        let puppet = Self { id, registers, _here: PhantomData };
        let last = sys::word(id, registers.rip.wrapping_sub(2))?;
        if last & 0xffff != SYSCALL {
            return Err(io::Error::other("the thread waits in no system call"));
        }
        Ok(puppet)
    }

    /// # Errors
    /// What the kernel says, or that the process has ended of it.
    pub fn call(&mut self, number: libc::c_long, arguments: [u64; 6]) -> io::Result<u64> {
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let call = libc::user_regs_struct {
            rip: self.registers.rip.wrapping_sub(2),
            rax: number.cast_unsigned(),
            // It is not in the call that it was found in.
            orig_rax: u64::MAX,
            rdi,
            rsi,
            rdx,
            r10,
            r8,
            r9,
            ..self.registers
        };
        sys::set_registers(self.id, &call)?;
        sys::step(self.id)?;
        let result = sys::registers(self.id)?.rax.cast_signed();
        match i32::try_from(result) {
            Ok(error @ -4095..0) => Err(io::Error::from_raw_os_error(-error)),
            _ => Ok(result.cast_unsigned()),
        }
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = sys::set_registers(self.id, &self.registers);
        sys::release(self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_puppet_calls_what_it_is_told_and_goes_on_as_if_nothing_had_been() -> io::Result<()> {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let id = i32::try_from(cat.id()).map_err(io::Error::other)?;
        // It comes to its read(2) some time.
        let mut puppet = loop {
            match Puppet::take(id) {
                Err(error) if error.kind() == io::ErrorKind::Other => std::thread::yield_now(),
                taken => break taken?,
            }
        };
        assert_eq!(puppet.call(libc::SYS_getpid, [0; 6])?, u64::from(cat.id()));
        let refused = puppet.call(libc::SYS_close, [12345, 0, 0, 0, 0, 0]);
        assert_eq!(refused.map_err(|error| error.raw_os_error()), Err(Some(libc::EBADF)));
        drop(puppet);
        drop(cat.stdin.take());
        assert!(cat.wait()?.success());
        Ok(())
    }
}
