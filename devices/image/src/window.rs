//! Disks that lie in a file as they are: [`Window`], a part of it, and [`Joined`], several in a row.

use std::io;
use std::sync::Arc;

use crate::storage::Storage;
use crate::view::{Extent, ExtentKind, Image, check_range, read_only};

/// `len` bytes of a file from `start` on; without a file, zeros.
pub(crate) struct Window {
    pub(crate) file: Option<Arc<dyn Storage>>,
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) read_only: bool,
}

impl Window {
    /// The file to write to, for a range inside the window.
    fn target(&self, offset: u64, len: u64) -> io::Result<&dyn Storage> {
        check_range(offset, len, self.len)?;
        match &self.file {
            Some(file) if !self.read_only => Ok(&**file),
            _ => Err(read_only()),
        }
    }
}

impl Image for Window {
    fn size(&self) -> u64 {
        self.len
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        check_range(offset, data.len() as u64, self.len)?;
        let Some(file) = &self.file else {
            data.fill(0);
            return Ok(());
        };
        if file.read(data, self.start + offset)? < data.len() {
            let text = "the image's file was cut off: data of it lies beyond its end";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.target(offset, data.len() as u64)?.write(data, self.start + offset)
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.target(offset, len)?.write_zeroes(self.start + offset, len, unmap)
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.target(offset, len)?.discard(self.start + offset, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.sync())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        check_range(offset, len, self.len)?;
        let Some(file) = &self.file else { return Ok(Extent::hole(len)) };
        let host = self.start + offset;
        let (data, run) = file.data_run(host, len)?;
        Ok(match data {
            true => Extent { len: run, kind: ExtentKind::Data, depth: 0, offset: Some(host) },
            false => Extent::hole(run),
        })
    }
}

/// Disks one behind the other.
pub(crate) struct Joined {
    /// Each with the offset of its end.
    parts: Vec<(u64, Box<dyn Image>)>,
    read_only: bool,
}

impl Joined {
    pub(crate) fn new(parts: Vec<Box<dyn Image>>, read_only: bool) -> Self {
        let mut end = 0_u64;
        let ends = parts.into_iter().map(|part| {
            end = end.saturating_add(part.size());
            (end, part)
        });
        Self { parts: ends.collect(), read_only }
    }

    /// Call `act` with each disk that the range touches, the offset in it and the bytes there.
    fn each(
        &self,
        offset: u64,
        len: u64,
        mut act: impl FnMut(&dyn Image, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        check_range(offset, len, self.size())?;
        let (mut at, end) = (offset, offset + len);
        let first = self.parts.partition_point(|(end, _)| *end <= offset);
        for (part_end, part) in self.parts.iter().skip(first) {
            if at >= end {
                break;
            }
            let len = end.min(*part_end) - at;
            act(&**part, at - (part_end - part.size()), len)?;
            at += len;
        }
        Ok(())
    }
}

impl Image for Joined {
    fn size(&self) -> u64 {
        self.parts.last().map_or(0, |(end, _)| *end)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let mut rest = data;
        let len = rest.len() as u64;
        self.each(offset, len, |part, at, len| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(len as usize);
            rest = later;
            part.read(now, at)
        })
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut rest = data;
        self.each(offset, data.len() as u64, |part, at, len| {
            let (now, later) = rest.split_at(len as usize);
            rest = later;
            part.write(now, at)
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.each(offset, len, |part, at, len| part.write_zeroes(at, len, unmap))
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.each(offset, len, |part, at, len| part.discard(at, len))
    }

    fn flush(&self) -> io::Result<()> {
        self.parts.iter().try_for_each(|(_, part)| part.flush())
    }

    fn map(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let mut found = None;
        self.each(offset, len, |part, at, len| {
            if found.is_none() {
                found = Some(part.map(at, len)?);
            }
            Ok(())
        })?;
        Ok(found.unwrap_or(Extent::hole(0)))
    }
}
