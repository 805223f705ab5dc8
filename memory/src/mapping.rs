//! One host mapping for one region of guest RAM: 2 MiB aligned, guard pages on both sides.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::HUGE_PAGE;
use crate::policy::Policy;

const PAGE: usize = 4096;

/// An owned range of address space: `[guard | region | guard]`, unmapped as a whole on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    reserved: *mut libc::c_void,
    reserved_len: usize,
    region: *mut u8,
    len: usize,
    contents: Contents,
    /// Of the host: what is given back is a multiple of it.
    page: usize,
    locked: AtomicBool,
    /// Of parts: offset, length. Pages that replace others follow them as well.
    policies: Mutex<Vec<(usize, usize, Policy)>>,
}

/// What untouched pages read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contents {
    Zeros,
    /// A file that others see too.
    Shared,
    /// A file that stays as it is.
    Image,
}

// SAFETY: the pointers are plain addresses of a mapping this value owns; all access to the memory
// behind them goes through vm-memory's volatile accessors, which allow any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; no method gives out a Rust reference into the mapping.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Anonymous private memory, with huge-page advice.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let mapping = Self::reserve(len, Contents::Zeros)?;
        mapping.place_anonymous()?;
        Ok(mapping)
    }

    /// Pages of `file` from `offset`, shared with whoever else maps it.
    pub(crate) fn shared(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mapping = Self::reserve(len, Contents::Shared)?;
        mapping.place(libc::MAP_SHARED, file.as_raw_fd(), offset)?;
        mapping.advise(libc::MADV_HUGEPAGE);
        Ok(mapping)
    }

    /// Pages of a file on hugetlbfs from `offset`, all of them reserved: `page` bytes each.
    pub(crate) fn huge(file: &File, offset: u64, len: usize, page: usize) -> io::Result<Self> {
        let mut mapping =
            Self::reserve_aligned(len, page.max(HUGE_PAGE as usize), Contents::Shared)?;
        mapping.page = page;
        mapping.place_reserved(libc::MAP_SHARED, file.as_raw_fd(), offset)?;
        Ok(mapping)
    }

    /// Keep every page in RAM from now on.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: locking pages of our own mapping changes no byte of them.
        match unsafe { libc::mlock(self.region.cast(), self.len) } {
            0 => {
                self.locked.store(true, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Pages that are the same as others may be kept once.
    pub(crate) fn merge(&self) -> io::Result<()> {
        // SAFETY: a page of our own mapping that is merged is copied again before it is written to.
        match unsafe { libc::madvise(self.region.cast(), self.len, libc::MADV_MERGEABLE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Have the host give every page now.
    pub(crate) fn prefault(&self) -> io::Result<()> {
        // SAFETY: populating pages of our own mapping changes no byte of them.
        match unsafe { libc::madvise(self.region.cast(), self.len, libc::MADV_POPULATE_WRITE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Pages of `file` from `offset`, copied when written: how a saved guest's RAM comes back at once.
    pub(crate) fn copy_on_write(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        let mapping = Self::reserve(len, Contents::Image)?;
        mapping.place(libc::MAP_PRIVATE, file.as_raw_fd(), offset)?;
        Ok(mapping)
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.region
    }

    /// Every byte reads as zero afterwards, and the host has its memory back.
    pub(crate) fn clear(&self) -> io::Result<()> {
        if self.locked.load(Ordering::Relaxed) {
            // SAFETY: the range is our own mapping, readable and writable; nobody holds a Rust
            // reference into it, and whoever else writes there races with a guest's reset.
            unsafe { ptr::write_bytes(self.region, 0, self.len) };
            return Ok(());
        }
        let advice = match self.contents {
            Contents::Zeros => libc::MADV_DONTNEED,
            Contents::Shared => libc::MADV_REMOVE,
            // Dropping the copies would bring the image back: the pages are replaced instead.
            Contents::Image => {
                self.place_anonymous()?;
                let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
                return policies.iter().try_for_each(|(offset, len, policy)| {
                    policy.apply(self.region.wrapping_add(*offset), *len)
                });
            }
        };
        // SAFETY: the range is our own mapping, and nobody holds a Rust reference into it.
        match unsafe { libc::madvise(self.region.cast(), self.len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Give the host the pages of a part of the mapping. What they read as afterwards is zeros, or
    /// what the image held.
    pub(crate) fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let advice = match self.contents {
            // The copies are dropped, which is all that costs memory.
            Contents::Zeros | Contents::Image => libc::MADV_DONTNEED,
            Contents::Shared => libc::MADV_REMOVE,
        };
        if self.locked.load(Ordering::Relaxed) {
            return Ok(());
        }
        // Of larger pages, those that lie in the range as a whole.
        let end = (offset + len) / self.page * self.page;
        let offset = offset.next_multiple_of(self.page);
        let Some(len) = end.checked_sub(offset).filter(|len| *len > 0) else { return Ok(()) };
        let start = self.region.wrapping_add(offset);
        // SAFETY: the range was checked to lie inside our own mapping, and nobody holds a Rust
        // reference into it.
        match unsafe { libc::madvise(start.cast(), len, advice) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Have pages of a part come from where `policy` says, those that were given already apart.
    pub(crate) fn bind(&self, offset: usize, len: usize, policy: &Policy) -> io::Result<()> {
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        if !inside || !offset.is_multiple_of(PAGE) || !len.is_multiple_of(PAGE) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        policy.apply(self.region.wrapping_add(offset), len)?;
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.push((offset, len, policy.clone()));
        Ok(())
    }

    fn place_anonymous(&self) -> io::Result<()> {
        self.place(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        self.advise(libc::MADV_HUGEPAGE);
        Ok(())
    }

    fn reserve(len: usize, contents: Contents) -> io::Result<Self> {
        Self::reserve_aligned(len, HUGE_PAGE as usize, contents)
    }

    fn reserve_aligned(len: usize, huge: usize, contents: Contents) -> io::Result<Self> {
        // One huge page to align within, one guard on each side.
        let reserved_len =
            len.checked_add(3 * huge).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: a fresh PROT_NONE mapping at an address of the kernel's choice touches nothing.
        let reserved = unsafe {
            libc::mmap(
                ptr::null_mut(),
                reserved_len,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if reserved == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = (reserved as usize + huge).next_multiple_of(huge);
        Ok(Self {
            reserved,
            reserved_len,
            region: start as *mut u8,
            len,
            contents,
            page: PAGE,
            locked: AtomicBool::new(false),
            policies: Mutex::default(),
        })
    }

    fn place(&self, flags: i32, fd: i32, offset: u64) -> io::Result<()> {
        // MAP_NORESERVE: whether the host overcommits is the host's policy, set by cgroup limits,
        // and not decided by how the mapping is made.
        self.place_reserved(flags | libc::MAP_NORESERVE, fd, offset)
    }

    fn place_reserved(&self, flags: i32, fd: i32, offset: u64) -> io::Result<()> {
        // SAFETY: `region .. region + len` lies inside the reservation made above, which this value
        // owns, so MAP_FIXED replaces nothing but our own pages, into which there are no Rust references.
        let placed = unsafe {
            libc::mmap(
                self.region.cast(),
                self.len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_FIXED,
                fd,
                offset as libc::off_t,
            )
        };
        if placed == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // Guest RAM in a core dump would be both huge and a leak.
        self.advise(libc::MADV_DONTDUMP);
        Ok(())
    }

    fn advise(&self, advice: i32) {
        // Advice may be refused (no THP in the kernel); the guest then runs with small pages.
        // SAFETY: the range is our own mapping; neither advice used here changes its contents.
        unsafe { libc::madvise(self.region.cast(), self.len, advice) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range `reserve` mapped. `GuestRam` drops its mappings last, and every
        // holder of ranges (`IoBuffers`, memslots) keeps the `GuestRam` alive.
        unsafe { libc::munmap(self.reserved, self.reserved_len) };
    }
}
