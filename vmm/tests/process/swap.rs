//! Disks whose images are exchanged beneath a guest that uses them.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, pvh};
use image::qcow2::{self, CreateOptions, OpenOptions, Qcow2, Repair};
use image::{FileStorage, Image as _, Raw, Reference};
use vmm_protocol::config::{
    Ahci, DriveKind, Fd, Ide, ImageFormat, Layer, Machine, Nvme, PciDevice, PciKind, Scsi,
};
use vmm_protocol::control::{ControlErrorCode, DiskSwap, Reply, Request, SwapLayer};

use crate::devices::{blk, device};
use crate::disks::{self, ANSWER, AREA, BAR, DATA};
use crate::media::{scsi_again, settle, watching};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

pub(crate) const SIZE: u64 = 1 << 20;

pub(crate) fn layer(format: ImageFormat, file: i32) -> SwapLayer {
    SwapLayer::New(Layer { format, file: Fd(file), data_file: None, extents: Vec::new() })
}

pub(crate) fn swap(id: &str, layers: Vec<SwapLayer>) -> DiskSwap {
    DiskSwap { id: id.to_owned(), layers }
}

pub(crate) fn ask(
    client: &mut Client,
    swaps: Vec<DiskSwap>,
    files: &[&File],
) -> Result<Reply, ControlErrorCode> {
    let files: Vec<BorrowedFd<'_>> = files.iter().map(|file| file.as_fd()).collect();
    client.ask_with_files(Request::SwapDisks { swaps }, &files).map_err(|error| error.code)
}

/// An overlay of a raw image, with a sector 7 of its own.
pub(crate) fn overlay(size: u64, byte: Option<u8>) -> File {
    let file = tempfile::tempfile().unwrap();
    let backing = Reference { name: "base".to_owned(), format: Some("raw".to_owned()) };
    let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(size) };
    let storage = Arc::new(FileStorage::new(file.try_clone().unwrap()).unwrap());
    qcow2::create(&*storage, &options).unwrap();
    if let Some(byte) = byte {
        let below: Arc<dyn image::Image> =
            Arc::new(Raw::open(Arc::new(FileStorage::new(disks::image()).unwrap()), true).unwrap());
        let options = OpenOptions { backing: Some(below), ..OpenOptions::default() };
        let image = Qcow2::open(storage, options).unwrap();
        image.write(&[byte; 512], 7 * 512).unwrap();
    }
    file
}

/// Whether the VMM has this file open.
fn holds(guest: &Guest, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let wanted = file.metadata().unwrap();
    let files = std::fs::read_dir(format!("/proc/{}/fd", guest.id())).unwrap();
    files.flatten().any(|file| {
        let found = std::fs::metadata(file.path());
        found.is_ok_and(|it| (it.dev(), it.ino()) == (wanted.dev(), wanted.ino()))
    })
}

/// The guest reads sector 7 of disk `id` all the time, and prints how it ends.
fn exchange(
    machine: Machine,
    kernel: &[u8],
    device: impl FnOnce(&mut Rig, File) -> PciDevice,
    id: &str,
) {
    let mut rig = Rig::new(kernel);
    rig.config.platform.machine = machine;
    let devices = vec![device(&mut rig, disks::image())];
    let mut guest = rig.devices(devices).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the raw image", |serial| serial.contains("07070707\n"));

    let (first, second) = (overlay(SIZE, Some(0xa1)), overlay(SIZE, Some(0xb2)));
    let chain = vec![layer(ImageFormat::Qcow2, 0), SwapLayer::Kept(0)];
    assert_eq!(ask(&mut client, vec![swap(id, chain)], &[&first]), Ok(Reply::Done));
    guest.wait_serial("an overlay", |serial| serial.ends_with("a1a1a1a1\n"));

    client.ask(Request::Pause).unwrap();
    let chain = vec![layer(ImageFormat::Qcow2, 0), SwapLayer::Kept(1)];
    assert_eq!(ask(&mut client, vec![swap(id, chain)], &[&second]), Ok(Reply::Done));
    assert!(!holds(&guest, &first), "what is no part of the disk is closed");
    client.ask(Request::Resume).unwrap();
    guest.wait_serial("another overlay", |serial| serial.ends_with("b2b2b2b2\n"));

    // What is refused changes nothing.
    let larger = overlay(2 * SIZE, None);
    for (id, chain, code) in [
        (id, vec![layer(ImageFormat::Qcow2, 0), SwapLayer::Kept(1)], ControlErrorCode::Failed),
        (id, vec![layer(ImageFormat::Qcow2, 0)], ControlErrorCode::Failed),
        (id, vec![], ControlErrorCode::Failed),
        (id, vec![SwapLayer::Kept(2)], ControlErrorCode::Malformed),
        ("nothing", vec![SwapLayer::Kept(0)], ControlErrorCode::NotFound),
    ] {
        assert_eq!(ask(&mut client, vec![swap(id, chain)], &[&larger]), Err(code));
    }
    let seen = guest.serial().len();
    guest.wait_serial("more of it", |serial| serial[seen..].contains("b2b2b2b2\n"));
    assert!(!holds(&guest, &larger));

    assert_eq!(ask(&mut client, vec![swap(id, vec![SwapLayer::Kept(1)])], &[]), Ok(Reply::Done));
    guest.wait_serial("the raw image again", |serial| serial.ends_with(" 07070707\n"));
    // A reset finds the same.
    client.ask(Request::Reset).unwrap();
    let seen = guest.serial().len();
    guest.wait_serial("a reset", |serial| serial[seen..].contains("07070707\n"));
}

fn drive(rig: &mut Rig, file: File) -> vmm_protocol::config::Drive {
    disks::drive(rig, file, DriveKind::Disk, 0)
}

const ID: &str = "disk-disk-0";

#[test]
fn scsi_disks_are_exchanged() {
    needs_kvm!();
    let kernel = watching(
        |asm| {
            disks::virtio_scsi(asm, 3);
            asm.poke(Word, AREA + 0x2002, 0).poke(Word, AREA + 0x1002, 0).poke(Word, COUNT, 0);
            scsi_again(asm, 0, &[0], None);
        },
        |asm| {
            scsi_again(asm, 0, &[0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0], Some(512));
            asm.load(Dword, DATA + 508);
        },
    );
    let host = |rig: &mut Rig, file: File| {
        let drives = vec![drive(rig, file)];
        device("scsi0", 3, PciKind::Scsi(Scsi { drives, queues: 2, queue_size: 128, io_thread: 0 }))
    };
    exchange(Machine::Q35, &kernel, host, ID);
}

/// How many commands there were.
const COUNT: u32 = crate::media::COUNT;

#[test]
fn sata_disks_are_exchanged() {
    needs_kvm!();
    let kernel = watching(
        |asm| {
            disks::place_bar(asm, 0x1f, 2, 5);
            disks::ahci_port(asm, 0);
        },
        |asm| {
            disks::ata(asm, 0, 0xc8, 7, &[], 512);
            asm.load(Dword, DATA + 508);
        },
    );
    let adapter = |rig: &mut Rig, file: File| {
        let drives = vec![drive(rig, file)];
        let mut adapter = device("ide", 0x1f, PciKind::Ahci(Ahci { drives, io_thread: 0 }));
        adapter.address.function = 2;
        adapter
    };
    exchange(Machine::Q35, &kernel, adapter, ID);
}

#[test]
fn ide_disks_are_exchanged() {
    needs_kvm!();
    const PORTS: u16 = 0x1f0;
    let kernel = watching(
        |_| {},
        |asm| {
            asm.out(Byte, PORTS + 6, 0xe0).out(Byte, PORTS + 2, 1).out(Byte, PORTS + 3, 7);
            asm.out(Byte, PORTS + 4, 0).out(Byte, PORTS + 5, 0).out(Byte, PORTS + 7, 0x20);
            settle(asm, PORTS);
            asm.read_port(Byte, PORTS + 7).print_eax().print(" ");
            asm.repeat(254, |asm| _ = asm.read_port(Word, PORTS));
            asm.read_port(Word, PORTS).store(Word, DATA).read_port(Word, PORTS);
            asm.store(Word, DATA + 2).load(Dword, DATA);
        },
    );
    let ide = |rig: &mut Rig, file: File| {
        let drives = vec![drive(rig, file)];
        let mut ide = device("ide", 1, PciKind::Ide(Ide { drives, io_thread: 0 }));
        ide.address.function = 1;
        ide
    };
    exchange(Machine::Pc, &kernel, ide, ID);
}

#[test]
fn nvme_disks_are_exchanged() {
    needs_kvm!();
    let kernel = watching(
        |_| {},
        |asm| {
            // Each round brings the controller up anew: its queues have no end then.
            disks::place_bar(asm, 3, 0, 0);
            asm.poke(Dword, BAR + 0x14, 0);
            let again = asm.here();
            asm.load(Dword, BAR + 0x1c).and_eax(1).jump_unless_eax_is(0, again);
            for entry in [0x4000, 0x4010, 0x5000] {
                asm.poke(Dword, AREA + entry + 12, 0);
            }
            disks::nvme_queue(asm, 3);
            let read = [(0, 0x02), (1, 1), (6, DATA), (10, 7), (12, 0)];
            disks::nvme_command(asm, 1, 0, &read);
            asm.load(Dword, DATA + 508);
        },
    );
    let controller = |rig: &mut Rig, file: File| {
        let drives = vec![drive(rig, file)];
        let serial = "test".to_owned();
        device("nvme0", 3, PciKind::Nvme(Nvme { drives, serial, queues: 1, io_thread: 0 }))
    };
    exchange(Machine::Q35, &kernel, controller, ID);
}

const HEADER: u32 = AREA + 0x3000;
/// The index that the driver offers next.
const NEXT: u32 = AREA + 0x6000;
pub(crate) const NUMBER: u32 = AREA + 0x6004;

/// One queue of a virtio disk, brought up.
pub(crate) fn virtio_disk(asm: &mut Asm) {
    disks::place_bar(asm, 3, 0, 0);
    for status in [0, 1, 3] {
        asm.poke(Byte, BAR + 0x14, status);
    }
    // With FLUSH, so that a write need not be durable.
    asm.poke(Dword, BAR + 0x08, 0).poke(Dword, BAR + 0x0c, 1 << 9);
    asm.poke(Dword, BAR + 0x08, 1).poke(Dword, BAR + 0x0c, 1);
    asm.poke(Byte, BAR + 0x14, 0xb);
    asm.poke(Word, BAR + 0x16, 0).poke(Word, BAR + 0x18, 16);
    for (register, address) in [(0x20, AREA), (0x28, AREA + 0x1000), (0x30, AREA + 0x2000)] {
        asm.poke(Dword, BAR + register, address).poke(Dword, BAR + register + 4, 0);
    }
    asm.poke(Word, BAR + 0x1c, 1).poke(Byte, BAR + 0x14, 0xf);
    for address in [AREA + 0x1002, AREA + 0x2002, NEXT] {
        asm.poke(Word, address, 0);
    }
    asm.poke(Dword, NUMBER, 0);
}

/// Read (0) or write (1) a sector; `eax` has its number.
pub(crate) fn request(asm: &mut Asm, kind: u32) {
    asm.store(Dword, HEADER + 8).poke(Dword, HEADER, kind).poke(Dword, HEADER + 12, 0);
    asm.poke(Byte, ANSWER, 0xff);
    let data = if kind == 0 { 3 } else { 1 };
    for (n, (gpa, len, flags)) in (0..).zip([(HEADER, 16, 1), (DATA, 512, data), (ANSWER, 1, 2)]) {
        asm.poke(Dword, AREA + 16 * n, gpa).poke(Dword, AREA + 16 * n + 8, len);
        asm.poke(Dword, AREA + 16 * n + 12, flags | (n + 1) << 16);
    }
    asm.load(Word, NEXT).add_eax(1).and_eax(0xffff).store(Word, NEXT);
    asm.store(Word, AREA + 0x1002).poke(Word, BAR + 0x3000, 0);
    let again = asm.here();
    asm.load(Word, AREA + 0x2002).jump_unless_eax_is_at(Word, NEXT, again);
}

#[test]
fn virtio_disks_are_exchanged() {
    needs_kvm!();
    let kernel = watching(virtio_disk, |asm| {
        asm.poke(Dword, NUMBER, 7).load(Dword, NUMBER);
        request(asm, 0);
        asm.load(Byte, ANSWER).print_eax().print(" ").load(Dword, DATA + 508);
    });
    let disk = |rig: &mut Rig, file: File| device("virtio-disk0", 3, PciKind::Blk(blk(rig, file)));
    exchange(Machine::Q35, &kernel, disk, "virtio-disk0");
}

/// Numbers sectors in steps of three, over and over, and looks after each whether it is there.
pub(crate) fn busy(mask: u32) -> Vec<u8> {
    pvh(|asm| {
        virtio_disk(asm);
        let (again, bad) = (asm.here(), asm.label());
        asm.load(Dword, NUMBER).add_eax(3).and_eax(mask).store(Dword, NUMBER).store(Dword, DATA);
        request(asm, 1);
        asm.load(Byte, ANSWER).and_eax(0xff).jump_unless_eax_is(0, bad);
        asm.poke(Dword, DATA, 0xffff_ffff).load(Dword, NUMBER);
        request(asm, 0);
        asm.load(Dword, DATA).jump_unless_eax_is_at(Dword, NUMBER, bad);
        asm.print(".").jump(again);
        asm.place(bad).print("bad").stop();
    })
}

/// The guest writes and reads back; meanwhile its overlay is closed and opened again, over one base
/// and a copy of it.
#[test]
fn nothing_is_lost_of_what_a_guest_writes_meanwhile() {
    needs_kvm!();
    let kernel = busy(0x7ff);
    let mut rig = Rig::new(&kernel);
    let (base, mut copy) = (disks::image(), tempfile::tempfile().unwrap());
    let mut content = vec![0; SIZE as usize];
    base.read_exact_at(&mut content, 0).unwrap();
    copy.write_all(&content).unwrap();
    let file = blk(&mut rig, base.try_clone().unwrap());
    let mut guest = rig.devices(vec![device("virtio-disk0", 3, PciKind::Blk(file))]).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the guest", |serial| serial.len() > 20);
    // From now on the base is only read; what it has by then belongs to the copy, too.
    let overlay = overlay(SIZE, None);
    client.ask(Request::Pause).unwrap();
    base.read_exact_at(&mut content, 0).unwrap();
    copy.write_all_at(&content, 0).unwrap();
    let mut chain = vec![layer(ImageFormat::Qcow2, 0), SwapLayer::Kept(0)];
    let mut files = vec![&overlay];
    for round in 0..60 {
        let asked = vec![swap("virtio-disk0", chain)];
        assert_eq!(ask(&mut client, asked, &files), Ok(Reply::Done), "{round}");
        if round == 0 {
            client.ask(Request::Resume).unwrap();
        }
        let seen = guest.serial().len();
        guest.wait_serial("more", |serial| serial.len() > seen + 2 || serial.contains("bad"));
        let other = layer(ImageFormat::Raw, 0);
        chain = vec![SwapLayer::Kept(0), if round % 2 == 0 { SwapLayer::Kept(1) } else { other }];
        files = vec![if round % 4 == 1 { &copy } else { &base }];
    }
    client.ask(Request::Pause).unwrap();
    assert!(!guest.serial().contains("bad"), "{}", guest.serial());
    let mut now = vec![0; SIZE as usize];
    base.read_exact_at(&mut now, 0).unwrap();
    assert!(now == content, "the base was written to");
    drop(guest);
    let storage = FileStorage::new(overlay).unwrap();
    let report = qcow2::check(&storage, Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0));
    assert!(report.allocated_clusters > 5);
}

#[test]
fn disks_are_exchanged_together_or_not_at_all() {
    needs_kvm!();
    let kernel = watching(virtio_disk, |asm| {
        asm.poke(Dword, NUMBER, 7).load(Dword, NUMBER);
        request(asm, 0);
        asm.load(Dword, DATA + 508);
    });
    let mut rig = Rig::new(&kernel);
    let mut devices = Vec::new();
    for (id, slot) in [("virtio-disk0", 3), ("virtio-disk1", 4)] {
        devices.push(device(id, slot, PciKind::Blk(blk(&mut rig, disks::image()))));
    }
    let mut guest = rig.devices(devices).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the guest", |serial| serial.contains("07070707\n"));
    let (good, bad) = (overlay(SIZE, Some(0xa1)), overlay(2 * SIZE, None));
    let chain = |n| vec![layer(ImageFormat::Qcow2, n), SwapLayer::Kept(0)];
    let both = || vec![swap("virtio-disk0", chain(0)), swap("virtio-disk1", chain(1))];
    let twice = vec![swap("virtio-disk0", chain(0)), swap("virtio-disk0", chain(1))];
    assert_eq!(ask(&mut client, both(), &[&good, &bad]), Err(ControlErrorCode::Failed));
    assert_eq!(ask(&mut client, twice, &[&good, &good]), Err(ControlErrorCode::Malformed));
    let seen = guest.serial().len();
    guest.wait_serial("more", |serial| serial.len() > seen + 30);
    assert!(!guest.serial().contains("a1a1"), "{}", guest.serial());
    let other = overlay(SIZE, None);
    assert_eq!(ask(&mut client, both(), &[&good, &other]), Ok(Reply::Done));
    guest.wait_serial("the overlay", |serial| serial.contains("a1a1a1a1\n"));
    assert!(holds(&guest, &other) && !holds(&guest, &bad));
}

#[test]
fn a_medium_that_was_there_at_the_start_is_closed_when_it_goes() {
    needs_kvm!();
    let mut rig = Rig::new(&pvh(|asm| _ = asm.print("up\n").stop()));
    let file = disks::image();
    let drive = disks::drive(&mut rig, file.try_clone().unwrap(), DriveKind::Cdrom, 1);
    let host = Scsi { drives: vec![drive], queues: 1, queue_size: 128, io_thread: 0 };
    let mut guest = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    assert!(holds(&guest, &file));
    let id = "disk-cdrom-1".to_owned();
    assert_eq!(client.ask(Request::Eject { id: id.clone(), force: false }), Ok(Reply::Done));
    assert!(!holds(&guest, &file));
    let kept = vec![swap(&id, vec![SwapLayer::Kept(0)])];
    assert_eq!(ask(&mut client, kept, &[]), Err(ControlErrorCode::NotFound));
}
