//! Guests that read and write the disks of each bus, with a driver of a few instructions.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, SCRATCH, Width, pvh, sector};
use vmm_protocol::config::{
    Ahci, Cache, Discard, DiskIo, Drive, DriveIdentity, DriveKind, DrivePlace, Ide, Image, Machine,
    Medium, Nvme, PciDevice, PciKind, Scsi,
};

use crate::devices::device;
use crate::needs_kvm;
use crate::rig::Rig;

const SECTORS: u64 = 2048;
/// Where the guest puts the device's BAR.
pub(crate) const BAR: u32 = 0xc000_0000;
/// Its memory for structures and data, all zeros.
pub(crate) const AREA: u32 = SCRATCH;
/// What a SCSI command answers.
pub(crate) const ANSWER: u32 = AREA + 0x4000;
pub(crate) const DATA: u32 = SCRATCH + 0x1_0000;

/// An image of 1 MiB, each sector filled with its number.
pub(crate) fn image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[sector as u8; 512]).unwrap();
    }
    file.rewind().unwrap();
    file
}

pub(crate) fn drive(rig: &mut Rig, image: File, kind: DriveKind, unit: u16) -> Drive {
    let read_only = kind == DriveKind::Cdrom;
    let medium = Medium {
        image: Image::Raw { file: rig.add(image) },
        read_only,
        cache: Cache::Writeback,
        discard: Discard::Unmap,
        logical_block_size: 512,
        io: DiskIo::Uring,
    };
    Drive {
        id: format!("disk-{kind:?}-{unit}").to_lowercase(),
        place: DrivePlace { bus: 0, target: 0, unit },
        kind,
        medium: Some(medium),
        identity: DriveIdentity { serial: "test".to_owned(), ..DriveIdentity::default() },
        boot_index: None,
    }
}

fn empty(unit: u16) -> Drive {
    Drive {
        id: format!("empty-{unit}"),
        place: DrivePlace { bus: 0, target: 0, unit },
        kind: DriveKind::Cdrom,
        medium: None,
        identity: DriveIdentity::default(),
        boot_index: None,
    }
}

pub(crate) fn scsi(rig: &mut Rig) -> Scsi {
    let drives = vec![
        drive(rig, image(), DriveKind::Disk, 0),
        drive(rig, image(), DriveKind::Cdrom, 1),
        empty(2),
    ];
    Scsi { drives, queues: 2, queue_size: 128, io_thread: 0 }
}

pub(crate) fn ahci(rig: &mut Rig) -> Ahci {
    let drives = vec![
        drive(rig, image(), DriveKind::Disk, 0),
        drive(rig, image(), DriveKind::Cdrom, 3),
        empty(5),
    ];
    Ahci { drives, io_thread: 0 }
}

/// Two disks of the first channel, and a drive with and one without a medium on the second.
pub(crate) fn ide(rig: &mut Rig) -> PciDevice {
    let mut drives = vec![
        drive(rig, image(), DriveKind::Disk, 0),
        drive(rig, image(), DriveKind::Disk, 1),
        drive(rig, image(), DriveKind::Cdrom, 0),
        empty(1),
    ];
    drives[2].place.bus = 1;
    drives[3].place.bus = 1;
    let mut ide = device("ide", 1, PciKind::Ide(Ide { drives, io_thread: 0 }));
    ide.address.function = 1;
    ide
}

pub(crate) fn nvme(rig: &mut Rig) -> Nvme {
    let drives =
        vec![drive(rig, image(), DriveKind::Disk, 0), drive(rig, image(), DriveKind::Disk, 1)];
    Nvme { drives, serial: "test".to_owned(), queues: 2, io_thread: 0 }
}

/// Wait until the value at `address` is this.
fn wait(asm: &mut Asm, width: Width, address: u32, value: u32) {
    let again = asm.here();
    asm.load(width, address).jump_unless_eax_is(value, again);
}

fn poke_bytes(asm: &mut Asm, address: u32, bytes: &[u8]) {
    for (at, byte) in (address..).zip(bytes) {
        asm.poke(Byte, at, (*byte).into());
    }
}

/// BAR `index` of the function at `slot` to [`BAR`], decoded, with bus mastering.
pub(crate) fn place_bar(asm: &mut Asm, slot: u8, function: u8, index: u8) {
    asm.pci_write(slot, function, 0x10 + 4 * index, BAR);
    if index < 5 {
        asm.pci_write(slot, function, 0x14 + 4 * index, 0);
    }
    asm.pci_write(slot, function, 0x04, 0x0007);
}

/// One request queue of a virtio SCSI host, brought up.
pub(crate) fn virtio_scsi(asm: &mut Asm, slot: u8) {
    place_bar(asm, slot, 0, 0);
    for status in [0, 1, 3] {
        asm.poke(Byte, BAR + 0x14, status);
    }
    asm.poke(Dword, BAR + 0x08, 1).poke(Dword, BAR + 0x0c, 1);
    asm.poke(Byte, BAR + 0x14, 0xb);
    asm.poke(Word, BAR + 0x16, 2).poke(Word, BAR + 0x18, 16);
    for (register, address) in [(0x20, AREA), (0x28, AREA + 0x1000), (0x30, AREA + 0x2000)] {
        asm.poke(Dword, BAR + register, address).poke(Dword, BAR + register + 4, 0);
    }
    asm.poke(Word, BAR + 0x1c, 1).poke(Byte, BAR + 0x14, 0xf);
}

/// A command to a unit with so many bytes of data, in descriptors from the first on.
pub(crate) fn request(asm: &mut Asm, unit: u8, cdb: &[u8], data: Option<u32>) {
    let (request, answer) = (AREA + 0x3000, ANSWER);
    poke_bytes(asm, request, &[1, 0, 0, unit]);
    poke_bytes(asm, request + 19, &[0; 16]);
    poke_bytes(asm, request + 19, cdb);
    let write = |flags: u16| if cdb[0] == 0x2a { 0 } else { flags };
    let mut chain = vec![(request, 51, 0), (answer, 108, 2)];
    if let Some(len) = data {
        let at = if cdb[0] == 0x2a { 1 } else { 2 };
        chain.insert(at, (DATA, len, write(2)));
    }
    for (index, (gpa, len, flags)) in (0..).zip(&chain) {
        let at = AREA + 16 * index;
        let next = u32::from(index + 1 < chain.len() as u32);
        asm.poke(Dword, at, *gpa).poke(Dword, at + 4, 0).poke(Dword, at + 8, *len);
        asm.poke(Dword, at + 12, u32::from(*flags) | next | (index + 1) << 16);
    }
}

/// Command number `n` to a unit; prints its status.
fn command(asm: &mut Asm, n: u16, unit: u8, cdb: &[u8], data: Option<u32>) {
    request(asm, unit, cdb, data);
    asm.poke(Word, AREA + 0x1004 + 2 * u32::from(n % 16), 0);
    asm.poke(Word, AREA + 0x1002, u32::from(n) + 1);
    asm.poke(Word, BAR + 0x3000 + 8, 2);
    wait(asm, Word, AREA + 0x2002, u32::from(n) + 1);
    asm.load(Byte, ANSWER + 10).print_eax().print(" ");
}

#[test]
fn a_guest_reads_and_writes_virtio_scsi_disks() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        virtio_scsi(asm, 3);
        let read = |sector: u8| [0x28, 0, 0, 0, 0, sector, 0, 0, 1];
        // The attention of power-on is the first answer of each unit.
        command(asm, 0, 0, &read(7), Some(512));
        command(asm, 1, 0, &read(7), Some(512));
        asm.load(Dword, DATA + 508).print_eax().print("\n");
        asm.poke(Dword, DATA + 4, 0x600d_f00d);
        command(asm, 2, 0, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1], Some(512));
        command(asm, 3, 0, &[0x35], None);
        command(asm, 4, 1, &[0], None);
        command(asm, 5, 1, &read(1), Some(2048));
        asm.load(Dword, DATA + 2044).print_eax().power_off();
    });
    let mut rig = Rig::new(&kernel);
    let written = image();
    let mut host = scsi(&mut rig);
    host.drives[0] = drive(&mut rig, written.try_clone().unwrap(), DriveKind::Disk, 0);
    let (_, _, serial) = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start().wait();
    let expected = "00000002 00000000 07070707\n00000000 00000000 00000002 00000000 07070707";
    assert_eq!(serial, expected);
    let mut sector = [0; 512];
    written.read_exact_at(&mut sector, 9 * 512).unwrap();
    assert_eq!(sector[..9], [7, 7, 7, 7, 0x0d, 0xf0, 0x0d, 0x60, 7]);
}

/// A port of an AHCI adapter, brought up.
pub(crate) fn ahci_port(asm: &mut Asm, port: u32) {
    let base = BAR + 0x100 + port * 0x80;
    asm.poke(Dword, base, AREA).poke(Dword, base + 8, AREA + 0x1000);
    asm.poke(Dword, base + 0x30, 0xffff_ffff);
    asm.poke(Dword, base + 0x18, 0x10).poke(Dword, base + 0x18, 0x11);
    asm.load(Dword, base + 0x24).print_eax().print(" ");
}

/// A command in slot 0 of a port; prints the task file.
pub(crate) fn ata(asm: &mut Asm, port: u32, command: u8, sector: u8, packet: &[u8], len: u32) {
    let (base, table) = (BAR + 0x100 + port * 0x80, AREA + 0x2000);
    asm.poke(Dword, AREA, 5 | 1 << 16).poke(Dword, AREA + 8, table);
    poke_bytes(asm, table, &[0x27, 0x80, command, u8::from(command == 0xa0), sector, 0, 0, 0x40]);
    poke_bytes(asm, table + 8, &[0, 0, 0, 0, 1, 0, 0, 0]);
    poke_bytes(asm, table + 0x40, packet);
    asm.poke(Dword, table + 0x80, DATA).poke(Dword, table + 0x8c, len - 1);
    asm.poke(Dword, base + 0x38, 1);
    // An error leaves the bit, and stops the port until the next start.
    let (again, done) = (asm.here(), asm.label());
    asm.load(Dword, base + 0x38).jump_if_eax_is(0, done);
    asm.load(Dword, base + 0x10).and_eax(1 << 30).jump_if_eax_is(0, again);
    asm.place(done).load(Dword, base + 0x20).print_eax().print(" ");
    asm.poke(Dword, base + 0x18, 0x10);
    wait(asm, Dword, base + 0x18, 0x4016);
    asm.poke(Dword, base + 0x10, 0xffff_ffff).poke(Dword, base + 0x18, 0x11);
}

#[test]
fn a_guest_reads_and_writes_sata_disks() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        place_bar(asm, 0x1f, 2, 5);
        ahci_port(asm, 0);
        ata(asm, 0, 0xc8, 7, &[], 512);
        asm.load(Dword, DATA + 508).print_eax().print("\n");
        asm.poke(Dword, DATA + 4, 0x600d_f00d);
        ata(asm, 0, 0xca, 9, &[], 512);
        ata(asm, 0, 0xe7, 0, &[], 512);
        ahci_port(asm, 3);
        // The attention of power-on, and the read.
        ata(asm, 3, 0xa0, 0, &[0; 12], 2048);
        ata(asm, 3, 0xa0, 0, &[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0], 2048);
        asm.load(Dword, DATA + 2044).print_eax().power_off();
    });
    let mut rig = Rig::new(&kernel);
    let written = image();
    let mut adapter = ahci(&mut rig);
    adapter.drives[0] = drive(&mut rig, written.try_clone().unwrap(), DriveKind::Disk, 0);
    let mut adapter = device("ide", 0x1f, PciKind::Ahci(adapter));
    adapter.address.function = 2;
    let (_, _, serial) = rig.devices(vec![adapter]).start().wait();
    let expected =
        "00000101 00000050 07070707\n00000050 00000050 eb140101 00006451 00000050 07070707";
    assert_eq!(serial, expected);
    let mut sector = [0; 512];
    written.read_exact_at(&mut sector, 9 * 512).unwrap();
    assert_eq!(sector[..9], [7, 7, 7, 7, 0x0d, 0xf0, 0x0d, 0x60, 7]);
}

/// A machine that starts at SeaBIOS; `disks` make its devices of what they are given.
fn by_seabios(machine: Machine, disks: impl FnOnce(&mut Rig) -> Vec<PciDevice>) -> String {
    let bios = std::fs::read(manor_tests::firmware::seabios().unwrap()).unwrap();
    let mut rig = Rig::new(&[]).firmware(&bios);
    rig.config.platform.machine = machine;
    let devices = disks(&mut rig);
    rig.devices(devices).start().wait().2
}

/// A disk whose boot sector reads more of itself by the BIOS, and says `name`.
pub(crate) fn boots(name: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    let image = sector::disk(|code| {
        code.print(name).read(40, 1, 0x9000).increment(0x9000).write(40, 1, 0x9000);
        code.read(40, 1, 0xa000).print_digit(0xa000).out_word(0x604, 0x3400);
    });
    file.write_all(&image).unwrap();
    file
}

fn bootable(rig: &mut Rig, name: &str, unit: u16, order: u32) -> Drive {
    Drive { boot_index: Some(order), ..drive(rig, boots(name), DriveKind::Disk, unit) }
}

#[test]
fn seabios_boots_the_scsi_disk_that_comes_first() {
    needs_kvm!();
    let serial = by_seabios(Machine::Q35, |rig| {
        let drives = vec![bootable(rig, "second ", 0, 2), bootable(rig, "first ", 3, 1)];
        let host = Scsi { drives, queues: 1, queue_size: 128, io_thread: 0 };
        vec![device("scsi0", 4, PciKind::Scsi(host))]
    });
    assert_eq!(serial, "first 1");
}

#[test]
fn seabios_boots_the_sata_disk_that_comes_first() {
    needs_kvm!();
    let serial = by_seabios(Machine::Q35, |rig| {
        let drives = vec![bootable(rig, "second ", 0, 2), bootable(rig, "first ", 1, 1), empty(2)];
        let mut adapter = device("ide", 0x1f, PciKind::Ahci(Ahci { drives, io_thread: 0 }));
        adapter.address.function = 2;
        vec![adapter]
    });
    assert_eq!(serial, "first 1");
}

/// A command to queue `queue`, the next of it being number `n`; prints its status.
pub(crate) fn nvme_command(asm: &mut Asm, queue: u32, n: u32, dwords: &[(u32, u32)]) {
    let entry = AREA + 0x1000 * queue + 64 * n;
    for (index, value) in dwords {
        asm.poke(Dword, entry + 4 * index, *value);
    }
    asm.poke(Dword, BAR + 0x1000 + 8 * queue, n + 1);
    let status = AREA + 0x4000 + 0x1000 * queue + 16 * n + 14;
    let again = asm.here();
    asm.load(Word, status).and_eax(1).jump_unless_eax_is(1, again);
    asm.load(Word, status).print_eax().print(" ");
}

/// An NVMe controller with one queue for disks, brought up; prints two statuses.
pub(crate) fn nvme_queue(asm: &mut Asm, slot: u8) {
    place_bar(asm, slot, 0, 0);
    asm.poke(Dword, BAR + 0x24, 15 << 16 | 15);
    asm.poke(Dword, BAR + 0x28, AREA).poke(Dword, BAR + 0x30, AREA + 0x4000);
    asm.poke(Dword, BAR + 0x14, 0x0046_0001);
    wait(asm, Dword, BAR + 0x1c, 1);
    let size = 15 << 16;
    nvme_command(asm, 0, 0, &[(0, 0x05), (6, AREA + 0x5000), (10, size | 1), (11, 1)]);
    nvme_command(asm, 0, 1, &[(0, 0x01), (6, AREA + 0x1000), (10, size | 1), (11, 1 << 16 | 1)]);
}

#[test]
fn a_guest_reads_and_writes_nvme_disks() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        nvme_queue(asm, 3);
        nvme_command(asm, 1, 0, &[(0, 0x02), (1, 1), (6, DATA), (10, 7), (12, 0)]);
        asm.load(Dword, DATA + 508).print_eax().print("\n");
        asm.poke(Dword, DATA + 4, 0x600d_f00d);
        nvme_command(asm, 1, 1, &[(0, 0x01), (1, 2), (6, DATA), (10, 9), (12, 0)]);
        nvme_command(asm, 1, 2, &[(0, 0x00), (1, 0xffff_ffff)]);
        nvme_command(asm, 1, 3, &[(0, 0x02), (1, 3), (6, DATA)]);
        asm.power_off();
    });
    let mut rig = Rig::new(&kernel);
    let written = image();
    let mut controller = nvme(&mut rig);
    controller.drives[1] = drive(&mut rig, written.try_clone().unwrap(), DriveKind::Disk, 1);
    let controller = device("nvme0", 3, PciKind::Nvme(controller));
    let (_, _, serial) = rig.devices(vec![controller]).start().wait();
    // The last one names no namespace: do not retry.
    let expected = "00000001 00000001 00000001 07070707\n00000001 00000001 00008017 ";
    assert_eq!(serial, expected);
    let mut sector = [0; 512];
    written.read_exact_at(&mut sector, 9 * 512).unwrap();
    assert_eq!(sector[..9], [7, 7, 7, 7, 0x0d, 0xf0, 0x0d, 0x60, 7]);
}

#[test]
fn seabios_boots_nvme_disks() {
    needs_kvm!();
    let serial = by_seabios(Machine::Q35, |rig| {
        let mut controller = |n: u16, name, order| {
            let drives = vec![bootable(rig, name, 0, order)];
            let serial = format!("test{n}");
            PciKind::Nvme(Nvme { drives, serial, queues: 1, io_thread: 0 })
        };
        vec![
            device("nvme0", 4, controller(0, "second ", 2)),
            device("nvme1", 5, controller(1, "first ", 1)),
        ]
    });
    assert_eq!(serial, "first 1");
}

#[test]
fn seabios_boots_the_ide_disk_that_comes_first() {
    needs_kvm!();
    let serial = by_seabios(Machine::Pc, |rig| {
        let mut first = bootable(rig, "first ", 1, 1);
        first.place.bus = 1;
        let drives = vec![bootable(rig, "second ", 0, 2), first];
        let mut ide = device("ide", 1, PciKind::Ide(Ide { drives, io_thread: 0 }));
        ide.address.function = 1;
        vec![ide]
    });
    assert_eq!(serial, "first 1");
}

/// A drive with a CD-ROM that says its name, reads a sector by INT 13h and powers off.
fn bootable_cdrom(rig: &mut Rig, unit: u16) -> Drive {
    let image = sector::cdrom(|code| {
        code.print("cdrom ").read(sector::CD_DATA, 1, 0x9000).print_digit(0x9000);
        code.out_word(0x604, 0x3400);
    });
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&image).unwrap();
    Drive { boot_index: Some(1), ..drive(rig, file, DriveKind::Cdrom, unit) }
}

#[test]
fn seabios_boots_cdroms_on_every_bus_that_has_them() {
    needs_kvm!();
    let scsi = by_seabios(Machine::Q35, |rig| {
        let drives = vec![bootable(rig, "disk ", 0, 2), bootable_cdrom(rig, 1)];
        let host = Scsi { drives, queues: 1, queue_size: 128, io_thread: 0 };
        vec![device("scsi0", 4, PciKind::Scsi(host))]
    });
    let sata = by_seabios(Machine::Q35, |rig| {
        let drives = vec![bootable(rig, "disk ", 0, 2), bootable_cdrom(rig, 1)];
        let mut adapter = device("ide", 0x1f, PciKind::Ahci(Ahci { drives, io_thread: 0 }));
        adapter.address.function = 2;
        vec![adapter]
    });
    let ide = by_seabios(Machine::Pc, |rig| {
        let mut cdrom = bootable_cdrom(rig, 0);
        cdrom.place.bus = 1;
        let drives = vec![bootable(rig, "disk ", 0, 2), cdrom];
        let mut ide = device("ide", 1, PciKind::Ide(Ide { drives, io_thread: 0 }));
        ide.address.function = 1;
        vec![ide]
    });
    assert_eq!([&scsi[..], &sata, &ide], ["cdrom 5"; 3]);
}
