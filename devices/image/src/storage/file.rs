//! [`FileStorage`]: a file or block device of the host, with or without its page cache.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use rustix::fs::{AtFlags, FallocateFlags, FileType, OFlags, SeekFrom, StatxFlags};
use rustix::io::{Errno, ReadWriteFlags};

use super::{Storage, Watermark};

/// Zeros are written, and transfers go through a bounce buffer, this many bytes at a time.
const PIECE: u64 = 1 << 20;

#[derive(Debug)]
pub struct FileStorage {
    file: Arc<File>,
    is_device: bool,
    direct: Option<Alignment>,
    /// Of direct I/O: held alone while part of a host block is rewritten, which would undo another
    /// write to the rest of it meanwhile.
    rewriting: RwLock<()>,
    mark: OnceLock<Arc<Watermark>>,
}

/// What O_DIRECT asks for: of addresses, and of offsets and lengths.
#[derive(Debug, Clone, Copy)]
struct Alignment {
    memory: usize,
    offset: u64,
}

impl FileStorage {
    /// With or without the page cache, as the file was opened.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn new(file: File) -> io::Result<Self> {
        Self::shared(Arc::new(file))
    }

    /// Of a file that somebody else uses as well.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn shared(file: Arc<File>) -> io::Result<Self> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&*file)?.st_mode);
        let direct = rustix::fs::fcntl_getfl(&*file)?.contains(OFlags::DIRECT);
        Ok(Self {
            is_device: kind == FileType::BlockDevice,
            direct: direct.then(|| alignment(&file)),
            file,
            rewriting: RwLock::new(()),
            mark: OnceLock::new(),
        })
    }

    /// `mark` hears how far it is written to.
    #[must_use]
    pub fn marked(self, mark: Arc<Watermark>) -> Self {
        Self { mark: OnceLock::from(mark), ..self }
    }

    #[must_use]
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    fn must_bounce(&self, address: *const u8, offset: u64, len: usize) -> Option<Alignment> {
        self.direct.filter(|align| {
            !(address.addr().is_multiple_of(align.memory)
                && offset.is_multiple_of(align.offset)
                && (len as u64).is_multiple_of(align.offset))
        })
    }

    /// Read until `data` is full or the file ends; bytes read.
    fn fill(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < data.len() {
            let rest = &mut [IoSliceMut::new(&mut data[done..])];
            match rustix::io::preadv(&self.file, rest, offset + done as u64) {
                Ok(0) => break,
                Ok(count) => {
                    done += count;
                    // A direct read can only go on at a whole block: this was the end.
                    let align = self.direct.map_or(1, |align| align.offset);
                    if !(done as u64).is_multiple_of(align) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(done)
    }

    fn write_all(&self, mut data: &[u8], mut offset: u64) -> io::Result<()> {
        while !data.is_empty() {
            let flags = ReadWriteFlags::empty();
            match rustix::io::pwritev2(&self.file, &[IoSlice::new(data)], offset, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    data = &data[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_bounced(&self, data: &mut [u8], offset: u64, align: Alignment) -> io::Result<usize> {
        let (mut done, mut there) = (0, 0);
        while done < data.len() {
            let part = (data.len() - done).min(PIECE as usize);
            let span = Span::new(offset + done as u64, part, align.offset);
            let mut bounce = Bounce::new(span.len, align.memory);
            there += self.fill(bounce.bytes(), span.start)?.saturating_sub(span.skip).min(part);
            data[done..done + part].copy_from_slice(&bounce.bytes()[span.skip..span.skip + part]);
            done += part;
        }
        Ok(there)
    }

    fn write_bounced(&self, data: &[u8], offset: u64, align: Alignment) -> io::Result<()> {
        let _rewriting = self.rewriting.write().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < data.len() {
            let part = (data.len() - done).min(PIECE as usize);
            let span = Span::new(offset + done as u64, part, align.offset);
            let mut bounce = Bounce::new(span.len, align.memory);
            if part < span.len {
                self.fill(bounce.bytes(), span.start)?;
            }
            bounce.bytes()[span.skip..span.skip + part].copy_from_slice(&data[done..done + part]);
            self.write_all(bounce.bytes(), span.start)?;
            done += part;
        }
        Ok(())
    }

    fn allocate(&self, mode: FallocateFlags, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.file, mode, offset, len)?)
    }
}

impl Storage for FileStorage {
    fn size(&self) -> io::Result<u64> {
        // Also of a device. The position is nobody's: all I/O says where.
        Ok(rustix::fs::seek(&self.file, SeekFrom::End(0))?)
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(align) = self.must_bounce(data.as_ptr(), offset, data.len()) {
            return self.read_bounced(data, offset, align);
        }
        let done = self.fill(data, offset)?;
        data[done..].fill(0);
        Ok(done)
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if let Some(mark) = self.mark.get() {
            mark.reach(offset.saturating_add(data.len() as u64));
        }
        match self.must_bounce(data.as_ptr(), offset, data.len()) {
            Some(align) => self.write_bounced(data, offset, align),
            None if self.direct.is_some() => {
                let _writing = self.rewriting.read().unwrap_or_else(PoisonError::into_inner);
                self.write_all(data, offset)
            }
            None => self.write_all(data, offset),
        }
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let have = self.size()?;
        let end = offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let tried = if offset >= have && !self.is_device {
            // New bytes of a file are zeros: the last ones are written, and those before are a hole.
            let last = len.min(512);
            self.write(&[0; 512][..last as usize], end - last)
        } else if unmap && end <= have {
            self.allocate(hole, offset, len)
        } else {
            self.allocate(FallocateFlags::ZERO_RANGE, offset, len)
        };
        match tried {
            Err(error) if is_unsupported(&error) => {
                let zeros = Bounce::new(len.min(PIECE) as usize, 4096);
                let mut at = offset;
                while at < end {
                    let part = (end - at).min(PIECE) as usize;
                    self.write(&zeros.as_bytes()[..part], at)?;
                    at += part as u64;
                }
                Ok(())
            }
            other => other,
        }
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match self.allocate(hole, offset, len) {
            Err(error) if is_unsupported(&error) => Ok(()),
            other => other,
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if self.is_device {
            let have = self.size()?;
            return if len <= have { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) };
        }
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        loop {
            match self.file.sync_data() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn data_run(&self, offset: u64, len: u64) -> io::Result<(bool, u64)> {
        let seek = |to| rustix::fs::seek(&self.file, to);
        let whole = |at: u64| at.saturating_sub(offset).clamp(1, len.max(1));
        match seek(SeekFrom::Data(offset)) {
            Ok(data) if data > offset => Ok((false, whole(data))),
            Ok(_) => Ok((true, seek(SeekFrom::Hole(offset)).map_or(len, whole))),
            Err(Errno::NXIO) => Ok((false, len)),
            // A device, or a file system that cannot tell.
            Err(_) => Ok((true, len)),
        }
    }

    fn allocated(&self) -> io::Result<u64> {
        if self.is_device {
            return self.size();
        }
        Ok(rustix::fs::fstat(&self.file)?.st_blocks.unsigned_abs().saturating_mul(512))
    }
}

fn alignment(file: &File) -> Alignment {
    let told = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        .ok()
        .filter(|stat| stat.stx_dio_offset_align > 0 && stat.stx_dio_mem_align > 0);
    match told {
        Some(stat) => Alignment {
            memory: stat.stx_dio_mem_align as usize,
            offset: stat.stx_dio_offset_align.into(),
        },
        None => {
            // Kernels before 6.1 do not say; a page satisfies every file system.
            let block = rustix::fs::ioctl_blksszget(file).unwrap_or(4096);
            Alignment { memory: block as usize, offset: block.into() }
        }
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    let unsupported = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::NODEV];
    unsupported.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// The host blocks around one piece of a transfer.
struct Span {
    start: u64,
    len: usize,
    /// Bytes before the piece.
    skip: usize,
}

impl Span {
    fn new(offset: u64, part: usize, align: u64) -> Self {
        let start = offset - offset % align;
        let len = (offset + part as u64).next_multiple_of(align) - start;
        // A piece is bounded, so both are small.
        Self { start, len: len as usize, skip: (offset - start) as usize }
    }
}

/// Zeroed memory with the alignment that O_DIRECT wants.
struct Bounce {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    fn new(len: usize, align: usize) -> Self {
        let memory = vec![0; len + align];
        let start = memory.as_ptr().align_offset(align).min(align);
        Self { memory, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }

    fn as_bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}
