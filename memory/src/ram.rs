//! [`GuestRam`]: the one accessor of guest memory.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vm_memory::bitmap::Bitmap as _;
use vm_memory::mmap::{MmapRegion, MmapRegionBuilder};
use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    GuestRegionMmap,
};

use crate::buffers::IoBuffers;
use crate::dirty::{PAGE, Pages, SharedLog};
use crate::mapping::Mapping;
use crate::policy::Policy;

/// Where the pages of guest RAM come from.
#[derive(Debug)]
pub enum Backing<'a> {
    /// Private anonymous memory: the default, fastest to fault in.
    Anonymous,
    /// A file that others map too (memfd for vhost-user and shared access); regions follow one
    /// another in it.
    Shared(&'a File),
    /// A file on hugetlbfs, with the size of its pages. They are reserved at once.
    Huge(&'a File, u64),
    /// Private copy-on-write pages of a saved image; regions follow one another in it from this
    /// offset on (a multiple of 4096). The file must not change while it is mapped.
    CopyOnWrite(&'a File, u64),
}

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("cannot map {len} bytes of guest memory")]
    Map { len: u64, source: io::Error },
    #[error("guest memory region {gpa:#x}+{len:#x} is empty, misaligned or overlaps another")]
    Layout { gpa: u64, len: u64 },
    #[error("guest range {gpa:#x}+{len:#x} is not in guest memory")]
    Outside { gpa: u64, len: u64 },
    #[error("guest range {gpa:#x}+{len:#x} cannot be given back to the host")]
    Discard { gpa: u64, len: u64, source: io::Error },
    #[error("guest range {gpa:#x}+{len:#x} cannot be placed on these NUMA nodes of the host")]
    Place { gpa: u64, len: u64, source: io::Error },
}

/// A region as KVM's memslots want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegionInfo {
    /// Guest-physical start, bytes.
    pub gpa: u64,
    /// Length, bytes.
    pub len: u64,
    /// Host address of the first byte; valid as long as the [`GuestRam`] it came from.
    pub hva: u64,
    /// Offset of the region in its backing file (or in a saved image).
    pub file_offset: u64,
}

/// What the rust-vmm crates work on, with a log of what is written.
pub type View = GuestMemoryMmap<SharedLog>;

#[derive(Debug)]
struct Ram {
    // Declared before `mappings`: the view goes first, then the memory it looks at.
    view: View,
    regions: Vec<RegionInfo>,
    mappings: Vec<Mapping>,
    /// Of each region.
    logs: Vec<SharedLog>,
    /// How many others write to it who log nothing.
    strangers: AtomicUsize,
}

/// As long as it is there, somebody writes to guest RAM whose writes are in no log.
#[derive(Debug)]
pub struct HandedOut(GuestRam);

impl Drop for HandedOut {
    fn drop(&mut self) {
        self.0.0.strangers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Guest RAM. Cheap to clone; the memory lives until the last clone is gone.
#[derive(Debug, Clone)]
pub struct GuestRam(Arc<Ram>);

impl GuestRam {
    /// Map the regions `(guest address, length)`, ascending and page aligned.
    pub fn new(layout: &[(u64, u64)], backing: &Backing<'_>) -> Result<Self, MemoryError> {
        let mut mappings = Vec::with_capacity(layout.len());
        let mut parts = Vec::with_capacity(layout.len());
        let mut regions = Vec::with_capacity(layout.len());
        let mut logs = Vec::with_capacity(layout.len());
        let mut file_offset = 0;
        for &(gpa, len) in layout {
            let bad_layout = || MemoryError::Layout { gpa, len };
            let size = usize::try_from(len).map_err(|_| bad_layout())?;
            if size == 0 || gpa % 4096 != 0 || len % 4096 != 0 {
                return Err(bad_layout());
            }
            let mapping = match backing {
                Backing::Anonymous => Mapping::anonymous(size),
                Backing::Shared(file) => Mapping::shared(file, file_offset, size),
                Backing::Huge(file, page) => {
                    let page = usize::try_from(*page).map_err(|_| bad_layout())?;
                    if page == 0 || !size.is_multiple_of(page) {
                        return Err(bad_layout());
                    }
                    Mapping::huge(file, file_offset, size, page)
                }
                Backing::CopyOnWrite(file, start) => {
                    let offset = start.checked_add(file_offset).ok_or_else(bad_layout)?;
                    Mapping::copy_on_write(file, offset, size)
                }
            }
            .map_err(|source| MemoryError::Map { len, source })?;
            let log = SharedLog::of(size);
            // SAFETY: the mapping is `size` bytes, readable and writable, and is kept in `mappings`
            // beside the view for as long as the view lives.
            let region: MmapRegion<SharedLog> = unsafe {
                MmapRegionBuilder::new_with_bitmap(size, log.clone())
                    .with_raw_mmap_pointer(mapping.as_ptr())
                    .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
                    .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_NORESERVE)
                    .build()
            }
            .map_err(|_| bad_layout())?;
            regions.push(RegionInfo { gpa, len, hva: mapping.as_ptr() as u64, file_offset });
            parts.push(GuestRegionMmap::new(region, GuestAddress(gpa)).ok_or_else(bad_layout)?);
            mappings.push(mapping);
            logs.push(log);
            file_offset += len;
        }
        let view = View::from_regions(parts).map_err(|_| {
            let (gpa, len) = layout.first().copied().unwrap_or_default();
            MemoryError::Layout { gpa, len }
        })?;
        let strangers = AtomicUsize::new(0);
        Ok(Self(Arc::new(Ram { view, regions, mappings, logs, strangers })))
    }

    /// The regions, ascending by guest address.
    #[must_use]
    pub fn regions(&self) -> &[RegionInfo] {
        &self.0.regions
    }

    /// Bytes of RAM in all regions.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.regions.iter().map(|region| region.len).sum()
    }

    /// The view that the rust-vmm crates (virtio-queue, linux-loader) work on.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// Whether `gpa .. gpa + len` is RAM throughout (it may span adjacent regions).
    #[must_use]
    pub fn contains(&self, gpa: u64, len: u64) -> bool {
        let Ok(size) = usize::try_from(len) else { return false };
        gpa.checked_add(len).is_some()
            && GuestMemoryBackend::check_range(self.view(), GuestAddress(gpa), size)
    }

    pub fn read_slice(&self, gpa: u64, data: &mut [u8]) -> Result<(), MemoryError> {
        let len = data.len() as u64;
        self.view()
            .read_slice(data, GuestAddress(gpa))
            .map_err(|_| MemoryError::Outside { gpa, len })
    }

    pub fn write_slice(&self, gpa: u64, data: &[u8]) -> Result<(), MemoryError> {
        let len = data.len() as u64;
        self.view()
            .write_slice(data, GuestAddress(gpa))
            .map_err(|_| MemoryError::Outside { gpa, len })
    }

    /// Copy a plain value out, once: later guest writes change nothing in the copy.
    pub fn read_obj<T: ByteValued>(&self, gpa: u64) -> Result<T, MemoryError> {
        let len = size_of::<T>() as u64;
        self.view().read_obj(GuestAddress(gpa)).map_err(|_| MemoryError::Outside { gpa, len })
    }

    pub fn write_obj<T: ByteValued>(&self, gpa: u64, value: T) -> Result<(), MemoryError> {
        let len = size_of::<T>() as u64;
        self.view()
            .write_obj(value, GuestAddress(gpa))
            .map_err(|_| MemoryError::Outside { gpa, len })
    }

    /// Fill `gpa .. gpa + len` from `file` at `offset`, without a copy in between.
    pub fn read_from_file(
        &self,
        gpa: u64,
        len: u64,
        file: &File,
        offset: u64,
    ) -> Result<(), ReadFileError> {
        self.buffers([(gpa, len)])?.read_exact_at(file, offset)?;
        Ok(())
    }

    /// Host ranges for scatter-gather I/O over guest ranges `(gpa, len)`, in order.
    pub fn buffers(
        &self,
        ranges: impl IntoIterator<Item = (u64, u64)>,
    ) -> Result<IoBuffers, MemoryError> {
        let mut buffers = IoBuffers::new(self.clone());
        for (gpa, len) in ranges {
            buffers.push(gpa, len)?;
        }
        Ok(buffers)
    }

    /// Keep all of it in the host's RAM from now on.
    ///
    /// # Errors
    /// When the host has a limit for that, or too little RAM.
    pub fn lock(&self) -> Result<(), MemoryError> {
        self.each(Mapping::lock)
    }

    /// Have the host give every page now, and not when the guest first touches it.
    ///
    /// # Errors
    /// When the host has too little RAM, or a kernel older than 5.14.
    pub fn prefault(&self) -> Result<(), MemoryError> {
        self.each(Mapping::prefault)
    }

    /// Let the host keep pages once that are the same here and elsewhere (KSM). False where its kernel has no
    /// such thing.
    #[must_use]
    pub fn merge(&self) -> bool {
        self.each(Mapping::merge).is_ok()
    }

    fn each(&self, act: impl Fn(&Mapping) -> io::Result<()>) -> Result<(), MemoryError> {
        for (region, mapping) in self.regions().iter().zip(&self.0.mappings) {
            let len = region.len;
            act(mapping).map_err(|source| MemoryError::Map { len, source })?;
        }
        Ok(())
    }

    /// Zero every page, giving the memory back to the host: what a cold start finds.
    ///
    /// # Errors
    /// When the host refuses to drop the pages of a region.
    pub fn clear(&self) -> Result<(), MemoryError> {
        self.each(Mapping::clear)?;
        for (region, log) in self.regions().iter().zip(&self.0.logs) {
            log.mark_dirty(0, usize::try_from(region.len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    /// RAM is given to somebody who writes to it and logs nothing: the host's kernel, as a device.
    #[must_use]
    pub fn hand_out(&self) -> HandedOut {
        self.0.strangers.fetch_add(1, Ordering::AcqRel);
        HandedOut(self.clone())
    }

    /// Whether there is such a one: then no log is whole.
    #[must_use]
    pub fn is_handed_out(&self) -> bool {
        self.0.strangers.load(Ordering::Acquire) > 0
    }

    /// Log from now on, with nothing in it, which pages this process writes to; or stop. Not while a
    /// device has a request in flight.
    pub fn log_writes(&self, on: bool) {
        self.0.logs.iter().for_each(|log| log.turn(on));
    }

    /// Whether writes are logged.
    #[must_use]
    pub fn is_logging(&self) -> bool {
        self.0.logs.iter().any(|log| log.is_on())
    }

    /// Somebody to whom RAM is known has written to `gpa .. gpa + len`. What is no RAM is left out.
    pub fn mark_written(&self, gpa: u64, len: u64) {
        // The ranges are of no use to anybody: they are marked as they are found.
        let _ = self.host_ranges(gpa, len, |_, _| {});
    }

    /// Add what was written to since the last time to `pages`. Not while a device has a request in
    /// flight: what it is about to write to counts as written.
    pub fn take_written(&self, pages: &mut Pages) {
        for (region, log) in self.regions().iter().zip(&self.0.logs) {
            pages.insert_words(region.file_offset / PAGE, log.take());
        }
    }

    /// Give the host the pages of `gpa .. gpa + len` (multiples of 4096). Until it is written again
    /// the range holds nothing that anybody may rely on.
    ///
    /// # Errors
    /// When the range is not RAM throughout, or the host keeps the pages.
    pub fn discard(&self, gpa: u64, len: u64) -> Result<(), MemoryError> {
        self.parts(gpa, len, |number, offset, len, gpa| {
            let failed = |source| MemoryError::Discard { gpa, len: len as u64, source };
            self.0.mappings[number].discard(offset, len).map_err(failed)?;
            self.0.logs[number].mark_dirty(offset, len);
            Ok(())
        })
    }

    /// Have the pages of `gpa .. gpa + len` (multiples of 4096) come from where `policy` says: all
    /// that the host has not given yet.
    ///
    /// # Errors
    /// When the range is not RAM throughout, or the host lacks a node.
    pub fn bind(&self, gpa: u64, len: u64, policy: &Policy) -> Result<(), MemoryError> {
        self.parts(gpa, len, |number, offset, len, gpa| {
            let failed = |source| MemoryError::Place { gpa, len: len as u64, source };
            self.0.mappings[number].bind(offset, len, policy).map_err(failed)
        })
    }

    /// What of each mapping lies in a range: its number, offset in it, length, guest address.
    fn parts(
        &self,
        gpa: u64,
        len: u64,
        act: impl Fn(usize, usize, usize, u64) -> Result<(), MemoryError>,
    ) -> Result<(), MemoryError> {
        if !self.contains(gpa, len) {
            return Err(MemoryError::Outside { gpa, len });
        }
        for (number, region) in self.regions().iter().enumerate() {
            let start = gpa.max(region.gpa);
            let end = (gpa + len).min(region.gpa + region.len);
            if start < end {
                act(number, (start - region.gpa) as usize, (end - start) as usize, start)?;
            }
        }
        Ok(())
    }

    /// The host ranges of `gpa .. gpa + len`, which whoever has them may write to.
    pub(crate) fn host_ranges(
        &self,
        gpa: u64,
        len: u64,
        mut each: impl FnMut(*mut u8, usize),
    ) -> Result<(), MemoryError> {
        let outside = || MemoryError::Outside { gpa, len };
        if !self.contains(gpa, len) {
            return Err(outside());
        }
        let (mut at, mut left) = (gpa, len);
        while left > 0 {
            let region = self.view().find_region(GuestAddress(at)).ok_or_else(outside)?;
            let into = at - region.start_addr().0;
            let part = left.min(region.len() - into);
            region.bitmap().mark_dirty(into as usize, part as usize);
            // `into < region.len()`, so the address stays inside the mapping.
            each(region.as_ptr().wrapping_add(into as usize), part as usize);
            at += part;
            left -= part;
        }
        Ok(())
    }
}

/// Why a file could not be read into guest memory.
#[derive(Debug, thiserror::Error)]
pub enum ReadFileError {
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot read the file into guest memory")]
    Io(#[from] io::Error),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::policy::Placement;

    const MIB: u64 = 1 << 20;

    fn two_regions() -> GuestRam {
        GuestRam::new(&[(0, 4 * MIB), (4 * MIB, 2 * MIB)], &Backing::Anonymous).unwrap()
    }

    #[test]
    fn every_region_is_aligned_for_huge_pages() {
        for region in two_regions().regions() {
            assert_eq!(region.hva % crate::HUGE_PAGE, region.gpa % crate::HUGE_PAGE);
        }
    }

    /// By whatever way: a value, a slice over two regions, a list for the kernel, what is given back.
    #[test]
    fn every_write_is_logged_once_and_nothing_before_that_is_wanted() {
        let ram = two_regions();
        let taken = || {
            let mut pages = Pages::none(ram.size());
            ram.take_written(&mut pages);
            (0..2048).filter(|page| pages.contains(*page)).collect::<Vec<u64>>()
        };
        ram.write_slice(0, &[1]).unwrap();
        assert!(taken().is_empty());
        ram.log_writes(true);
        ram.write_obj(0x1ffe, 1u32).unwrap();
        ram.write_slice(4 * MIB - 1, &[1, 2]).unwrap();
        drop(ram.buffers([(0x5000, 0x1001)]).unwrap());
        let mut back = [0; 8];
        ram.read_slice(0x9000, &mut back).unwrap();
        assert_eq!(taken(), [1, 2, 5, 6, 1023, 1024]);
        assert!(taken().is_empty());
        ram.discard(0x3000, 0x1000).unwrap();
        ram.view().store(1u16, GuestAddress(5 * MIB), Ordering::Release).unwrap();
        assert_eq!(taken(), [3, 1280]);
        ram.mark_written(0x7000, 1);
        ram.mark_written(1 << 40, 1);
        assert!(ram.is_logging());
        assert_eq!(taken(), [7]);
        ram.clear().unwrap();
        assert_eq!(taken().len(), 1536);
        ram.log_writes(false);
        ram.write_slice(0, &[1]).unwrap();
        assert!(taken().is_empty());
        let stranger = ram.hand_out();
        assert!(ram.is_handed_out());
        drop(stranger);
        assert!(!ram.is_handed_out());
    }

    #[test]
    fn a_slice_may_span_adjacent_regions() {
        let ram = two_regions();
        ram.write_slice(4 * MIB - 2, &[1, 2, 3, 4]).unwrap();
        let mut back = [0; 4];
        ram.read_slice(4 * MIB - 2, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4]);
    }

    #[test]
    fn ranges_outside_ram_are_refused_also_when_they_overflow() {
        let ram = two_regions();
        for (gpa, len) in [(6 * MIB, 1), (6 * MIB - 1, 2), (u64::MAX, 2), (0, u64::MAX)] {
            assert!(!ram.contains(gpa, len), "{gpa:#x}+{len:#x}");
            assert!(ram.buffers([(gpa, len)]).is_err(), "{gpa:#x}+{len:#x}");
        }
    }

    #[test]
    fn cleared_ram_reads_as_zeros() {
        let ram = two_regions();
        ram.write_obj(0x1000, 0xdead_beef_u32).unwrap();
        ram.clear().unwrap();
        assert_eq!(ram.read_obj::<u32>(0x1000).unwrap(), 0);
    }

    #[test]
    fn ram_from_an_image_reads_as_the_image_until_it_is_cleared_and_leaves_it_alone() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4096 + 4 * MIB).unwrap();
        image.write_all_at(&[7; 16], 4096 + 0x1000).unwrap();
        let ram = GuestRam::new(&[(0, 4 * MIB)], &Backing::CopyOnWrite(&image, 4096)).unwrap();
        assert_eq!(ram.read_obj::<u8>(0x100f).unwrap(), 7);
        ram.write_obj(0x1000, 1_u8).unwrap();
        let mut kept = [0];
        image.read_exact_at(&mut kept, 4096 + 0x1000).unwrap();
        assert_eq!(kept, [7]);
        ram.clear().unwrap();
        assert_eq!(ram.read_obj::<u64>(0x1000).unwrap(), 0);
        ram.write_obj(0x1000, 3_u8).unwrap();
        assert_eq!(ram.read_obj::<u8>(0x1000).unwrap(), 3);
    }

    #[test]
    fn discarded_pages_are_gone_and_their_neighbours_stay() {
        let file =
            File::from(rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.set_len(2 * MIB).unwrap();
        for backing in [Backing::Anonymous, Backing::Shared(&file)] {
            // Adjoining regions: a range may span them.
            let ram = GuestRam::new(&[(0, MIB), (MIB, MIB)], &backing).unwrap();
            for page in [MIB - 8192, MIB - 4096, MIB, MIB + 4096] {
                ram.write_obj(page, 7_u8).unwrap();
            }
            ram.discard(MIB - 4096, 8192).unwrap();
            let read = |gpa| ram.read_obj::<u8>(gpa).unwrap();
            let found = [MIB - 8192, MIB - 4096, MIB, MIB + 4096].map(read);
            assert_eq!(found, [7, 0, 0, 7], "{backing:?}");
        }
    }

    #[test]
    fn what_is_no_ram_or_no_whole_page_is_not_discarded() {
        let ram = two_regions();
        for (gpa, len) in [(u64::MAX - 4095, 4096), (0x800, 4096), (0x1000, 100)] {
            assert!(ram.discard(gpa, len).is_err(), "{gpa:#x}+{len:#x}");
        }
    }

    #[test]
    fn locked_ram_is_cleared_all_the_same_and_stays_where_it_is() {
        let ram = two_regions();
        if let Err(error) = ram.lock() {
            println!("SKIP: memory cannot be locked here: {error:?}");
            return;
        }
        ram.prefault().unwrap();
        ram.write_obj(0x1000, 9_u8).unwrap();
        ram.discard(0x1000, 4096).unwrap();
        assert_eq!(ram.read_obj::<u8>(0x1000).unwrap(), 9);
        ram.clear().unwrap();
        assert_eq!(ram.read_obj::<u8>(0x1000).unwrap(), 0);
    }

    #[test]
    fn a_policy_holds_for_parts_and_is_kept_when_an_image_is_cleared() {
        let image = tempfile::tempfile().unwrap();
        image.set_len(4 * MIB).unwrap();
        for backing in [Backing::Anonymous, Backing::CopyOnWrite(&image, 0)] {
            let ram = GuestRam::new(&[(0, 2 * MIB), (2 * MIB, 2 * MIB)], &backing).unwrap();
            let here = Policy::new(Placement::Strict, &[0]).unwrap();
            if let Err(MemoryError::Place { source, .. }) = ram.bind(MIB, 2 * MIB, &here) {
                println!("SKIP: this host knows no NUMA policies: {source}");
                return;
            }
            ram.clear().unwrap();
            for gpa in [0x1000, 2 * MIB] {
                ram.write_obj(gpa, 1_u8).unwrap();
            }
            let nowhere = Policy::new(Placement::Strict, &[1023]).unwrap();
            let error = ram.bind(0, MIB, &nowhere).unwrap_err();
            assert!(matches!(error, MemoryError::Place { gpa: 0, .. }), "{error}");
            assert!(ram.bind(3 * MIB, 2 * MIB, &here).is_err(), "beyond the end");
            assert!(ram.bind(100, 4096, &here).is_err(), "no whole page");
        }
    }

    #[test]
    fn regions_that_are_no_whole_number_of_huge_pages_are_refused() {
        let file = tempfile::tempfile().unwrap();
        let error = GuestRam::new(&[(0, 3 * MIB)], &Backing::Huge(&file, 2 * MIB)).unwrap_err();
        assert!(matches!(error, MemoryError::Layout { .. }), "{error}");
    }

    #[test]
    fn clearing_shared_ram_clears_it_for_everybody() {
        let file =
            File::from(rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
        file.set_len(2 * MIB).unwrap();
        let ram = GuestRam::new(&[(0, 2 * MIB)], &Backing::Shared(&file)).unwrap();
        ram.write_obj(0x1000, 9_u8).unwrap();
        ram.clear().unwrap();
        let mut byte = [1];
        file.read_exact_at(&mut byte, 0x1000).unwrap();
        assert_eq!((byte, ram.read_obj::<u8>(0x1000).unwrap()), ([0], 0));
    }

    #[test]
    fn overlapping_or_unaligned_regions_are_refused() {
        for layout in [[(0, 2 * MIB), (MIB, MIB)], [(0, 100), (MIB, MIB)]] {
            let error = GuestRam::new(&layout, &Backing::Anonymous).unwrap_err();
            assert!(matches!(error, MemoryError::Layout { .. }), "{error}");
        }
    }
}
