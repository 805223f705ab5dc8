//! The lock by which others know that somebody writes to an image.
#![allow(unsafe_code, reason = "locks of open files have no safe form")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// QEMU's byte for the right to write, which the broker locked with the file; who only reads the
/// image asks that nobody has it.
const WRITES: i64 = 101;

/// Say whether this file is written to from now on. What else is locked stays: others may not
/// write either way.
pub(super) fn tell_writing(file: &File, writes: bool) -> io::Result<()> {
    // SAFETY: flock is integers alone, for which all zeroes is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    let kind = if writes { libc::F_RDLCK } else { libc::F_UNLCK };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    (lock.l_start, lock.l_len) = (WRITES, 1);
    // SAFETY: the descriptor is open for the call, and the command reads one flock.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// What the kernel shows of the locks on a file.
    fn locks(file: &File) -> Vec<String> {
        let inode = format!(":{} ", file.metadata().unwrap().ino());
        let all = std::fs::read_to_string("/proc/locks").unwrap();
        all.lines().filter(|line| line.contains(&inode)).map(str::to_owned).collect()
    }

    #[test]
    fn a_file_that_is_written_to_is_locked_as_qemu_locks_it_and_later_not() {
        let file = tempfile::tempfile().unwrap();
        for _ in 0..2 {
            tell_writing(&file, true).unwrap();
            let [lock] = &locks(&file)[..] else { panic!("{:?}", locks(&file)) };
            assert!(lock.contains("OFDLCK") && lock.contains("READ"), "{lock}");
            assert!(lock.ends_with(" 101 101"), "{lock}");
            tell_writing(&file, false).unwrap();
            assert_eq!(locks(&file), Vec::<String>::new());
        }
    }
}
