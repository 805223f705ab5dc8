use std::os::unix::fs::FileExt;

use memory::{Backing, GuestRam};

use super::*;
use crate::backend::Request;

const MODES: [DiskIo; 2] = [DiskIo::Uring, DiskIo::Threads];
const DATA: u64 = 0x1000;

struct Rig {
    ram: GuestRam,
    file: File,
    disk: RawDisk,
    channel: Box<dyn Channel>,
}

impl Rig {
    fn new(io: DiskIo, cache: Cache, len: usize) -> Self {
        let file = tempfile::tempfile_in(std::env::temp_dir()).unwrap();
        let image: Vec<u8> = (0..len).map(pattern).collect();
        file.write_all_at(&image, 0).unwrap();
        let spec = DiskSpec {
            file: Arc::new(file.try_clone().unwrap()),
            read_only: false,
            cache,
            discard: true,
            block_size: 512,
            io,
            queues: 4,
            depth: 256,
        };
        let disk = RawDisk::new(spec).unwrap();
        let channel = disk.channel(8).unwrap();
        let expects_ring = io == DiskIo::Uring && ring_available();
        assert_eq!(channel.source().is_some(), expects_ring);
        let ram = GuestRam::new(&[(0, 8 << 20)], &Backing::Anonymous).unwrap();
        Self { ram, file, disk, channel }
    }

    fn run(&mut self, action: Action, offset: u64, ranges: &[(u64, u64)]) -> io::Result<()> {
        let buffers = self.ram.buffers(ranges.iter().copied()).unwrap();
        self.channel.start(3, Request { action, offset, buffers });
        self.channel.submit();
        loop {
            if let Some(finished) = self.channel.finished() {
                assert_eq!(finished.token, 3);
                return finished.result;
            }
            self.channel.wait();
        }
    }

    fn image(&self) -> Vec<u8> {
        let len = rustix::fs::seek(&self.file, SeekFrom::End(0)).unwrap();
        let mut image = Bounce::new(len.next_multiple_of(4096) as usize, 4096);
        let mut done = 0;
        while done < len as usize {
            done += self.file.read_at(&mut image.bytes()[done..], done as u64).unwrap();
        }
        image.bytes()[..done].to_vec()
    }
}

fn ring_available() -> bool {
    io_uring::IoUring::new(2).is_ok()
}

fn pattern(at: usize) -> u8 {
    (at % 251) as u8 + 1
}

#[test]
fn reads_and_writes_scatter_over_guest_ranges() {
    for io in MODES {
        for cache in [Cache::Writeback, Cache::Writethrough, Cache::Unsafe] {
            let mut rig = Rig::new(io, cache, 8192);
            rig.run(Action::Read, 512, &[(DATA, 100), (DATA + 0x1000, 924)]).unwrap();
            let mut back = vec![0; 924];
            rig.ram.read_slice(DATA + 0x1000, &mut back).unwrap();
            assert!(back.iter().zip(612..).all(|(byte, at)| *byte == pattern(at)));
            rig.ram.write_slice(DATA, &[0xee; 1024]).unwrap();
            let durable = !cache.is_writeback();
            rig.run(Action::Write { durable }, 1024, &[(DATA, 512), (DATA + 100, 512)]).unwrap();
            rig.run(Action::Flush, 0, &[]).unwrap();
            let image = rig.image();
            assert!(image[1024..2048].iter().all(|byte| *byte == 0xee));
            assert_eq!(
                (image[1023], image[2048], image.len()),
                (pattern(1023), pattern(2048), 8192)
            );
        }
    }
}

/// With O_DIRECT, ranges and offsets of any alignment go through a bounce buffer, and what lies
/// beside them in the same host block is kept.
#[test]
fn unaligned_requests_work_without_the_page_cache() {
    for io in MODES {
        for cache in [Cache::None, Cache::DirectSync] {
            let mut rig = Rig::new(io, cache, 16384);
            for (offset, gpa) in [(0, DATA), (512, DATA + 1), (4096, DATA + 512), (3584, DATA + 7)]
            {
                rig.run(Action::Read, offset, &[(gpa, 300), (gpa + 0x800, 1236)]).unwrap();
                let mut back = vec![0; 1236];
                rig.ram.read_slice(gpa + 0x800, &mut back).unwrap();
                let from = offset as usize + 300;
                assert!(back.iter().zip(from..).all(|(byte, at)| *byte == pattern(at)), "{offset}");
            }
            rig.ram.write_slice(DATA, &[0xee; 2048]).unwrap();
            let durable = cache == Cache::DirectSync;
            rig.run(Action::Write { durable }, 3584, &[(DATA + 3, 1000), (DATA + 1, 24)]).unwrap();
            rig.run(Action::Write { durable }, 8192, &[(DATA, 512)]).unwrap();
            let image = rig.image();
            for (at, byte) in image.iter().enumerate() {
                let written = (3584..4608).contains(&at) || (8192..8704).contains(&at);
                assert_eq!(*byte, if written { 0xee } else { pattern(at) }, "{at}");
            }
        }
    }
}

#[test]
fn zeroed_and_discarded_ranges_read_as_zeros_and_neighbours_stay() {
    for io in MODES {
        for (cache, unmap) in
            [(Cache::Writeback, false), (Cache::Writethrough, true), (Cache::None, true)]
        {
            let mut rig = Rig::new(io, cache, 16384);
            let durable = !cache.is_writeback();
            rig.run(Action::Zero { len: 1024, unmap, durable }, 512, &[]).unwrap();
            rig.run(Action::Discard { len: 4096 }, 8192, &[]).unwrap();
            let image = rig.image();
            assert!(image[512..1536].iter().all(|byte| *byte == 0));
            assert!(image[8192..12288].iter().all(|byte| *byte == 0));
            assert_eq!(
                (image[511], image[1536], image[12288]),
                (pattern(511), pattern(1536), pattern(12288))
            );
            assert_eq!(image.len(), 16384);
        }
    }
}

#[test]
fn zeros_are_written_where_the_host_cannot_allocate() {
    let rig = Rig::new(DiskIo::Threads, Cache::None, 16384);
    rig.disk.file.write_bounced(700, 3000, |piece| piece.fill(0)).unwrap();
    let image = rig.image();
    for (at, byte) in image.iter().enumerate() {
        let zeroed = (700..3700).contains(&at);
        assert_eq!(*byte, if zeroed { 0 } else { pattern(at) }, "{at}");
    }
}

#[test]
fn a_last_partial_sector_reads_as_zeros_beyond_the_end_and_takes_writes() {
    for io in MODES {
        for cache in [Cache::Writeback, Cache::Writethrough] {
            let mut rig = Rig::new(io, cache, 700);
            assert_eq!(rig.disk.info().size, 1024);
            rig.ram.write_slice(DATA, &[0xaa; 1024]).unwrap();
            rig.run(Action::Read, 0, &[(DATA, 1024)]).unwrap();
            let mut back = [0; 1024];
            rig.ram.read_slice(DATA, &mut back).unwrap();
            assert_eq!((back[699], back[700], back[1023]), (pattern(699), 0, 0));
            rig.ram.write_slice(DATA, &[0xee; 512]).unwrap();
            rig.run(Action::Write { durable: false }, 512, &[(DATA, 512)]).unwrap();
            let image = rig.image();
            assert_eq!(
                (image.len(), image[511], image[512], image[1023]),
                (1024, pattern(511), 0xee, 0xee)
            );
        }
    }
}

#[test]
fn direct_writes_need_whole_blocks_and_direct_reads_do_not() {
    let spec = |read_only| {
        let file = tempfile::tempfile_in(std::env::temp_dir()).unwrap();
        file.write_all_at(&[7; 700], 0).unwrap();
        DiskSpec {
            file: Arc::new(file),
            read_only,
            cache: Cache::None,
            discard: false,
            block_size: 512,
            io: DiskIo::Threads,
            queues: 1,
            depth: 8,
        }
    };
    let error = RawDisk::new(spec(false)).err().unwrap().to_string();
    assert!(error.contains("700 bytes"), "{error}");
    let disk = RawDisk::new(spec(true)).unwrap();
    let ram = GuestRam::new(&[(0, 8 << 20)], &Backing::Anonymous).unwrap();
    let mut buffers = ram.buffers([(0, 1024)]).unwrap();
    disk.file.carry_out(Action::Read, 0, &mut buffers).unwrap();
    assert_eq!(ram.read_obj::<[u8; 4]>(698).unwrap(), [7, 7, 0, 0]);
}

#[test]
fn a_file_cut_off_meanwhile_is_an_error_and_not_zeros() {
    for io in MODES {
        for cache in [Cache::Writeback, Cache::None] {
            let mut rig = Rig::new(io, cache, 16384);
            rig.file.set_len(4096).unwrap();
            let error = rig.run(Action::Read, 2048, &[(DATA, 4096)]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}

#[test]
fn more_ranges_than_one_call_takes_are_continued() {
    for io in MODES {
        let mut rig = Rig::new(io, Cache::Writeback, 1 << 20);
        let ranges: Vec<_> = (0..2048).map(|n| (DATA + 1024 * n, 512)).collect();
        rig.run(Action::Read, 0, &ranges).unwrap();
        let last = rig.ram.read_obj::<u8>(DATA + 1024 * 2047 + 511).unwrap();
        assert_eq!(last, pattern((1 << 20) - 1));
    }
}

#[test]
fn host_errors_come_back_as_they_are() {
    for io in MODES {
        let mut rig = Rig::new(io, Cache::Writeback, 4096);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&rig.file));
        let read_only = File::open(path).unwrap();
        let spec = DiskSpec {
            file: Arc::new(read_only),
            read_only: true,
            cache: Cache::Writeback,
            discard: false,
            block_size: 512,
            io,
            queues: 4,
            depth: 256,
        };
        rig.channel = RawDisk::new(spec).unwrap().channel(8).unwrap();
        let error = rig.run(Action::Write { durable: false }, 0, &[(DATA, 512)]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        rig.run(Action::Read, 0, &[(DATA, 512)]).unwrap();
    }
}

#[test]
fn a_disk_that_comes_late_uses_rings_that_were_there_as_far_as_they_go_and_gives_them_back() {
    if !ring_available() {
        return println!("SKIP: the host has no io_uring");
    }
    let rings = Rings::new(2, 256).unwrap();
    for _ in 0..3 {
        let rig = Rig::new(DiskIo::Threads, Cache::Writeback, 4096);
        let mut rig = Rig { disk: rig.disk.with_rings(rings.clone()), ..rig };
        let others = [rig.disk.channel(128).unwrap(), rig.disk.channel(128).unwrap()];
        assert!(rig.disk.channel(128).unwrap().source().is_none(), "there are two");
        rig.channel = others.into_iter().next().unwrap();
        assert!(rig.channel.source().is_some() && rings.left() == 1);
        rig.run(Action::Write { durable: true }, 512, &[(DATA, 512)]).unwrap();
        rig.run(Action::Read, 0, &[(DATA, 512)]).unwrap();
        assert_eq!(rig.ram.read_obj::<u8>(DATA + 511).unwrap(), pattern(511));
        assert!(rig.disk.channel(257).unwrap().source().is_none(), "none is so deep");
        drop(rig);
        assert_eq!(rings.left(), 2);
    }
}

#[test]
fn many_requests_in_flight_each_come_back_once() {
    for io in MODES {
        let mut rig = Rig::new(io, Cache::Writeback, 1 << 20);
        let mut seen = [0; 8];
        for round in 0..200 {
            for token in 0..8 {
                let offset = 4096 * ((round * 8 + u64::from(token)) % 256);
                let buffers = rig.ram.buffers([(DATA * (1 + u64::from(token)), 4096)]).unwrap();
                rig.channel.start(token, Request { action: Action::Read, offset, buffers });
            }
            rig.channel.submit();
            let mut left = 8;
            while left > 0 {
                match rig.channel.finished() {
                    Some(finished) => {
                        finished.result.unwrap();
                        seen[usize::from(finished.token)] += 1;
                        left -= 1;
                    }
                    None => rig.channel.wait(),
                }
            }
        }
        assert_eq!(seen, [200; 8]);
        assert!(rig.channel.finished().is_none());
    }
}

#[test]
fn the_ring_of_a_dropped_channel_serves_the_next_one() {
    let mut rig = Rig::new(DiskIo::Uring, Cache::Writeback, 4096);
    for _ in 0..20 {
        rig.run(Action::Read, 0, &[(DATA, 512)]).unwrap();
        rig.channel = rig.disk.channel(8).unwrap();
        assert_eq!(rig.channel.source().is_some(), ring_available());
    }
    // Four were made: more channels than that, or deeper ones, work without.
    let channels: Vec<_> = (0..5).map(|_| rig.disk.channel(256).unwrap()).collect();
    let ringless = channels.iter().filter(|channel| channel.source().is_none()).count();
    assert_eq!(ringless, if ring_available() { 2 } else { 5 });
}

#[test]
fn a_channel_dropped_with_requests_in_flight_waits_for_them() {
    for io in MODES {
        let mut rig = Rig::new(io, Cache::None, 4 << 20);
        for token in 0..8 {
            let buffers = rig.ram.buffers([(0, 4 << 20)]).unwrap();
            rig.channel.start(token, Request { action: Action::Read, offset: 0, buffers });
        }
        rig.channel.submit();
    }
}

#[test]
fn an_impossible_block_size_is_refused_by_name() {
    for block_size in [0, 1, 500, 1 << 20] {
        let file = tempfile::tempfile_in(std::env::temp_dir()).unwrap();
        let spec = DiskSpec {
            file: Arc::new(file),
            read_only: false,
            cache: Cache::Writeback,
            discard: false,
            block_size,
            io: DiskIo::Threads,
            queues: 4,
            depth: 256,
        };
        let error = RawDisk::new(spec).err().unwrap().to_string();
        assert!(error.contains(&block_size.to_string()), "{error}");
    }
}

#[test]
fn a_disk_grows_under_its_channels() {
    for (io, cache) in MODES.into_iter().zip([Cache::None, Cache::Writeback]) {
        let mut rig = Rig::new(io, cache, 8192);
        rig.disk.grow(16384).unwrap();
        assert_eq!((rig.disk.info().size, rig.image().len()), (16384, 16384));
        rig.ram.write_slice(DATA, &[9; 4096]).unwrap();
        rig.run(Action::Write { durable: true }, 12288, &[(DATA, 4096)]).unwrap();
        rig.run(Action::Read, 8192, &[(DATA, 8192)]).unwrap();
        let mut back = [1; 8192];
        rig.ram.read_slice(DATA, &mut back).unwrap();
        assert_eq!((back[0], back[4095], back[4096], back[8191]), (0, 0, 9, 9));
        // Smaller it does not become.
        rig.disk.grow(8192).unwrap();
        assert_eq!(rig.disk.info().size, 16384);
    }
    let rig = Rig::new(DiskIo::Threads, Cache::None, 8192);
    if rig.disk.file.alignment().offset > 1 {
        assert!(rig.disk.grow(16385).is_err());
    }
}
