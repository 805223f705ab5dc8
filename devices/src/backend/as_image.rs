//! [`DiskAsImage`]: a disk without an image of its own, as one for those beside the guest, who may block.

use std::io;
use std::sync::{Arc, Mutex};

use image::{Extent, ExtentKind, Image};
use memory::{Backing, GuestRam, IoBuffers};

use super::disk::{Action, Channel, Disk, Request};
use crate::sync::Lock;

/// Bytes that are moved at a time.
const ROOM: u64 = 1 << 20;
/// Zeros and discards are asked for in parts that every server takes.
const LONGEST_RANGE: u64 = 1 << 30;

pub struct DiskAsImage {
    disk: Arc<dyn Disk>,
    way: Mutex<Way>,
}

/// One request at a time.
struct Way {
    channel: Box<dyn Channel>,
    /// Data is here while it is on its way: memory like the guest's, but nobody's.
    scratch: GuestRam,
}

impl DiskAsImage {
    /// Another user of `disk`.
    ///
    /// # Errors
    /// What the host refused, or the disk has as many users as it can have.
    pub fn new(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let channel = disk.channel(1)?;
        let scratch = GuestRam::new(&[(0, ROOM)], &Backing::Anonymous).map_err(io::Error::other)?;
        Ok(Self { disk, way: Mutex::new(Way { channel, scratch }) })
    }

    fn ranges(&self, offset: u64, len: u64, action: impl Fn(u64) -> Action) -> io::Result<()> {
        let (mut at, end) = (offset, end_of(offset, len)?);
        while at < end {
            let part = (end - at).min(LONGEST_RANGE);
            self.way.hold().carry_out(action(part), at, 0)?;
            at += part;
        }
        Ok(())
    }
}

impl Way {
    /// With the first `len` bytes of the scratch memory.
    fn carry_out(&mut self, action: Action, offset: u64, len: u64) -> io::Result<()> {
        let mut buffers = IoBuffers::new(self.scratch.clone());
        if len > 0 {
            buffers.push(0, len).map_err(io::Error::other)?;
        }
        self.channel.start(0, Request { action, offset, buffers });
        loop {
            self.channel.submit();
            if let Some(finished) = self.channel.finished() {
                return finished.result;
            }
            self.channel.wait();
        }
    }
}

fn end_of(offset: u64, len: u64) -> io::Result<u64> {
    offset.checked_add(len).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl Image for DiskAsImage {
    fn size(&self) -> u64 {
        self.disk.info().size
    }

    fn read_only(&self) -> bool {
        self.disk.info().read_only
    }

    fn read(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        end_of(offset, data.len() as u64)?;
        let mut at = offset;
        for part in data.chunks_mut(ROOM as usize) {
            let mut way = self.way.hold();
            way.carry_out(Action::Read, at, part.len() as u64)?;
            way.scratch.read_slice(0, part).map_err(io::Error::other)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        end_of(offset, data.len() as u64)?;
        let mut at = offset;
        for part in data.chunks(ROOM as usize) {
            let mut way = self.way.hold();
            way.scratch.write_slice(0, part).map_err(io::Error::other)?;
            way.carry_out(Action::Write { durable: false }, at, part.len() as u64)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.ranges(offset, len, |len| Action::Zero { len, unmap, durable: false })
    }

    fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.ranges(offset, len, |len| Action::Discard { len })
    }

    fn flush(&self) -> io::Result<()> {
        self.way.hold().carry_out(Action::Flush, 0, 0)
    }

    /// Nobody is asked what there is.
    fn map(&self, _offset: u64, len: u64) -> io::Result<Extent> {
        Ok(Extent { len, kind: ExtentKind::Data, depth: 0, offset: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cache, DiskIo, DiskSpec, RawDisk};

    #[test]
    fn what_is_written_beside_the_guest_is_on_the_disk() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4 * ROOM).unwrap();
        let spec = DiskSpec {
            file: Arc::new(file),
            read_only: false,
            cache: Cache::Writeback,
            discard: true,
            block_size: 512,
            io: DiskIo::Threads,
            queues: 0,
            depth: 0,
        };
        let image = DiskAsImage::new(Arc::new(RawDisk::new(spec).unwrap())).unwrap();
        assert_eq!((image.size(), image.read_only()), (4 * ROOM, false));
        // More than is moved at a time.
        let data: Vec<u8> = (0..2 * ROOM + 512).map(|n| (n % 251) as u8).collect();
        image.write(&data, 512).unwrap();
        image.write_zeroes(1024, 512, true).unwrap();
        image.flush().unwrap();
        let mut found = vec![0xff; data.len() + 512];
        image.read(&mut found, 0).unwrap();
        assert_eq!((&found[..512], &found[512..1024]), (&[0; 512][..], &data[..512]));
        assert_eq!((&found[1024..1536], &found[1536..]), (&[0; 512][..], &data[1024..]));
        assert!(image.read(&mut found, u64::MAX).is_err());
    }
}
