//! [`Blocks`]: what VDI, VHD, VHDX and VMDK have in common. Guest blocks lie anywhere in the file, new
//! ones at its end; a table says where; nothing ever moves.
//!
//! Table entries are kept in memory and written at a flush, after the blocks that they lead to are
//! durable. A crash before that loses what was not flushed, and space at the end of the file.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::Storage;
use crate::view::{Extent, ExtentKind, Image, check_range, read_only};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Hole,
    Zero,
    /// Offset in the file.
    Data(u64),
    /// Offset of something that has to be unpacked.
    Packed(u64),
}

/// How a format finds blocks and makes new ones.
pub(crate) trait Layout: Send {
    fn find(&mut self, file: &dyn Storage, index: u64) -> io::Result<Place>;

    /// A place for the data of a new block; around it, what the format wants there is written.
    fn append(&mut self, file: &dyn Storage, index: u64) -> io::Result<u64>;

    /// The block's data is there now.
    fn link(&mut self, file: &dyn Storage, index: u64, host: u64) -> io::Result<()>;

    fn is_dirty(&self) -> bool;

    /// Write the entries that have changed.
    fn write_back(&mut self, file: &dyn Storage) -> io::Result<()>;

    /// The whole block at `offset`.
    fn unpack(&mut self, _file: &dyn Storage, _offset: u64, _out: &mut [u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

pub(crate) struct Blocks<L: Layout> {
    file: Arc<dyn Storage>,
    layout: Mutex<L>,
    block: u64,
    size: u64,
    read_only: bool,
    /// The block that was unpacked last.
    unpacked: Mutex<Option<(u64, Vec<u8>)>>,
}

impl<L: Layout> Blocks<L> {
    pub(crate) fn new(
        file: Arc<dyn Storage>,
        layout: L,
        block: u64,
        size: u64,
        read_only: bool,
    ) -> Self {
        let unpacked = Mutex::new(None);
        Self { file, layout: Mutex::new(layout), block, size, read_only, unpacked }
    }

    fn layout(&self) -> MutexGuard<'_, L> {
        self.layout.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes from `offset` on that lie in one block, of at most `len`.
    fn part(&self, offset: u64, len: u64) -> u64 {
        len.min(self.block - offset % self.block)
    }

    fn writable(&self, offset: u64, len: u64) -> io::Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        check_range(offset, len, self.size)
    }

    fn find(&self, offset: u64) -> io::Result<Place> {
        self.layout().find(&*self.file, offset / self.block)
    }

    fn read_packed(&self, place: u64, skip: usize, out: &mut [u8]) -> io::Result<()> {
        let mut last = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.as_ref().is_some_and(|(known, _)| *known == place);
        if !known {
            let mut block = last.take().map(|(_, block)| block).unwrap_or_default();
            block.resize(self.block as usize, 0);
            self.layout().unpack(&*self.file, place, &mut block)?;
            *last = Some((place, block));
        }
        if let Some(part) = last.as_ref().and_then(|(_, block)| block.get(skip..skip + out.len())) {
            out.copy_from_slice(part);
        }
        Ok(())
    }

    /// Write into a block that is not there yet, or there in another way.
    fn write_new(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let (index, skip) = (offset / self.block, (offset % self.block) as usize);
        let mut layout = self.layout();
        let file = &*self.file;
        match layout.find(file, index)? {
            // Somebody else was faster.
            Place::Data(host) => {
                drop(layout);
                return file.write(data, host + skip as u64);
            }
            Place::Packed(_) => return Err(io::ErrorKind::Unsupported.into()),
            Place::Hole | Place::Zero => {}
        }
        let host = layout.append(file, index)?;
        file.write_zeroes(host, self.block, false)?;
        file.write(data, host + skip as u64)?;
        layout.link(file, index, host)
    }

    /// Call `act` with each part of the range that has data, and its place.
    fn each_data(
        &self,
        offset: u64,
        len: u64,
        act: impl Fn(u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let part = self.part(at, end - at);
            if let Place::Data(host) = self.find(at)? {
                act(host + at % self.block, part)?;
            }
            at += part;
        }
        Ok(())
    }
}

impl<L: Layout> Image for Blocks<L> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.size)?;
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            let part = self.part(offset, data.len() as u64) as usize;
            let (now, rest) = data.split_at_mut(part);
            let skip = offset % self.block;
            match self.find(offset)? {
                Place::Hole | Place::Zero => now.fill(0),
                Place::Packed(place) => self.read_packed(place, skip as usize, now)?,
                Place::Data(host) => {
                    if self.file.read(now, host + skip)? == 0 {
                        let text = "the image's file was cut off: data of it lies beyond its end";
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                    }
                }
            }
            data = rest;
            offset += part as u64;
        }
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.writable(offset, data.len() as u64)?;
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            let (now, rest) = data.split_at(self.part(offset, data.len() as u64) as usize);
            match self.find(offset)? {
                Place::Data(host) => self.file.write(now, host + offset % self.block)?,
                _ => self.write_new(now, offset)?,
            }
            offset += now.len() as u64;
            data = rest;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.writable(offset, len)?;
        self.each_data(offset, len, |host, len| self.file.write_zeroes(host, len, unmap))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.writable(offset, len)?;
        self.each_data(offset, len, |host, len| self.file.discard(host, len))
    }

    fn flush(&self) -> io::Result<()> {
        let mut layout = self.layout();
        if self.read_only || !layout.is_dirty() {
            drop(layout);
            return self.file.sync();
        }
        self.file.sync()?;
        layout.write_back(&*self.file)?;
        self.file.sync()
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.size)?;
        let extent = |len, kind, offset| Extent { len, kind, depth: 0, offset };
        let part = self.part(offset, len);
        Ok(match self.find(offset)? {
            Place::Hole => Extent::hole(part),
            Place::Zero => extent(part, ExtentKind::Zero, None),
            Place::Packed(_) => extent(part, ExtentKind::Compressed, None),
            Place::Data(host) => {
                let host = host + offset % self.block;
                // The file may have holes of its own in a block.
                let (data, run) = self.file.data_run(host, part)?;
                match data {
                    true => extent(run, ExtentKind::Data, Some(host)),
                    false => extent(run, ExtentKind::Zero, None),
                }
            }
        })
    }
}

impl<L: Layout> Drop for Blocks<L> {
    fn drop(&mut self) {
        if !self.read_only
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "an image could not be flushed when it was closed");
        }
    }
}
