//! [`IoBuffers`]: guest ranges as host ranges, for the kernel to read and write.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::ram::{GuestRam, MemoryError};
use crate::vectors::Vectors;

/// Scatter-gather list over guest RAM. Keeps the RAM mapped while the kernel may still use it.
#[derive(Debug)]
pub struct IoBuffers {
    ram: GuestRam,
    vectors: Vectors,
}

// SAFETY: the vectors are addresses and lengths inside the mapping that `ram` keeps alive; the
// memory itself is only ever touched by the kernel or by volatile copies, from any thread.
unsafe impl Send for IoBuffers {}

impl IoBuffers {
    /// An empty list over `ram`.
    #[must_use]
    pub fn new(ram: GuestRam) -> Self {
        Self { ram, vectors: Vectors::default() }
    }

    /// Append `gpa .. gpa + len`.
    ///
    /// # Errors
    /// [`MemoryError::Outside`] when the range is not RAM throughout; the list is then unchanged.
    pub fn push(&mut self, gpa: u64, len: u64) -> Result<(), MemoryError> {
        self.len().checked_add(len).ok_or(MemoryError::Outside { gpa, len })?;
        let vectors = &mut self.vectors;
        self.ram.host_ranges(gpa, len, |base, len| vectors.push(base.cast(), len))
    }

    /// Empty the list, to fill it again without allocating.
    pub fn clear(&mut self) {
        self.vectors.clear();
    }

    /// Bytes left in the list.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.vectors.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For `readv`, `writev` and io_uring. The pointers are valid while `self` lives.
    #[must_use]
    pub fn as_iovecs(&self) -> &[libc::iovec] {
        self.vectors.left()
    }

    /// Drop the first `count` bytes, as after a short transfer.
    pub fn advance(&mut self, count: u64) {
        self.vectors.advance(count);
    }

    /// Undo what was advanced: the whole list is left again.
    pub fn rewind(&mut self) {
        self.vectors.rewind();
    }

    /// Keep only the first `count` bytes.
    pub fn truncate(&mut self, count: u64) {
        self.vectors.truncate(count);
    }

    /// Copy out of guest memory into `data` and advance; returns the bytes copied.
    pub fn copy_to(&mut self, data: &mut [u8]) -> usize {
        self.copy(data.len(), |at, guest, part| {
            // SAFETY: `guest .. guest + part` is mapped guest RAM (checked by `push`, kept alive by
            // `ram`), `data[at..at + part]` is ours; the guest may write meanwhile, which a byte
            // copy through raw pointers tolerates as a torn value, never as a reference.
            unsafe { std::ptr::copy_nonoverlapping(guest, data[at..].as_mut_ptr(), part) };
        })
    }

    /// Copy the first bytes of guest memory into `data` and stay where it is; returns the bytes
    /// copied.
    pub fn peek(&self, data: &mut [u8]) -> usize {
        let mut done = 0;
        for vector in self.as_iovecs() {
            let part = vector.iov_len.min(data.len() - done);
            let to = data[done..].as_mut_ptr();
            // SAFETY: as in `copy_to`: the vector is mapped guest RAM, kept alive by `ram`, and
            // `part` fits into what is left of `data`.
            unsafe { std::ptr::copy_nonoverlapping(vector.iov_base.cast(), to, part) };
            done += part;
        }
        done
    }

    /// Copy `data` to the front of guest memory and stay where it is; returns the bytes copied.
    pub fn poke(&self, data: &[u8]) -> usize {
        let mut done = 0;
        for vector in self.as_iovecs() {
            let part = vector.iov_len.min(data.len() - done);
            let from = data[done..].as_ptr();
            // SAFETY: as in `copy_from`: the vector is mapped guest RAM, kept alive by `ram`, and
            // `part` is no more than what is left of `data`.
            unsafe { std::ptr::copy_nonoverlapping(from, vector.iov_base.cast(), part) };
            done += part;
        }
        done
    }

    /// Copy `data` into guest memory and advance; returns the bytes copied.
    pub fn copy_from(&mut self, data: &[u8]) -> usize {
        self.copy(data.len(), |at, guest, part| {
            // SAFETY: as in `copy_to`, in the other direction.
            unsafe { std::ptr::copy_nonoverlapping(data[at..].as_ptr(), guest, part) };
        })
    }

    /// Write zeros over everything left and advance to the end.
    pub fn zero(&mut self) {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX);
        self.copy(len, |_, guest, part| {
            // SAFETY: `guest .. guest + part` is mapped guest RAM, as in `copy_to`.
            unsafe { std::ptr::write_bytes(guest, 0, part) };
        });
    }

    /// Fill the whole list from `file` at `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends first, else what `preadv` says.
    pub fn read_exact_at(mut self, file: &File, mut offset: u64) -> io::Result<()> {
        while !self.is_empty() {
            let vectors =
                &self.as_iovecs()[..self.as_iovecs().len().min(libc::UIO_MAXIOV as usize)];
            // SAFETY: the vectors describe mapped guest RAM for as long as `self` lives, and
            // `preadv` returns before that.
            let count = unsafe {
                libc::preadv(
                    file.as_fd().as_raw_fd(),
                    vectors.as_ptr(),
                    vectors.len() as i32,
                    offset as libc::off_t,
                )
            };
            match count {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                1.. => {
                    offset += count as u64;
                    self.advance(count as u64);
                }
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, len: usize, mut each: impl FnMut(usize, *mut u8, usize)) -> usize {
        let mut done = 0;
        while done < len {
            let Some(vector) = self.as_iovecs().first().copied() else { break };
            let part = vector.iov_len.min(len - done);
            each(done, vector.iov_base.cast(), part);
            done += part;
            self.advance(part as u64);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ram::Backing;

    fn ram() -> GuestRam {
        GuestRam::new(&[(0, 1 << 20), (1 << 20, 1 << 20)], &Backing::Anonymous).unwrap()
    }

    #[test]
    fn copies_cross_ranges_and_stop_at_the_end() {
        let ram = ram();
        let mut out = ram.buffers([(0x1000, 3), ((1 << 20) - 1, 2)]).unwrap();
        assert_eq!(out.copy_from(&[1, 2, 3, 4, 5, 6]), 5);
        assert!(out.is_empty());
        let mut back = [0; 5];
        assert_eq!(ram.buffers([(0x1000, 3), ((1 << 20) - 1, 2)]).unwrap().copy_to(&mut back), 5);
        assert_eq!(back, [1, 2, 3, 4, 5]);

        let list = ram.buffers([(0x1000, 3), ((1 << 20) - 1, 2)]).unwrap();
        let (mut some, mut more) = ([0; 4], [0; 8]);
        assert_eq!((list.peek(&mut some), list.peek(&mut more), list.len()), (4, 5, 5));
        assert_eq!((some, &more[..5]), ([1, 2, 3, 4], &[1, 2, 3, 4, 5][..]));
        assert_eq!((list.poke(&[6; 4]), list.poke(&[7; 3]), list.len()), (4, 3, 5));
        list.peek(&mut more);
        assert_eq!(more[..5], [7, 7, 7, 6, 5]);
        assert_eq!(list.poke(&[8; 9]), 5);
    }

    #[test]
    fn advance_and_truncate_leave_the_middle() {
        let ram = ram();
        ram.write_slice(0, &[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
        let mut middle = ram.buffers([(0, 4), (4, 4)]).unwrap();
        middle.advance(2);
        middle.truncate(4);
        let mut back = [0; 8];
        assert_eq!(middle.copy_to(&mut back), 4);
        assert_eq!(back[..4], [2, 3, 4, 5]);
    }

    #[test]
    fn a_cleared_list_starts_afresh() {
        let mut list = ram().buffers([(0, 8)]).unwrap();
        list.advance(8);
        list.clear();
        list.push(16, 4).unwrap();
        assert_eq!((list.len(), list.as_iovecs().len()), (4, 1));
    }

    #[test]
    fn a_bad_range_leaves_the_list_unchanged() {
        let mut list = ram().buffers([(0, 8)]).unwrap();
        assert!(list.push(2 << 20, 1).is_err());
        assert_eq!((list.len(), list.as_iovecs().len()), (8, 1));
    }
}
