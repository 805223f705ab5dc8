//! Guests that read and write the disks of each bus, with a driver of a few instructions.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::FileExt;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, SCRATCH, Width, pvh};
use vmm_protocol::config::{
    Cache, Discard, DiskIo, Drive, DriveIdentity, DriveKind, DrivePlace, Image, Medium, PciKind,
    Scsi,
};

use crate::devices::device;
use crate::needs_kvm;
use crate::rig::Rig;

const SECTORS: u64 = 2048;
/// Where the guest puts the device's BAR.
const BAR: u32 = 0xc000_0000;
/// Its memory for structures and data, all zeros.
const AREA: u32 = SCRATCH;
const DATA: u32 = SCRATCH + 0x1_0000;

/// An image of 1 MiB, each sector filled with its number.
fn image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[sector as u8; 512]).unwrap();
    }
    file.rewind().unwrap();
    file
}

fn drive(rig: &mut Rig, image: File, kind: DriveKind, unit: u16) -> Drive {
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
fn place_bar(asm: &mut Asm, slot: u8, function: u8, index: u8) {
    asm.pci_write(slot, function, 0x10 + 4 * index, BAR);
    if index < 5 {
        asm.pci_write(slot, function, 0x14 + 4 * index, 0);
    }
    asm.pci_write(slot, function, 0x04, 0x0007);
}

/// One request queue of a virtio SCSI host, brought up.
fn virtio_scsi(asm: &mut Asm, slot: u8) {
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

/// Command number `n` to a unit; prints status and sense key.
fn command(asm: &mut Asm, n: u16, unit: u8, cdb: &[u8], data: Option<(u32, u16)>) {
    let (request, answer) = (AREA + 0x3000, AREA + 0x4000);
    poke_bytes(asm, request, &[1, 0, 0, unit]);
    poke_bytes(asm, request + 19, &[0; 16]);
    poke_bytes(asm, request + 19, cdb);
    let write = |flags: u16| if cdb[0] == 0x2a { 0 } else { flags };
    let mut chain = vec![(request, 51, 0), (answer, 108, 2)];
    if let Some((len, _)) = data {
        let at = if cdb[0] == 0x2a { 1 } else { 2 };
        chain.insert(at, (DATA, len, write(2)));
    }
    for (index, (gpa, len, flags)) in (0..).zip(&chain) {
        let at = AREA + 16 * index;
        let next = u32::from(index + 1 < chain.len() as u32);
        asm.poke(Dword, at, *gpa).poke(Dword, at + 4, 0).poke(Dword, at + 8, *len);
        asm.poke(Dword, at + 12, u32::from(*flags) | next | (index + 1) << 16);
    }
    asm.poke(Word, AREA + 0x1004 + 2 * u32::from(n % 16), 0);
    asm.poke(Word, AREA + 0x1002, u32::from(n) + 1);
    asm.poke(Word, BAR + 0x3000 + 8, 2);
    wait(asm, Word, AREA + 0x2002, u32::from(n) + 1);
    asm.load(Byte, answer + 10).print_eax().print(" ");
}

#[test]
fn a_guest_reads_and_writes_virtio_scsi_disks() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        virtio_scsi(asm, 3);
        let read = |sector: u8| [0x28, 0, 0, 0, 0, sector, 0, 0, 1];
        // The attention of power-on is the first answer of each unit.
        command(asm, 0, 0, &read(7), Some((512, 0)));
        command(asm, 1, 0, &read(7), Some((512, 0)));
        asm.load(Dword, DATA + 508).print_eax().print("\n");
        asm.poke(Dword, DATA + 4, 0x600d_f00d);
        command(asm, 2, 0, &[0x2a, 0, 0, 0, 0, 9, 0, 0, 1], Some((512, 0)));
        command(asm, 3, 0, &[0x35], None);
        command(asm, 4, 1, &[0], None);
        command(asm, 5, 1, &read(1), Some((2048, 0)));
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
