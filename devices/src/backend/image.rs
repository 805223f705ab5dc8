//! [`ImageDisk`]: an image in a format of its own, with whatever lies below it, as a disk.

use std::io;
use std::sync::Arc;

use image::Image;
use memory::IoBuffers;

use super::blocking::{Blocking, BlockingChannel};
use super::disk::{Action, Cache, Channel, Disk, DiskInfo};
use super::pool::Pool;
use super::raw::Bounce;

const SECTOR: u64 = 512;
/// Bytes that move at a time.
const PIECE: u64 = 1 << 20;
/// What O_DIRECT may want of memory.
const ALIGN: u64 = 4096;

/// How an image is used.
#[derive(Debug, Clone, Copy)]
pub struct ImageSpec {
    pub cache: Cache,
    /// Discarded ranges are given up in the image.
    pub discard: bool,
    /// The guest's logical block size.
    pub block_size: u32,
}

/// Requests are carried out on the queue's io thread, several of them on threads of the disk's own.
pub struct ImageDisk {
    pool: Option<Arc<Pool>>,
    shared: Arc<Shared>,
    /// All but the size, which may grow.
    info: DiskInfo,
}

struct Shared {
    image: Arc<dyn Image>,
    discard: bool,
    ignore_flush: bool,
}

impl ImageDisk {
    /// # Errors
    /// When the block size is impossible.
    pub fn new(image: Arc<dyn Image>, spec: ImageSpec) -> io::Result<Self> {
        let ImageSpec { cache, discard, block_size } = spec;
        if !block_size.is_power_of_two() || !(512..=1 << 16).contains(&block_size) {
            let text = format!("disk block size {block_size} is not possible");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let info = DiskInfo {
            size: 0,
            read_only: image.read_only(),
            block_size,
            physical_block_size: block_size.max(4096),
            writeback: cache.is_writeback(),
            discard,
        };
        let ignore_flush = cache == Cache::Unsafe;
        let shared = Shared { image, discard, ignore_flush };
        Ok(Self { pool: None, shared: Arc::new(shared), info })
    }
}

impl ImageDisk {
    /// With threads for requests that come together.
    #[must_use]
    pub fn with_threads(mut self, pool: Option<Arc<Pool>>) -> Self {
        self.pool = pool;
        self
    }
}

impl Disk for ImageDisk {
    fn info(&self) -> DiskInfo {
        // Whole sectors.
        DiskInfo { size: self.shared.image.size().next_multiple_of(SECTOR), ..self.info }
    }

    fn channel(&self, _depth: u16) -> io::Result<Box<dyn Channel>> {
        Ok(match self.pool.as_ref().and_then(|pool| pool.channel(self.shared.clone())) {
            Some(channel) => Box::new(channel),
            None => Box::new(BlockingChannel::new(self.shared.clone())),
        })
    }

    fn grow(&self, size: u64) -> io::Result<()> {
        self.shared.image.grow(size)
    }

    fn image(&self) -> Option<Arc<dyn Image>> {
        Some(self.shared.image.clone())
    }

    fn sync(&self) -> io::Result<()> {
        if self.info.read_only { Ok(()) } else { self.shared.image.flush() }
    }
}

impl Shared {
    /// The part of a piece that the image has: its last sector may not be whole.
    fn have(&self, offset: u64, len: u64) -> u64 {
        len.min(self.image.size().saturating_sub(offset))
    }

    fn read(&self, mut offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        let mut bounce = Bounce::new(buffers.len().min(PIECE) as usize, ALIGN);
        while !buffers.is_empty() {
            let part = buffers.len().min(PIECE);
            let have = self.have(offset, part) as usize;
            let piece = &mut bounce.bytes()[..part as usize];
            let (there, beyond) = piece.split_at_mut(have);
            self.image.read(there, offset)?;
            beyond.fill(0);
            buffers.copy_from(piece);
            offset += part;
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        let mut bounce = Bounce::new(buffers.len().min(PIECE) as usize, ALIGN);
        while !buffers.is_empty() {
            let part = buffers.len().min(PIECE);
            let piece = &mut bounce.bytes()[..part as usize];
            // Copied once: the guest may write to it meanwhile.
            buffers.copy_to(piece);
            let have = self.have(offset, part) as usize;
            self.image.write(&piece[..have], offset)?;
            offset += part;
        }
        Ok(())
    }

    fn flush_if(&self, wanted: bool) -> io::Result<()> {
        if wanted && !self.ignore_flush { self.image.flush() } else { Ok(()) }
    }
}

impl Blocking for Shared {
    fn run(&self, action: Action, offset: u64, buffers: &mut IoBuffers) -> io::Result<()> {
        match action {
            Action::Read => self.read(offset, buffers),
            Action::Write { durable } => {
                self.write(offset, buffers)?;
                self.flush_if(durable)
            }
            Action::Flush => self.flush_if(true),
            Action::Discard { len } if self.discard => {
                self.image.discard(offset, self.have(offset, len))
            }
            Action::Discard { .. } => Ok(()),
            Action::Zero { len, unmap, durable } => {
                let unmap = unmap && self.discard;
                self.image.write_zeroes(offset, self.have(offset, len), unmap)?;
                self.flush_if(durable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use image::qcow2::{CreateOptions, OpenOptions, Qcow2, create};
    use image::{MemoryStorage, Storage as _};
    use memory::{Backing, GuestRam};

    use super::*;
    use crate::backend::Request;

    const SIZE: u64 = 1 << 20;

    struct Rig {
        file: Arc<MemoryStorage>,
        ram: GuestRam,
        disk: ImageDisk,
    }

    impl Rig {
        fn new(cache: Cache) -> Self {
            let file = Arc::new(MemoryStorage::default());
            create(&*file, &CreateOptions::new(SIZE)).unwrap();
            let image = Qcow2::open(file.clone(), OpenOptions::default()).unwrap();
            let spec = ImageSpec { cache, discard: true, block_size: 512 };
            let disk = ImageDisk::new(Arc::new(image), spec).unwrap();
            let ram = GuestRam::new(&[(0, 8 << 20)], &Backing::Anonymous).unwrap();
            Self { file, ram, disk }
        }

        fn run(&self, action: Action, offset: u64, ranges: &[(u64, u64)]) -> io::Result<()> {
            let mut channel = self.disk.channel(8).unwrap();
            let buffers = self.ram.buffers(ranges.iter().copied()).unwrap();
            channel.start(3, Request { action, offset, buffers });
            channel.submit();
            channel.finished().unwrap().result
        }

        /// What somebody else sees who opens the file now.
        fn durable(&self, offset: u64, len: usize) -> Vec<u8> {
            let file = Arc::new(MemoryStorage::new(self.file.bytes()));
            let options = OpenOptions { read_only: true, ..OpenOptions::default() };
            let mut data = vec![0; len];
            Qcow2::open(file, options).unwrap().read(&mut data, offset).unwrap();
            data
        }
    }

    #[test]
    fn requests_scatter_over_guest_ranges() {
        let rig = Rig::new(Cache::Writeback);
        rig.ram.write_slice(0x1000, &[7; 3000]).unwrap();
        let write = Action::Write { durable: false };
        rig.run(write, 65536 - 1024, &[(0x1000, 1000), (0x1400, 1048)]).unwrap();
        rig.run(Action::Read, 65536 - 2048, &[(0x9000, 1024), (0xa000, 2560)]).unwrap();
        let mut back = [1; 2560];
        rig.ram.read_slice(0xa000, &mut back).unwrap();
        assert!(back[..2048].iter().all(|byte| *byte == 7));
        assert!(back[2048..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_must_be_durable_is_in_the_file_when_it_completes() {
        let rig = Rig::new(Cache::Writethrough);
        rig.ram.write_slice(0, &[9; 512]).unwrap();
        rig.run(Action::Write { durable: true }, 4096, &[(0, 512)]).unwrap();
        assert_eq!(rig.durable(4096, 512), [9; 512]);
        rig.run(Action::Zero { len: 65536, unmap: true, durable: true }, 0, &[]).unwrap();
        assert_eq!(rig.durable(4096, 512), [0; 512]);
        let rig = Rig::new(Cache::Writeback);
        rig.ram.write_slice(0, &[9; 512]).unwrap();
        rig.run(Action::Write { durable: false }, 4096, &[(0, 512)]).unwrap();
        rig.run(Action::Flush, 0, &[]).unwrap();
        assert_eq!(rig.durable(4096, 512), [9; 512]);
    }

    /// What the guest never flushed is part of its disk when its state is saved.
    #[test]
    fn what_was_written_is_in_the_file_once_it_is_synced() {
        for cache in [Cache::Writeback, Cache::Unsafe] {
            let rig = Rig::new(cache);
            rig.ram.write_slice(0, &[9; 512]).unwrap();
            rig.run(Action::Write { durable: false }, 4096, &[(0, 512)]).unwrap();
            assert_eq!(rig.durable(4096, 512), [0; 512]);
            rig.disk.sync().unwrap();
            assert_eq!(rig.durable(4096, 512), [9; 512], "{cache:?}");
        }
    }

    #[test]
    fn discarded_clusters_are_given_up() {
        let rig = Rig::new(Cache::Writeback);
        rig.run(Action::Write { durable: true }, 0, &[(0, 65536)]).unwrap();
        rig.run(Action::Discard { len: 65536 }, 0, &[]).unwrap();
        rig.run(Action::Flush, 0, &[]).unwrap();
        let report = image::qcow2::check(&*rig.file, image::qcow2::Repair::Nothing).unwrap();
        assert_eq!((report.allocated_clusters, report.leaks), (0, 0));
        assert!(rig.file.size().unwrap() > 0);
    }

    #[test]
    fn an_image_grows_while_it_is_used() {
        let rig = Rig::new(Cache::Writeback);
        rig.disk.grow(2 * SIZE).unwrap();
        assert_eq!(rig.disk.info().size, 2 * SIZE);
        rig.ram.write_slice(0, &[9; 512]).unwrap();
        rig.run(Action::Write { durable: true }, 2 * SIZE - 512, &[(0, 512)]).unwrap();
        assert_eq!(rig.durable(2 * SIZE - 512, 512), [9; 512]);
        assert!(rig.disk.grow(SIZE).is_err(), "a qcow2 image does not shrink");
    }

    /// Each request on clusters of its own, in the same tables.
    #[test]
    fn requests_that_come_together_do_not_mix_up_what_they_write() {
        const CLUSTER: u64 = 65536;
        let Rig { file, ram, disk } = Rig::new(Cache::Writeback);
        let pool = Pool::new("image", 4, 1, || Ok(())).unwrap();
        let disk = disk.with_threads(Some(Arc::new(pool)));
        let mut channel = disk.channel(32).unwrap();
        let mut all = |action: Action| {
            for token in 0..16_u16 {
                let n = u64::from(token);
                let buffers = ram.buffers([(n * CLUSTER, CLUSTER)]).unwrap();
                channel.start(token, Request { action, offset: n * CLUSTER, buffers });
            }
            channel.submit();
            let mut ended = 0;
            while ended < 16 {
                channel.wait();
                while let Some(finished) = channel.finished() {
                    finished.result.unwrap();
                    ended += 1;
                }
            }
        };
        for n in 0..16 {
            ram.write_slice(n * CLUSTER, &vec![n as u8 + 1; CLUSTER as usize]).unwrap();
        }
        all(Action::Write { durable: true });
        ram.clear().unwrap();
        all(Action::Read);
        for n in 0..16 {
            let mut data = vec![0; CLUSTER as usize];
            ram.read_slice(n * CLUSTER, &mut data).unwrap();
            assert!(data.iter().all(|byte| *byte == n as u8 + 1), "{n}");
        }
        drop(channel);
        drop(disk);
        let report = image::qcow2::check(&*file, image::qcow2::Repair::Nothing).unwrap();
        assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    }

    #[test]
    fn host_errors_come_back_as_they_are() {
        let rig = Rig::new(Cache::Writeback);
        rig.run(Action::Write { durable: true }, 0, &[(0, 65536)]).unwrap();
        rig.file.set_len(5 * 65536).unwrap();
        let error = rig.run(Action::Read, 0, &[(0, 512)]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
