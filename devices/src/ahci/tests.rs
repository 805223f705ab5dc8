use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use memory::GuestRam;

use super::spec::*;
use super::*;
use crate::ata::spec::{command, error, status};
use crate::ata::tests::identity;
use crate::ata::{AtaDisk, Drive, Packets};
use crate::backend::Disk;
use crate::backend::held::{Held, HeldDisk};
use crate::backend::lane::Meter;
use crate::component::Component;
use crate::io_thread::IoThread;
use crate::pci::PciFunction;
use crate::scsi::LogicalUnit;
use crate::scsi::UnitKind;
use crate::scsi::tests::{disk as image, unit};
use crate::testing::FakeLine;
use crate::virtio::rig::driver::FakeMsi;
use crate::virtio::rig::{END, FAR, HOLE, Random, SEAM, ram, wait_for};

const MIB: u64 = 1 << 20;
const LIST: u64 = 0x1_0000;
const RECEIVED: u64 = 0x2_0000;
const TABLES: u64 = 0x3_0000;
const DATA: u64 = 0x10_0000;
/// The task file of a good end.
const READY: u32 = status::READY as u32;

/// Ports with something on them.
const DISK: u64 = 0;
const DRIVE: u64 = 2;

struct Rig {
    ahci: Ahci,
    ram: GuestRam,
    line: Arc<FakeLine>,
    msi: Arc<FakeMsi>,
    drive: Arc<LogicalUnit>,
    file: File,
}

fn ahci(
    ram: &GuestRam,
    disk: Arc<dyn Disk>,
) -> (Ahci, Arc<FakeLine>, Arc<FakeMsi>, Arc<LogicalUnit>) {
    let (line, msi) = (Arc::new(FakeLine::default()), Arc::new(FakeMsi::default()));
    let drive = Arc::new(unit(UnitKind::Cdrom, Some(image(MIB, true).0)));
    let mut drives = [const { None }; PORTS];
    let meter = Arc::<Meter>::default();
    drives[DISK as usize] = Some(Drive::Disk(AtaDisk::new(disk, identity(false), meter)));
    drives[DRIVE as usize] = Some(Drive::Packets(Packets::new(drive.clone(), identity(false))));
    let parts = AhciParts {
        id: "ide",
        ram: ram.clone(),
        msi: &*msi,
        intx: line.clone(),
        thread: IoThread::spawn("ahci", || Ok(())).unwrap(),
        drives,
    };
    (Ahci::new(parts).unwrap(), line, msi, drive)
}

impl Rig {
    fn new() -> Self {
        let (disk, file) = image(MIB, false);
        Self::with(disk, file)
    }

    fn held(hold: bool) -> (Self, Arc<HeldDisk>) {
        let held = HeldDisk::new(MIB, hold);
        (Self::with(Arc::new(Held(held.clone())), tempfile::tempfile().unwrap()), held)
    }

    fn with(disk: Arc<dyn Disk>, file: File) -> Self {
        let ram = ram();
        let (ahci, line, msi, drive) = ahci(&ram, disk);
        let rig = Self { ahci, ram, line, msi, drive, file };
        let _ = rig.ahci.config_write(4, &[0x06, 0]);
        rig.bring_up();
        rig
    }

    /// From the reset of the adapter to ports that run.
    fn bring_up(&self) {
        self.write(generic::GHC, GHC_RESET);
        wait_for("the reset", || self.read(generic::GHC) & GHC_RESET == 0);
        self.write(generic::GHC, GHC_AHCI | GHC_INTERRUPTS);
        for port in [DISK, DRIVE] {
            self.set(port, port::CLB, (LIST + port * 0x400) as u32);
            self.set(port, port::FB, (RECEIVED + port * 0x100) as u32);
            self.set(port, port::SERR, !0);
            self.set(port, port::IS, !0);
            self.set(port, port::IE, interrupt::ALL);
            self.set(port, port::CMD, cmd::FRE);
            self.set(port, port::CMD, cmd::FRE | cmd::ST);
            assert_eq!(self.get(port, port::CMD) & (cmd::FR | cmd::CR), cmd::FR | cmd::CR);
        }
        self.write(generic::IS, !0);
    }

    fn read(&self, at: u64) -> u32 {
        let mut data = [0; 4];
        self.ahci.bar_read(BAR, at, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, at: u64, value: u32) {
        let _ = self.ahci.bar_write(BAR, at, &value.to_le_bytes());
    }

    fn get(&self, port: u64, register: u64) -> u32 {
        self.read(PORT_BASE + port * PORT_STEP + register)
    }

    fn set(&self, port: u64, register: u64, value: u32) {
        self.write(PORT_BASE + port * PORT_STEP + register, value);
    }

    /// Header, table and descriptors of a slot.
    fn prepare(&self, port: u64, slot: u64, fis: &[u8], data: &[(u64, u32)]) -> u64 {
        let table = TABLES + port * 0x1_0000 + slot * 0x400;
        let header = LIST + port * 0x400 + slot * 32;
        self.ram.write_obj(header, 5 | (data.len() as u32) << 16).unwrap();
        self.ram.write_obj(header + 4, 0_u32).unwrap();
        self.ram.write_obj(header + 8, table).unwrap();
        self.ram.write_slice(table, &[0; 0x80]).unwrap();
        self.ram.write_slice(table, fis).unwrap();
        for (index, (gpa, len)) in (0..).zip(data) {
            let at = table + 0x80 + index * 16;
            self.ram.write_obj(at, *gpa).unwrap();
            self.ram.write_obj(at + 8, u64::from(len - 1) << 32).unwrap();
        }
        table
    }

    fn issue(&self, port: u64, slot: u64) {
        self.set(port, port::CI, 1 << slot);
    }

    /// One command in slot 0 and its end: the task file register.
    fn run(&self, port: u64, fis: &[u8], data: &[(u64, u32)]) -> u32 {
        self.prepare(port, 0, fis, data);
        self.set(port, port::IS, !0);
        self.issue(port, 0);
        wait_for("the command", || self.get(port, port::IS) != 0);
        self.get(port, port::TFD)
    }

    fn restart(&self, port: u64) {
        self.set(port, port::CMD, cmd::FRE);
        wait_for("the stop", || self.get(port, port::CMD) & cmd::CR == 0);
        self.set(port, port::IS, !0);
        self.set(port, port::CMD, cmd::FRE | cmd::ST);
    }

    fn packet(&self, packet: &[u8], data: &[(u64, u32)]) -> u32 {
        let mut fis = fis(command::PACKET, 0, 0);
        fis[3] = 1;
        let table = self.prepare(DRIVE, 0, &fis, data);
        self.ram.write_slice(table + 0x40, packet).unwrap();
        self.set(DRIVE, port::IS, !0);
        self.issue(DRIVE, 0);
        wait_for("the packet", || self.get(DRIVE, port::IS) != 0);
        let task_file = self.get(DRIVE, port::TFD);
        if task_file & 1 != 0 {
            self.restart(DRIVE);
        }
        task_file
    }

    fn received(&self, port: u64, offset: u64) -> [u8; 20] {
        let mut fis = [0; 20];
        self.ram.read_slice(RECEIVED + port * 0x100 + offset, &mut fis).unwrap();
        fis
    }

    fn expect_working(&self) {
        let task_file = self.run(DISK, &fis(command::READ_DMA_EXT, 9, 1), &[(DATA, 512)]);
        assert_eq!(task_file, READY);
        assert_eq!(self.ram.read_obj::<u8>(DATA + 511).unwrap(), 9);
    }
}

fn fis(command: u8, lba: u64, count: u16) -> [u8; 20] {
    let [l0, l1, l2, l3, l4, l5, _, _] = lba.to_le_bytes();
    let [c0, c1] = count.to_le_bytes();
    [0x27, 0x80, command, 0, l0, l1, l2, 0x40, l3, l4, l5, 0, c0, c1, 0, 0, 0, 0, 0, 0]
}

fn queued(command: u8, slot: u8, lba: u64, sectors: u8) -> [u8; 20] {
    let mut fis = fis(command, lba, u16::from(slot) << 3);
    fis[3] = sectors;
    fis
}

#[test]
fn ports_show_what_is_on_them() {
    let rig = Rig::new();
    assert_eq!(rig.ahci.config().u32(0), 0x2922_8086);
    assert_eq!(rig.ahci.config().u32(8) >> 8, 0x01_06_01);
    assert_eq!((rig.read(generic::PI), rig.read(generic::CAP) & 0x1f), (0x3f, 5));
    assert_eq!(rig.get(DISK, port::SSTS) & 0xf, 3);
    assert_eq!((rig.get(DISK, port::SIG), rig.get(DRIVE, port::SIG)), (0x0000_0101, 0xeb14_0101));
    assert_eq!((rig.get(1, port::SSTS), rig.get(1, port::SIG)), (0, NO_SIGNATURE));
    assert_eq!(rig.get(1, port::TFD), NO_DEVICE);
    let fis = rig.received(DRIVE, RECEIVED_D2H);
    assert_eq!((fis[0], &fis[4..7], fis[12]), (FIS_D2H, &[1, 0x14, 0xeb][..], 1));
}

#[test]
fn sectors_go_straight_to_and_from_guest_memory() {
    let rig = Rig::new();
    rig.expect_working();
    let fis_received = rig.received(DISK, RECEIVED_D2H);
    assert_eq!((fis_received[0], fis_received[1], fis_received[2]), (FIS_D2H, 0x40, 0x50));
    assert_eq!(rig.ram.read_obj::<u32>(LIST + 4).unwrap(), 512, "bytes that moved");
    assert_eq!(rig.get(DISK, port::CI), 0);
    rig.ram.write_slice(DATA, &[0xab; 1024]).unwrap();
    let halves = [(DATA, 100), (DATA + 100, 924)];
    assert_eq!(rig.run(DISK, &fis(command::WRITE_DMA, 4, 2), &halves), READY);
    let mut back = [0; 1025];
    rig.file.read_exact_at(&mut back, 4 * 512).unwrap();
    assert_eq!((&back[..1024], back[1024]), (&[0xab; 1024][..], 6));
    assert_eq!(rig.run(DISK, &fis(command::FLUSH_EXT, 0, 0), &[]), READY);
}

#[test]
fn bytes_by_pio_come_with_their_own_fis() {
    let rig = Rig::new();
    assert_eq!(rig.run(DISK, &fis(command::IDENTIFY, 0, 0), &[(DATA, 512)]), READY);
    assert_eq!(rig.get(DISK, port::IS), interrupt::PIO_SETUP);
    let setup = rig.received(DISK, RECEIVED_PIO_SETUP);
    assert_eq!((setup[0], setup[1], setup[15]), (FIS_PIO_SETUP, 0x60, 0x50));
    assert_eq!(rig.ram.read_obj::<u16>(DATA + 120).unwrap(), 2048);
    // Not for this kind of device: the driver sees which it is.
    let refused = rig.run(DRIVE, &fis(command::IDENTIFY, 0, 0), &[(DATA, 512)]);
    assert_eq!(refused & 0xff & u32::from(status::ERR), 1);
    rig.restart(DRIVE);
    assert_eq!(rig.run(DRIVE, &fis(command::IDENTIFY_PACKET, 0, 0), &[(DATA, 512)]) & 1, 0);
    assert_eq!(rig.ram.read_obj::<u16>(DATA).unwrap(), 0x85c0);
}

#[test]
fn the_interrupt_follows_the_port_and_the_adapter() {
    let rig = Rig::new();
    assert!(!rig.line.is_high());
    rig.expect_working();
    assert!(rig.line.is_high());
    assert_eq!(rig.read(generic::IS), 1);
    rig.write(generic::IS, 1);
    assert!(rig.line.is_high(), "the port still asks");
    rig.set(DISK, port::IS, !0);
    rig.write(generic::IS, 1);
    assert!(!rig.line.is_high());
    // The capability: enable, address, data.
    let at = u16::from(rig.ahci.config().u8(0x34));
    let _ = rig.ahci.config_write(at + 4, &0xfee0_0000_u32.to_le_bytes());
    let _ = rig.ahci.config_write(at + 2, &[1, 0]);
    rig.expect_working();
    wait_for("a message", || rig.msi.take(0) == 1);
    assert!(!rig.line.is_high());
}

#[test]
fn queued_commands_end_in_any_order() {
    let (rig, held) = Rig::held(true);
    for slot in 0..4 {
        rig.prepare(DISK, slot, &queued(command::READ_QUEUED, slot as u8, slot, 1), &[(DATA, 512)]);
    }
    rig.set(DISK, port::IS, !0);
    rig.set(DISK, port::SACT, 0xf);
    rig.set(DISK, port::CI, 0xf);
    wait_for("all", || held.started() == 4);
    wait_for("their acceptance", || rig.get(DISK, port::CI) == 0);
    assert_eq!(rig.get(DISK, port::SACT), 0xf);
    held.release();
    wait_for("their ends", || rig.get(DISK, port::SACT) == 0);
    let bits = rig.received(DISK, RECEIVED_DEVICE_BITS);
    assert_eq!((bits[0], bits[2]), (FIS_DEVICE_BITS, status::DRDY));
    assert_ne!(rig.get(DISK, port::IS) & interrupt::DEVICE_BITS, 0);
}

#[test]
fn a_command_that_is_not_queued_waits_for_the_queue() {
    let (rig, held) = Rig::held(true);
    rig.prepare(DISK, 0, &queued(command::READ_QUEUED, 0, 0, 1), &[(DATA, 512)]);
    rig.prepare(DISK, 1, &fis(command::READ_DMA, 0, 1), &[(DATA, 512)]);
    rig.set(DISK, port::SACT, 1);
    rig.set(DISK, port::CI, 3);
    wait_for("the first", || held.started() == 1 && rig.get(DISK, port::CI) == 2);
    held.release();
    wait_for("both", || rig.get(DISK, port::CI) == 0 && rig.get(DISK, port::SACT) == 0);
    assert_eq!(held.started(), 2);
}

#[test]
fn an_error_halts_the_port_until_it_is_restarted() {
    let (rig, held) = Rig::held(false);
    held.error.store(libc::EIO, SeqCst);
    let task_file = rig.run(DISK, &fis(command::READ_DMA, 0, 1), &[(DATA, 512)]);
    assert_eq!(task_file, u32::from(error::UNC) << 8 | u32::from(status::READY | status::ERR));
    assert_ne!(rig.get(DISK, port::IS) & interrupt::TASK_FILE, 0);
    assert_eq!(rig.get(DISK, port::CI), 1, "it stands until the restart");
    rig.restart(DISK);
    assert_eq!(rig.get(DISK, port::CI), 0);
    held.error.store(0, SeqCst);
    assert_eq!(rig.run(DISK, &fis(command::READ_DMA, 0, 1), &[(DATA, 512)]) & 1, 0);
    // In the queue: the device says which.
    held.error.store(libc::EIO, SeqCst);
    rig.prepare(DISK, 5, &queued(command::READ_QUEUED, 5, 7, 1), &[(DATA, 512)]);
    rig.set(DISK, port::IS, !0);
    rig.set(DISK, port::SACT, 1 << 5);
    rig.issue(DISK, 5);
    wait_for("the error", || rig.get(DISK, port::IS) & interrupt::TASK_FILE != 0);
    assert_eq!(rig.get(DISK, port::SACT), 1 << 5);
    rig.restart(DISK);
    assert_eq!(rig.run(DISK, &fis(command::READ_LOG_EXT, 0x10, 1), &[(DATA, 512)]) & 1, 0);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 5);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 4).unwrap(), 7);
}

#[test]
fn trims_give_their_ranges_back() {
    let rig = Rig::new();
    let entry = |first: u64, count: u64| (first | count << 48).to_le_bytes();
    rig.ram.write_slice(DATA, &[0; 512]).unwrap();
    rig.ram.write_slice(DATA, &[entry(8, 8), entry(24, 8)].concat()).unwrap();
    let mut trim = fis(command::DATA_SET_MANAGEMENT, 0, 1);
    trim[3] = 1;
    assert_eq!(rig.run(DISK, &trim, &[(DATA, 512)]) & 1, 0);
    let mut image = [0; 0x5000];
    rig.file.read_exact_at(&mut image, 0).unwrap();
    assert_eq!((image[0x0fff], image[0x1000], image[0x1fff], image[0x2000]), (7, 0, 0, 16));
    assert_eq!((image[0x3000], image[0x3fff], image[0x4000]), (0, 0, 32));
}

#[test]
fn packets_reach_the_drive() {
    let rig = Rig::new();
    let attention = rig.packet(&[0; 12], &[]);
    assert_eq!(attention, u32::from(6_u8 << 4 | error::ABRT) << 8 | 0x51);
    let sense = [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(rig.packet(&sense, &[(DATA, 18)]), 0x50);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 12).unwrap(), 0x29);
    let read = [0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0];
    assert_eq!(rig.packet(&read, &[(DATA, 1000), (DATA + 1000, 3096)]), 0x50);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 4);
    assert_eq!(rig.ram.read_obj::<u8>(DATA + 4095).unwrap(), 11);
    // More room than there is to say.
    assert_eq!(rig.packet(&[0x12, 0, 0, 0, 36, 0], &[(DATA, 4096)]), 0x50);
    assert_eq!(rig.ram.read_obj::<u32>(LIST + DRIVE * 0x400 + 4).unwrap(), 36);
    rig.drive.eject(true).unwrap();
    let (medium, file) = image(MIB, true);
    file.write_all_at(&[0xcd], 2048).unwrap();
    rig.drive.load(medium);
    assert_eq!(rig.packet(&[0; 12], &[]) & 1, 1, "the medium was changed");
    assert_eq!(rig.packet(&read, &[(DATA, 4096)]), 0x50);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 0xcd);
}

#[test]
fn a_stop_waits_for_what_is_in_flight_and_says_nothing_of_it() {
    let (rig, held) = Rig::held(true);
    rig.prepare(DISK, 0, &fis(command::READ_DMA, 0, 1), &[(DATA, 512)]);
    rig.set(DISK, port::IS, !0);
    rig.issue(DISK, 0);
    wait_for("it", || held.started() == 1);
    rig.set(DISK, port::CMD, cmd::FRE);
    assert_ne!(rig.get(DISK, port::CMD) & cmd::CR, 0);
    held.release();
    wait_for("the stop", || rig.get(DISK, port::CMD) & cmd::CR == 0);
    assert_eq!((rig.get(DISK, port::CI), rig.get(DISK, port::IS)), (0, 0));
}

#[test]
fn links_and_the_adapter_are_reset_when_nothing_is_in_flight() {
    let (rig, held) = Rig::held(true);
    rig.prepare(DISK, 0, &fis(command::READ_DMA, 0, 1), &[(DATA, 512)]);
    rig.issue(DISK, 0);
    wait_for("it", || held.started() == 1);
    rig.set(DISK, port::SCTL, 1);
    assert_eq!(rig.get(DISK, port::SSTS), 0);
    rig.set(DISK, port::SCTL, 0);
    held.release();
    wait_for("the link", || rig.get(DISK, port::SSTS) & 0xf == 3);
    assert_eq!(rig.get(DISK, port::TFD) & 0xff, READY);
    assert_ne!(rig.get(DISK, port::SERR) & 1 << 26, 0);
    held.hold.store(true, SeqCst);
    rig.bring_up();
    rig.issue(DISK, 0);
    wait_for("it", || held.started() == 2);
    rig.write(generic::GHC, GHC_RESET);
    assert_eq!(rig.read(generic::GHC) & 1, 1);
    held.release();
    wait_for("the reset", || rig.read(generic::GHC) & 1 == 0);
    assert_eq!(rig.get(DISK, port::CLB), 0);
}

#[test]
fn a_soft_reset_brings_the_signature_back() {
    let rig = Rig::new();
    rig.expect_working();
    for control in [SOFT_RESET, 0] {
        let mut fis = [0; 20];
        fis[0] = 0x27;
        fis[15] = control;
        rig.prepare(DISK, 0, &fis, &[]);
        rig.issue(DISK, 0);
        wait_for("the control register", || rig.get(DISK, port::CI) == 0);
    }
    assert_eq!(rig.get(DISK, port::TFD), 1 << 8 | READY);
    assert_eq!(rig.received(DISK, RECEIVED_D2H)[4..7], [1, 0, 0]);
    rig.expect_working();
}

#[test]
fn broken_structures_are_bus_errors_and_short_buffers_overflow() {
    let rig = Rig::new();
    let read = fis(command::READ_DMA, 0, 2);
    let cases: [(&[(u64, u32)], u32); 4] = [
        (&[(END, 1024)], interrupt::HOST_DATA),
        (&[(u64::MAX - 1, 1024)], interrupt::HOST_DATA),
        (&[(DATA, 1023)], interrupt::OVERFLOW),
        (&[], interrupt::OVERFLOW),
    ];
    for (data, cause) in cases {
        rig.run(DISK, &read, data);
        assert_eq!(rig.get(DISK, port::IS), cause, "{data:x?}");
        rig.restart(DISK);
    }
    for (at, value) in [(8, HOLE), (8, END - 10), (8, u64::MAX)] {
        rig.prepare(DISK, 0, &read, &[(DATA, 1024)]);
        rig.ram.write_obj(LIST + at, value).unwrap();
        rig.issue(DISK, 0);
        wait_for("the error", || rig.get(DISK, port::IS) == interrupt::HOST_FATAL);
        rig.restart(DISK);
    }
    rig.set(DISK, port::CLB, HOLE as u32);
    rig.issue(DISK, 0);
    wait_for("the error", || rig.get(DISK, port::IS) == interrupt::HOST_FATAL);
    rig.set(DISK, port::FB, HOLE as u32);
    rig.bring_up();
    rig.expect_working();
}

#[test]
fn state_goes_through_save_and_restore() {
    let (disk, file) = image(MIB, false);
    let mut rig = Rig::with(disk.clone(), file);
    rig.expect_working();
    rig.packet(&[0; 12], &[]);
    assert_eq!(rig.packet(&[0x1e, 0, 0, 0, 1, 0], &[]), 0x50);
    rig.ahci.pause();
    // Issued, and not begun.
    rig.prepare(DISK, 3, &fis(command::READ_DMA, 5, 1), &[(DATA, 512)]);
    rig.issue(DISK, 3);
    let state = rig.ahci.save().unwrap();
    let (other, line, msi, drive) = ahci(&rig.ram, disk);
    other.pause();
    other.restore(&state).unwrap();
    assert_eq!(other.save().unwrap(), state);
    (rig.ahci, rig.line, rig.msi) = (other, line, msi);
    assert!(drive.eject(false).is_err(), "still locked");
    rig.ahci.resume();
    wait_for("the command", || rig.get(DISK, port::CI) == 0);
    assert_eq!(rig.ram.read_obj::<u8>(DATA).unwrap(), 5);
    rig.expect_working();
    rig.ahci.reset();
    assert_eq!(rig.get(DISK, port::CLB), 0);
    assert!(drive.eject(false).is_ok());
}

#[test]
fn garbage_in_registers_and_memory_ends_in_errors_and_nothing_else() {
    for seed in 1..40 {
        let mut random = Random(seed * 0x9e37_79b9);
        let rig = Rig::new();
        for at in (LIST..LIST + 0x1000).chain(TABLES..TABLES + 0x2000).step_by(4) {
            let small = random.next() as u32 & random.pick(&[0xff, 0xffff, 0xffff_ffff]);
            rig.ram.write_obj(at, small).unwrap();
        }
        for slot in 0..32 {
            let table = random.pick(&[TABLES, TABLES + 0x400, SEAM - 0x90, FAR, END - 0x20]);
            rig.ram.write_obj(LIST + slot * 32 + 8, table).unwrap();
            let command = random.pick(&[0xc8, 0x25, 0x60, 0x61, 0xec, 0xa0, 0x06, 0xca, 0x2f]);
            let _ = rig.ram.write_slice(table, &[0x27, 0x80, command]);
        }
        for _ in 0..200 {
            let port = random.below(7);
            let register = random.below(0x10) * 4;
            let value = random.next() as u32 & random.pick(&[0x1, 0xff, 0x11, 0xffff_ffff]);
            rig.set(port, register, value);
            if random.below(8) == 0 {
                rig.restart_somehow(port, &mut random);
            }
            if random.below(60) == 0 {
                rig.ahci.pause();
                rig.ahci.resume();
            }
        }
        rig.bring_up();
        rig.file.write_all_at(&[9; 512], 9 * 512).unwrap();
        rig.expect_working();
    }
}

impl Rig {
    fn restart_somehow(&self, port: u64, random: &mut Random) {
        self.set(port, port::CMD, 0);
        self.set(port, port::SCTL, random.below(2) as u32);
        self.set(port, port::SCTL, 0);
        self.set(port, port::CLB, LIST as u32);
        self.set(port, port::FB, RECEIVED as u32);
        self.set(port, port::CMD, cmd::FRE | cmd::ST);
        self.set(port, port::SACT, random.next() as u32);
        self.set(port, port::CI, random.next() as u32);
    }
}
