use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use memory::GuestRam;

use super::*;
use crate::ata::spec::{command, status};
use crate::ata::tests::identity;
use crate::ata::{AtaDisk, Drive, Packets};
use crate::backend::Disk;
use crate::backend::held::{Held, HeldDisk};
use crate::backend::lane::Meter;
use crate::bus::BusDevice;
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::pci::PciFunction;
use crate::scsi::UnitKind;
use crate::scsi::tests::{disk as image, unit};
use crate::testing::FakeLine;
use crate::virtio::rig::{HOLE, Random, ram, wait_for};

const MIB: u64 = 1 << 20;
const TABLE: u64 = 0x1_0000;
const DATA: u64 = 0x10_0000;
const READY: u8 = status::READY;
const WAITS: u8 = status::READY | status::DRQ;

/// The disk is the first drive of the first channel, the CD-ROM drive the first of the second.
const DISK: usize = 0;
const DRIVE: usize = 1;

struct Rig {
    ide: Ide,
    ports: Vec<Arc<dyn BusDevice>>,
    lines: [Arc<FakeLine>; 2],
    ram: GuestRam,
    file: File,
}

fn ide(ram: &GuestRam, disk: Arc<dyn Disk>) -> (Ide, [Arc<FakeLine>; 2]) {
    let lines = [Arc::new(FakeLine::default()), Arc::new(FakeLine::default())];
    let drive = Arc::new(unit(UnitKind::Cdrom, Some(image(MIB, true).0)));
    let meter = Arc::<Meter>::default();
    let parts = IdeParts {
        id: "ide",
        ram: ram.clone(),
        lines: [lines[0].clone(), lines[1].clone()],
        thread: IoThread::spawn("ide", || Ok(())).unwrap(),
        drives: [
            [Some(Drive::Disk(AtaDisk::new(disk, identity(true), meter))), None],
            [Some(Drive::Packets(Packets::new(drive, identity(true)))), None],
        ],
    };
    (Ide::new(parts).unwrap(), lines)
}

impl Rig {
    fn new() -> Self {
        let (disk, file) = image(MIB, false);
        Self::with(disk, file)
    }

    fn with(disk: Arc<dyn Disk>, file: File) -> Self {
        let ram = ram();
        let (ide, lines) = ide(&ram, disk);
        let _ = ide.config_write(4, &[0x05, 0]);
        let ports = ide.ports().into_iter().map(|(_, _, port)| port).collect();
        Self { ide, ports, lines, ram, file }
    }

    fn read(&self, channel: usize, offset: u64) -> u8 {
        let mut data = [0];
        self.ports[2 * channel].read(offset, &mut data);
        data[0]
    }

    fn write(&self, channel: usize, offset: u64, value: u8) {
        let _ = self.ports[2 * channel].write(offset, &[value]);
    }

    fn control(&self, channel: usize, value: u8) {
        let _ = self.ports[2 * channel + 1].write(0, &[value]);
    }

    fn alternate(&self, channel: usize) -> u8 {
        let mut data = [0];
        self.ports[2 * channel + 1].read(0, &mut data);
        data[0]
    }

    fn settled(&self, channel: usize) -> u8 {
        wait_for("the drive", || self.alternate(channel) & status::BSY == 0);
        self.alternate(channel)
    }

    /// Registers and a command: the status when it is not busy.
    fn command(&self, channel: usize, code: u8, lba: u32, count: u8) -> u8 {
        let [l0, l1, l2, l3] = lba.to_le_bytes();
        for (offset, value) in [(2, count), (3, l0), (4, l1), (5, l2), (6, 0xe0 | l3)] {
            self.write(channel, offset, value);
        }
        self.write(channel, 7, code);
        self.settled(channel)
    }

    fn input(&self, channel: usize, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        for pair in data.chunks_mut(2) {
            self.ports[2 * channel].read(0, pair);
        }
        data
    }

    fn output(&self, channel: usize, data: &[u8]) {
        for pair in data.chunks(2) {
            let _ = self.ports[2 * channel].write(0, pair);
        }
    }

    fn master(&self, channel: usize, offset: u64, data: &[u8]) {
        let _ = self.ide.bar_write(4, 8 * channel as u64 + offset, data);
    }

    fn master_status(&self, channel: usize) -> u8 {
        let mut data = [0];
        self.ide.bar_read(4, 8 * channel as u64 + 2, &mut data);
        data[0]
    }

    /// Run the bus master over these ranges, after a command was given.
    fn run_master(&self, channel: usize, ranges: &[(u64, u16)], reads: bool) -> u8 {
        for (index, (gpa, len)) in (0..).zip(ranges) {
            let last = if index + 1 == ranges.len() as u64 { 0x8000 } else { 0 };
            self.ram.write_obj(TABLE + 8 * index, *gpa as u32).unwrap();
            self.ram.write_obj(TABLE + 8 * index + 4, *len).unwrap();
            self.ram.write_obj(TABLE + 8 * index + 6, last as u16).unwrap();
        }
        self.master(channel, 4, &(TABLE as u32).to_le_bytes());
        self.master(channel, 2, &[6]);
        self.master(channel, 0, &[1 | u8::from(reads) << 3]);
        wait_for("the bus master", || self.master_status(channel) & 1 == 0);
        self.master(channel, 0, &[0]);
        self.settled(channel)
    }

    /// Twelve bytes, and what follows.
    fn packet(&self, features: u8, limit: u16, packet: &[u8; 12]) -> u8 {
        self.write(DRIVE, 1, features);
        let [low, high] = limit.to_le_bytes();
        for (offset, value) in [(4, low), (5, high), (6, 0xa0)] {
            self.write(DRIVE, offset, value);
        }
        self.write(DRIVE, 7, command::PACKET);
        assert_eq!(self.settled(DRIVE), WAITS);
        assert_eq!(self.read(DRIVE, 2) & 3, 1, "it wants the packet");
        self.output(DRIVE, packet);
        self.settled(DRIVE)
    }

    fn expect_working(&self) {
        assert_eq!(self.command(DISK, command::READ_SECTORS, 9, 1), WAITS);
        assert_eq!(self.input(DISK, 512), [9; 512]);
        assert_eq!(self.settled(DISK), READY);
    }
}

#[test]
fn drives_are_found_where_they_are_and_not_where_they_are_not() {
    let rig = Rig::new();
    assert_eq!((rig.ide.config().u32(0), rig.ide.config().u32(8) >> 8), (0x7010_8086, 0x01_01_80));
    assert_eq!((rig.read(DISK, 7), rig.read(DISK, 2), rig.read(DISK, 4)), (READY, 1, 0));
    assert_eq!((rig.read(DRIVE, 4), rig.read(DRIVE, 5)), (0x14, 0xeb));
    // What is written comes back, and from the drive that is not there nothing.
    rig.write(DISK, 2, 0x55);
    rig.write(DISK, 3, 0xaa);
    assert_eq!((rig.read(DISK, 2), rig.read(DISK, 3)), (0x55, 0xaa));
    rig.write(DISK, 6, 0xb0);
    assert_eq!((rig.read(DISK, 7), rig.read(DISK, 2)), (0, 0));
}

#[test]
fn sectors_come_and_go_by_pio() {
    let rig = Rig::new();
    assert_eq!(rig.command(DISK, command::IDENTIFY, 0, 0), WAITS);
    assert_eq!(rig.input(DISK, 512)[120..122], [0, 8], "2048 sectors");
    assert_eq!(rig.settled(DISK), READY);
    rig.expect_working();
    assert_eq!(rig.command(DISK, command::READ_SECTORS, 4, 3), WAITS);
    for sector in 4..7 {
        assert_eq!(rig.input(DISK, 512), [sector; 512]);
    }
    assert_eq!(rig.settled(DISK), READY);
    assert_eq!(rig.command(DISK, command::WRITE_SECTORS, 8, 2), WAITS);
    rig.output(DISK, &[0xab; 512]);
    assert_eq!(rig.settled(DISK), WAITS);
    rig.output(DISK, &[0xcd; 512]);
    assert_eq!(rig.settled(DISK), READY);
    let mut back = [0; 1025];
    rig.file.read_exact_at(&mut back, 8 * 512).unwrap();
    assert_eq!((back[511], back[512], back[1023], back[1024]), (0xab, 0xcd, 0xcd, 10));
    // All 256 sectors, in blocks of sixteen.
    assert_eq!(rig.command(DISK, command::READ_MULTIPLE, 0, 0), WAITS);
    let all = rig.input(DISK, 256 * 512);
    assert!(all.chunks(512).zip(0..=255).skip(10).all(|(sector, n)| sector == [n; 512]));
    assert_eq!(rig.settled(DISK), READY);
}

#[test]
fn interrupts_come_with_each_block_and_go_with_the_status() {
    let rig = Rig::new();
    rig.command(DISK, command::READ_SECTORS, 0, 2);
    wait_for("the interrupt", || rig.lines[0].is_high());
    assert_eq!(rig.read(DISK, 7), WAITS);
    assert!(!rig.lines[0].is_high());
    rig.input(DISK, 512);
    assert!(rig.lines[0].is_high());
    let _ = rig.read(DISK, 7);
    rig.input(DISK, 512);
    assert_eq!(rig.settled(DISK), READY);
    assert!(!rig.lines[0].is_high(), "the last byte is the end");
    rig.control(DISK, 2);
    rig.command(DISK, command::FLUSH, 0, 0);
    assert!(!rig.lines[0].is_high());
    rig.control(DISK, 0);
    assert!(rig.lines[0].is_high());
}

#[test]
fn the_bus_master_moves_sectors_to_and_from_memory() {
    let rig = Rig::new();
    assert_eq!(rig.command(DISK, command::READ_DMA, 2, 4), WAITS);
    assert_eq!(rig.run_master(DISK, &[(DATA, 512), (DATA + 0x1000, 1536)], true), READY);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 2);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 0x1000 + 1535).unwrap(), 5);
    assert_eq!(rig.master_status(DISK) & 7, 4);
    rig.ram.write_slice(DATA, &[0x77; 512]).unwrap();
    rig.command(DISK, command::WRITE_DMA, 20, 1);
    assert_eq!(rig.run_master(DISK, &[(DATA, 512)], false), READY);
    let mut back = [0; 513];
    rig.file.read_exact_at(&mut back, 20 * 512).unwrap();
    assert_eq!((back[0], back[511], back[512]), (0x77, 0x77, 21));
    for ranges in [&[(DATA, 510)][..], &[(HOLE, 512)]] {
        rig.command(DISK, command::READ_DMA, 2, 1);
        assert_eq!(rig.run_master(DISK, ranges, true), READY | status::ERR, "{ranges:x?}");
        assert_eq!(rig.master_status(DISK) & 2, 2);
    }
    rig.expect_working();
}

#[test]
fn packets_come_by_pio_and_by_the_bus_master() {
    let rig = Rig::new();
    let mut packet = [0; 12];
    assert_eq!(rig.packet(0, 0, &packet), READY | status::ERR, "the attention of power-on");
    assert_eq!(rig.read(DRIVE, 1) >> 4, 6);
    packet[..5].copy_from_slice(&[0x12, 0, 0, 0, 36]);
    assert_eq!(rig.packet(0, 20, &packet), WAITS);
    assert_eq!((rig.read(DRIVE, 2) & 3, rig.read(DRIVE, 4)), (2, 20));
    assert_eq!(rig.input(DRIVE, 20)[8..13], *b"MANOR");
    assert_eq!((rig.settled(DRIVE), rig.read(DRIVE, 4)), (WAITS, 16));
    rig.input(DRIVE, 16);
    assert_eq!((rig.settled(DRIVE), rig.read(DRIVE, 2) & 3), (READY, 3));
    packet = [0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0];
    assert_eq!(rig.packet(0, 2048, &packet), WAITS);
    assert_eq!(rig.input(DRIVE, 4096)[2047..2049], [7, 8]);
    assert_eq!(rig.settled(DRIVE), READY);
    assert_eq!(rig.packet(1, 0, &packet), WAITS);
    assert_eq!(rig.run_master(DRIVE, &[(DATA, 4096)], true), READY);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 4095).unwrap(), 11);
    packet = [0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(rig.packet(1, 0, &packet), WAITS);
    assert_eq!(rig.run_master(DRIVE, &[(DATA, 8)], true), READY);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 6).unwrap(), 8);
}

#[test]
fn a_reset_waits_for_the_host_and_shows_the_signature() {
    let held = HeldDisk::new(MIB, true);
    let rig = Rig::with(Arc::new(Held(held.clone())), tempfile::tempfile().unwrap());
    rig.write(DISK, 6, 0xe0);
    rig.write(DISK, 7, command::FLUSH);
    wait_for("it", || held.started() == 1);
    rig.control(DISK, 4);
    assert_eq!(rig.alternate(DISK), status::BSY);
    rig.control(DISK, 0);
    assert_eq!(rig.alternate(DISK), status::BSY);
    held.release();
    assert_eq!(rig.settled(DISK), READY);
    assert_eq!((rig.read(DISK, 1), rig.read(DISK, 2), rig.read(DISK, 3)), (1, 1, 1));
    assert!(!rig.lines[0].is_high());
    held.error.store(libc::EIO, SeqCst);
    assert_eq!(rig.command(DISK, command::READ_SECTORS, 0, 1), READY | status::ERR);
}

#[test]
fn state_goes_through_save_and_restore() {
    let (disk, file) = image(MIB, false);
    let mut rig = Rig::with(disk.clone(), file);
    // In the middle of a sector.
    assert_eq!(rig.command(DISK, command::READ_SECTORS, 9, 2), WAITS);
    assert_eq!(rig.input(DISK, 100), [9; 100]);
    rig.ide.pause();
    let state = rig.ide.save().unwrap();
    let (other, lines) = ide(&rig.ram, disk);
    other.pause();
    other.restore(&state).unwrap();
    assert_eq!(other.save().unwrap(), state);
    rig.ports = other.ports().into_iter().map(|(_, _, port)| port).collect();
    (rig.ide, rig.lines) = (other, lines);
    rig.ide.resume();
    assert_eq!(rig.input(DISK, 412), [9; 412]);
    assert_eq!(rig.input(DISK, 512), [10; 512]);
    assert_eq!(rig.settled(DISK), READY);
    rig.expect_working();
    rig.ide.reset();
    assert_eq!(rig.read(DISK, 2), 1);
}

#[test]
fn garbage_at_the_ports_ends_in_errors_and_nothing_else() {
    for seed in 1..40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let rig = Rig::new();
        for at in (TABLE..TABLE + 0x200).step_by(4) {
            rig.ram.write_obj(at, random.next() as u32 & 0x00ff_ffff).unwrap();
        }
        for _ in 0..2000 {
            let channel = random.below(2) as usize;
            let value = random.next() as u8;
            match random.below(12) {
                0 => {
                    let pick = [0x20, 0x30, 0xc4, 0xc8, 0xca, 0xec, 0xa0, 0xa1, 0x25, 0x06, value];
                    rig.write(channel, 6, 0xe0);
                    rig.write(channel, 7, random.pick(&pick));
                }
                1 => rig.control(channel, value & random.pick(&[2, 0x82, 0xff])),
                2 => rig.master(channel, 4, &(TABLE as u32).to_le_bytes()),
                3 => rig.master(channel, random.below(8), &[value]),
                4 => rig.master(channel, 0, &[random.pick(&[0, 1, 9])]),
                5 | 6 => _ = rig.input(channel, 64),
                7 | 8 => rig.output(channel, &[value; 12]),
                9 if random.below(40) == 0 => {
                    rig.ide.pause();
                    rig.ide.resume();
                }
                _ => rig.write(channel, random.below(8), value & 0x1f),
            }
        }
        rig.control(DISK, 4);
        rig.control(DISK, 0);
        rig.settled(DISK);
        rig.file.write_all_at(&[9; 512], 9 * 512).unwrap();
        rig.expect_working();
    }
}
