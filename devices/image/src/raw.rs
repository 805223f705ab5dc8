//! [`Raw`]: an image whose bytes are the disk's.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::storage::Storage;
use crate::view::{Extent, ExtentKind, Image, check_range, read_only};

pub struct Raw {
    file: Arc<dyn Storage>,
    size: AtomicU64,
    read_only: bool,
}

impl Raw {
    /// # Errors
    /// When the file's size cannot be found.
    pub fn open(file: Arc<dyn Storage>, read_only: bool) -> io::Result<Self> {
        let size = AtomicU64::new(file.size()?);
        Ok(Self { file, size, read_only })
    }

    /// # Errors
    /// When the host refuses, or the image is not open for writing.
    pub fn resize(&self, size: u64) -> io::Result<()> {
        self.writable()?;
        self.file.set_len(size)?;
        self.size.store(size, Ordering::Release);
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.read_only { Err(read_only()) } else { Ok(()) }
    }
}

impl Image for Raw {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size())?;
        if self.file.read(data, offset)? < data.len() {
            let text = "the disk's file was cut off while in use";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.writable()?;
        check_range(offset, data.len() as u64, self.size())?;
        self.file.write(data, offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.writable()?;
        check_range(offset, len, self.size())?;
        self.file.write_zeroes(offset, len, unmap)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable()?;
        check_range(offset, len, self.size())?;
        self.file.discard(offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.resize(size.max(self.size()))
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size())?;
        let (data, run) = self.file.data_run(offset, len)?;
        let run = run.min(len);
        Ok(if data {
            Extent { len: run, kind: ExtentKind::Data, depth: 0, offset: Some(offset) }
        } else {
            Extent::hole(run)
        })
    }
}
