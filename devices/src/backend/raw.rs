//! [`RawDisk`]: a file or block device whose bytes are the disk's, and its synchronous I/O.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::FileTypeExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use image::{FileStorage, Image, Raw, Watermark};
use memory::IoBuffers;
use rustix::fs::{AtFlags, FallocateFlags, OFlags, SeekFrom, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::blocking::{Blocking, BlockingChannel};
use super::disk::{Action, Cache, Channel, Disk, DiskInfo};
use super::io_uring::{Rings, UringChannel};
use super::sys;
use crate::sync::Lock;

mod bounce;
#[cfg(test)]
mod tests;

pub(super) use bounce::Bounce;
use bounce::{Alignment, Span};

const SECTOR: u64 = 512;
/// Bytes that go through a bounce buffer, or are zeroed by writing, at a time.
const PIECE: u64 = 1 << 20;

/// How requests reach the host kernel (libvirt's `io=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskIo {
    /// io_uring, or the other way where the host refuses it.
    #[default]
    Uring,
    /// Blocking calls on the queue's io thread.
    Threads,
}

/// An opened raw disk and how to use it.
#[derive(Debug)]
pub struct DiskSpec {
    pub file: Arc<File>,
    pub read_only: bool,
    pub cache: Cache,
    /// Give discarded ranges back to the host.
    pub discard: bool,
    /// The guest's logical block size.
    pub block_size: u32,
    pub io: DiskIo,
    /// Channels that are in use at once, and requests in flight on each of them at most: what is
    /// needed for them is had from the host at once.
    pub queues: usize,
    pub depth: u16,
}

/// A raw disk.
pub struct RawDisk {
    file: Arc<RawFile>,
    /// All but the size, which may grow.
    info: DiskInfo,
    is_device: bool,
    /// None: blocking calls.
    rings: Option<Rings>,
}

/// The file and what its I/O must respect; shared by all channels.
pub(super) struct RawFile {
    file: Arc<File>,
    /// Bytes that it has: nothing below may be missing later.
    len: AtomicU64,
    discard: bool,
    ignore_flush: bool,
    direct: Option<Alignment>,
    /// Held while part of a host block is rewritten, so that two such writes lose nothing.
    rewriting: Mutex<()>,
    mark: OnceLock<Arc<Watermark>>,
}

impl RawDisk {
    /// # Errors
    /// When the file's size cannot be found, its block size is impossible, or the cache mode asks
    /// for direct I/O that its file system does not provide.
    pub fn new(spec: DiskSpec) -> io::Result<Self> {
        let DiskSpec { file, read_only, cache, discard, block_size, io, queues, depth } = spec;
        if !block_size.is_power_of_two() || !(512..=1 << 16).contains(&block_size) {
            return Err(invalid(format!("disk block size {block_size} is not possible")));
        }
        let is_device = file.metadata()?.file_type().is_block_device();
        let len = rustix::fs::seek(&file, SeekFrom::End(0))?;
        let direct = cache.is_direct().then(|| make_direct(&file)).transpose()?;
        if let Some(align) = direct
            && !read_only
            && !len.is_multiple_of(align.offset)
        {
            // A direct write of its last block would make the file longer.
            return Err(invalid(format!(
                "the disk's size of {len} bytes is not a multiple of {}, which cache none and \
                 directsync need here",
                align.offset
            )));
        }
        let physical = host_block_size(&file, is_device).max(block_size);
        let info = DiskInfo {
            size: len.next_multiple_of(SECTOR),
            read_only,
            block_size,
            physical_block_size: physical,
            writeback: cache.is_writeback(),
            discard,
        };
        let file = RawFile {
            file,
            len: AtomicU64::new(len),
            discard,
            ignore_flush: cache == Cache::Unsafe,
            direct,
            rewriting: Mutex::new(()),
            mark: OnceLock::new(),
        };
        let rings = match io {
            DiskIo::Uring => Rings::new(queues, depth)
                .inspect_err(|error| {
                    tracing::info!(%error, "io_uring is not available, disk I/O will block");
                })
                .ok(),
            DiskIo::Threads => None,
        };
        Ok(Self { file: Arc::new(file), info, is_device, rings })
    }

    /// With rings that were made in advance, as far as there are any left: for a disk that comes when
    /// it cannot have rings of its own.
    #[must_use]
    pub fn with_rings(self, rings: Rings) -> Self {
        Self { rings: Some(rings), ..self }
    }

    /// `mark` hears how far it is written to.
    #[must_use]
    pub fn marked(self, mark: Arc<Watermark>) -> Self {
        // There is none yet: who makes the disk says it once.
        let _ = self.file.mark.set(mark);
        self
    }
}

impl Disk for RawDisk {
    fn info(&self) -> DiskInfo {
        DiskInfo { size: self.file.len().next_multiple_of(SECTOR), ..self.info }
    }

    fn channel(&self, depth: u16) -> io::Result<Box<dyn Channel>> {
        let rings = self.rings.as_ref();
        if let Some(channel) = rings.and_then(|it| UringChannel::new(self.file.clone(), it, depth))
        {
            return Ok(Box::new(channel));
        }
        Ok(Box::new(BlockingChannel::new(self.file.clone())))
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        if self.info.read_only {
            return Err(invalid("the disk is only read".to_owned()));
        }
        let align = self.file.alignment().offset;
        if !size.is_multiple_of(align) {
            return Err(invalid(format!(
                "{size} bytes are no multiple of {align}, as cache none needs"
            )));
        }
        let there = rustix::fs::seek(self.file.file(), SeekFrom::End(0))?;
        if there < size && self.is_device {
            let text = format!("the block device has only {there} bytes; make that larger first");
            return Err(invalid(text));
        }
        if there < size {
            rustix::fs::ftruncate(self.file.file(), size)?;
        }
        self.file.len.fetch_max(size, Ordering::AcqRel);
        Ok(())
    }

    fn image(&self) -> Option<Arc<dyn Image>> {
        // A last sector that is not whole is nothing that a backup needs.
        let storage = FileStorage::shared(self.file.file.clone()).ok()?;
        Some(Arc::new(Raw::open(Arc::new(storage), true).ok()?))
    }

    fn sync(&self) -> io::Result<()> {
        if self.info.read_only { Ok(()) } else { Ok(rustix::fs::fdatasync(self.file.file())?) }
    }
}

impl RawFile {
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Carry out what is left of an action by [`effective`](Self::effective), blocking.
    pub(super) fn carry_out(
        &self,
        action: Action,
        offset: u64,
        buffers: &mut IoBuffers,
    ) -> io::Result<()> {
        match action {
            Action::Read if self.must_bounce(action, offset, buffers) => {
                self.read_bounced(offset, buffers)
            }
            Action::Read => self.read(offset, buffers),
            Action::Write { durable } if self.must_bounce(action, offset, buffers) => {
                let len = buffers.len();
                self.write_bounced(offset, len, |piece| _ = buffers.copy_to(piece))?;
                self.sync_if(durable)
            }
            Action::Write { durable } => self.write(offset, buffers, durable),
            Action::Flush => self.sync_if(true),
            Action::Discard { len } => match self.allocate(offset, len, self.hole_mode()) {
                Err(error) if is_unsupported(&error) => Ok(()),
                other => other,
            },
            Action::Zero { len, unmap, durable } => {
                match self.allocate(offset, len, self.zero_mode(unmap)) {
                    Err(error) if is_unsupported(&error) => {
                        self.write_bounced(offset, len, |piece| piece.fill(0))?;
                    }
                    other => other?,
                }
                self.sync_if(durable)
            }
        }
    }

    fn read(&self, mut offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        while !buffers.is_empty() {
            match sys::read(&self.file, buffers, offset) {
                Ok(0) => return self.read_end(offset, buffers),
                Ok(count) => {
                    buffers.advance(count);
                    offset += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, buffers: &mut IoBuffers, durable: bool) -> io::Result<()> {
        while !buffers.is_empty() {
            match sys::write(&self.file, buffers, offset, durable) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    buffers.advance(count);
                    offset += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A read met the end of the file at `offset`: the rest of a last partial sector is zeros,
    /// but what was there when the disk was opened must not have gone.
    pub(super) fn read_end(&self, offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        if offset < self.len() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the disk's file was cut off while in use",
            ));
        }
        buffers.zero();
        Ok(())
    }

    fn sync_if(&self, durable: bool) -> io::Result<()> {
        if !durable {
            return Ok(());
        }
        loop {
            match self.file.sync_data() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn allocate(&self, offset: u64, len: u64, mode: i32) -> io::Result<()> {
        let mode = FallocateFlags::from_bits_retain(mode.unsigned_abs());
        Ok(rustix::fs::fallocate(&self.file, mode, offset, len)?)
    }

    /// A request is about to be carried out.
    pub(super) fn reach(&self, action: Action, offset: u64, buffers: &IoBuffers) {
        let len = match action {
            Action::Write { .. } => buffers.len(),
            Action::Zero { len, unmap: false, .. } => len,
            _ => return,
        };
        if let Some(mark) = self.mark.get() {
            mark.reach(offset.saturating_add(len));
        }
    }

    /// What is left of an action when flushes are ignored: `None` is done at once.
    pub(super) fn effective(&self, action: Action) -> Option<Action> {
        if !self.ignore_flush {
            return Some(action);
        }
        match action {
            Action::Flush => None,
            Action::Write { .. } => Some(Action::Write { durable: false }),
            Action::Zero { len, unmap, .. } => Some(Action::Zero { len, unmap, durable: false }),
            other => Some(other),
        }
    }

    pub(super) fn hole_mode(&self) -> i32 {
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE
    }

    pub(super) fn zero_mode(&self, unmap: bool) -> i32 {
        if unmap && self.discard {
            self.hole_mode()
        } else {
            libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE
        }
    }

    /// Whether O_DIRECT would refuse this transfer.
    pub(super) fn must_bounce(&self, action: Action, offset: u64, buffers: &IoBuffers) -> bool {
        let Some(align) = self.direct else { return false };
        matches!(action, Action::Read | Action::Write { .. })
            && !(offset.is_multiple_of(align.offset)
                && buffers.as_iovecs().iter().all(|range| {
                    (range.iov_base as u64).is_multiple_of(align.memory)
                        && (range.iov_len as u64).is_multiple_of(align.offset)
                }))
    }

    fn alignment(&self) -> Alignment {
        self.direct.unwrap_or(Alignment { memory: 1, offset: 1 })
    }

    fn read_bounced(&self, mut offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        let align = self.alignment();
        while !buffers.is_empty() {
            let span = Span::new(offset, buffers.len().min(PIECE), align.offset);
            let mut bounce = Bounce::new(span.len, align.memory);
            let filled = self.fill(bounce.bytes(), span.start)?;
            let have = filled.saturating_sub(span.skip).min(span.part);
            if have == 0 {
                return self.read_end(offset, buffers);
            }
            buffers.copy_from(&bounce.bytes()[span.skip..span.skip + have]);
            offset += have as u64;
        }
        Ok(())
    }

    /// Write `len` bytes that `source` gives, piece by piece, rewriting host blocks that are only
    /// touched in part.
    fn write_bounced(
        &self,
        mut offset: u64,
        len: u64,
        mut source: impl FnMut(&mut [u8]),
    ) -> io::Result<()> {
        let align = self.alignment();
        let end = offset + len;
        let _rewriting = self.rewriting.hold();
        while offset < end {
            let span = Span::new(offset, (end - offset).min(PIECE), align.offset);
            let mut bounce = Bounce::new(span.len, align.memory);
            if span.part < span.len {
                self.fill(bounce.bytes(), span.start)?;
            }
            source(&mut bounce.bytes()[span.skip..span.skip + span.part]);
            self.write_blocks(bounce.bytes(), span.start)?;
            offset += span.part as u64;
        }
        Ok(())
    }

    /// Write all of `data`, whole host blocks.
    fn write_blocks(&self, mut data: &[u8], mut start: u64) -> io::Result<()> {
        while !data.is_empty() {
            let flags = ReadWriteFlags::empty();
            match rustix::io::pwritev2(&self.file, &[IoSlice::new(data)], start, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    data = &data[count..];
                    start += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Read into `data` until it is full or the file ends; bytes read. The rest stays zero.
    fn fill(&self, data: &mut [u8], start: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let rest = &mut [IoSliceMut::new(&mut data[done..])];
            match rustix::io::preadv(&self.file, rest, start + done as u64) {
                Ok(0) => break,
                Ok(count) => {
                    done += count;
                    // A direct read can only go on at a whole block: this was the end.
                    if !(done as u64).is_multiple_of(self.alignment().offset) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }
}

impl Blocking for RawFile {
    fn run(&self, action: Action, offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        self.reach(action, offset, buffers);
        match self.effective(action) {
            Some(action) => self.carry_out(action, offset, buffers),
            None => Ok(()),
        }
    }
}

/// Switch the file to direct I/O and find what that demands.
fn make_direct(file: &File) -> io::Result<Alignment> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).map_err(|error| {
        invalid(format!(
            "the disk's file system has no direct I/O (cache none or directsync): {error}"
        ))
    })?;
    let told = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .ok()
        .filter(|stat| stat.stx_dio_offset_align > 0 && stat.stx_dio_mem_align > 0);
    Ok(match told {
        Some(stat) => Alignment {
            memory: stat.stx_dio_mem_align.into(),
            offset: stat.stx_dio_offset_align.into(),
        },
        None => {
            // Kernels before 6.1 do not say; a page satisfies every file system.
            let block = rustix::fs::ioctl_blksszget(file).map_or(4096, u64::from);
            Alignment { memory: block, offset: block }
        }
    })
}

fn host_block_size(file: &File, is_device: bool) -> u32 {
    if !is_device {
        // What file systems allocate by.
        return 4096;
    }
    rustix::fs::ioctl_blkpbszget(file).unwrap_or(512)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}
