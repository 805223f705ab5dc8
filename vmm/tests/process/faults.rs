//! Disks that the host fails: guests of every bus wait, and go on as if nothing had been.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, pvh};
use image::qcow2::{self, CreateOptions, OpenOptions, Qcow2};
use image::{FileStorage, Image as _};
use manor_tests::nbd::{NbdServer, Place};
use manor_tests::small_fs::SmallFs;
use vmm_protocol::config::{
    Ahci, DiskErrors, DriveKind, Ide, Image, ImageFormat, Layer, Machine, Nbd, Nvme, OnError,
    PciDevice, PciKind, Scsi,
};
use vmm_protocol::control::{
    BlockStatistics, ControlErrorCode, DiskFault, ErrorAction, EventKind, Reply, Request, RunState,
    StateReason,
};

use crate::devices::{blk, device};
use crate::disks::{self, ANSWER, AREA, BAR, DATA};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

const ID: &str = "disk-disk-0";
const STOP: OnError = OnError::Stop;

fn errors(id: &str, write: OnError, read: OnError) -> DiskErrors {
    DiskErrors { id: id.to_owned(), write, read }
}

fn block(client: &mut Client, id: &str) -> BlockStatistics {
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else {
        panic!("no statistics")
    };
    statistics.blocks.into_iter().find(|(other, _)| other == id).unwrap().1
}

/// Wait until the guest is paused because of disk `id`.
fn wait_for_stop(client: &mut Client, id: &str, no_space: bool) {
    let stopped = client
        .event_like(|kind| matches!(kind, EventKind::BlockError { action: ErrorAction::Stop, .. }));
    let EventKind::BlockError { id: failed, no_space: full, .. } = stopped.kind else { return };
    assert_eq!((&failed[..], full), (id, no_space));
    client.event_like(|kind| *kind == EventKind::Paused);
    let Ok(Reply::Status(status)) = client.ask(Request::Status) else { panic!("no status") };
    assert_eq!((status.state, status.reason), (RunState::Paused, StateReason::IoError));
    let fault = if no_space { DiskFault::NoSpace } else { DiskFault::Unspecified };
    assert_eq!(block(client, id).fault, Some(fault));
}

/// A guest whose disk `id` loses all of its `image` before the guest runs, and has it again when
/// that was noticed. What was saved meanwhile goes on, too, and ends the same.
fn robbed(make: impl Fn() -> Rig, image: &File, id: &str) -> String {
    let mut rig = make();
    rig.config.disk_errors = vec![errors(id, OnError::Report, OnError::Report)];
    rig.config.start_paused = true;
    let guest = rig.start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    // The policy of a running guest's disk changes.
    client.ask(Request::SetErrorPolicy(errors(id, STOP, STOP))).unwrap();
    let unknown = client.ask(Request::SetErrorPolicy(errors("vda", STOP, STOP))).unwrap_err();
    assert_eq!(unknown.code, ControlErrorCode::NotFound);
    let mut content = vec![0; image.metadata().unwrap().len() as usize];
    image.read_exact_at(&mut content, 0).unwrap();
    image.set_len(0).unwrap();
    client.ask(Request::Resume).unwrap();
    wait_for_stop(&mut client, id, false);

    let saved = tempfile::tempfile().unwrap();
    assert_eq!(client.save(&saved), Ok(Reply::Done));
    // It fails once more, and waits once more.
    client.ask(Request::Resume).unwrap();
    wait_for_stop(&mut client, id, false);
    assert!(block(&mut client, id).errors >= 2);

    image.write_all_at(&content, 0).unwrap();
    client.ask(Request::Resume).unwrap();
    let ended = guest.wait().2;

    // A guest may have written to it since.
    image.write_all_at(&content, 0).unwrap();
    let mut rig = make().restoring(&saved);
    rig.config.disk_errors = vec![errors(id, STOP, STOP)];
    let elsewhere = rig.start().wait().2;
    // What it said before, it does not say again.
    assert!(!elsewhere.is_empty() && ended.ends_with(&elsewhere), "{elsewhere}, not {ended}");
    ended
}

/// The command that reads sector 7, and what its data ends with.
fn reads_by_scsi(asm: &mut Asm) {
    disks::virtio_scsi(asm, 3);
    for (n, cdb) in (0..).zip([&[0][..], &[0x28, 0, 0, 0, 0, 7, 0, 0, 1]]) {
        disks::request(asm, 0, cdb, (n > 0).then_some(512));
        asm.poke(Word, AREA + 0x1004 + 2 * n, 0).poke(Word, AREA + 0x1002, n + 1);
        asm.poke(Word, BAR + 0x3000 + 8, 2);
        let again = asm.here();
        asm.load(Word, AREA + 0x2002).jump_unless_eax_is(n + 1, again);
    }
    asm.load(Byte, ANSWER + 10).print_eax().print(" ");
    asm.load(Dword, DATA + 508).print_eax();
}

#[test]
fn virtio_scsi_disks_wait_for_the_host() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        _ = {
            reads_by_scsi(asm);
            asm.power_off()
        }
    });
    let image = disks::image();
    let make = || {
        let mut rig = Rig::new(&kernel);
        let drive = disks::drive(&mut rig, image.try_clone().unwrap(), DriveKind::Disk, 0);
        let host = Scsi { drives: vec![drive], queues: 2, queue_size: 128, io_thread: 0 };
        rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))])
    };
    assert_eq!(robbed(make, &image, ID), "00000000 07070707");
}

#[test]
fn virtio_disks_wait_for_the_host() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        disks::place_bar(asm, 3, 0, 0);
        for status in [0, 1, 3] {
            asm.poke(Byte, BAR + 0x14, status);
        }
        asm.poke(Dword, BAR + 0x08, 1).poke(Dword, BAR + 0x0c, 1);
        asm.poke(Byte, BAR + 0x14, 0xb);
        asm.poke(Word, BAR + 0x16, 0).poke(Word, BAR + 0x18, 16);
        for (register, address) in [(0x20, AREA), (0x28, AREA + 0x1000), (0x30, AREA + 0x2000)] {
            asm.poke(Dword, BAR + register, address).poke(Dword, BAR + register + 4, 0);
        }
        asm.poke(Word, BAR + 0x1c, 1).poke(Byte, BAR + 0x14, 0xf);
        let header = AREA + 0x3000;
        asm.poke(Dword, header, 0).poke(Dword, header + 8, 7).poke(Byte, ANSWER, 0xff);
        for (n, (gpa, len, flags)) in (0..).zip([(header, 16, 1), (DATA, 512, 3), (ANSWER, 1, 2)]) {
            asm.poke(Dword, AREA + 16 * n, gpa).poke(Dword, AREA + 16 * n + 8, len);
            asm.poke(Dword, AREA + 16 * n + 12, flags | (n + 1) << 16);
        }
        asm.poke(Word, AREA + 0x1002, 1).poke(Word, BAR + 0x3000, 0);
        let again = asm.here();
        asm.load(Word, AREA + 0x2002).jump_unless_eax_is(1, again);
        asm.load(Byte, ANSWER).print_eax().print(" ");
        asm.load(Dword, DATA + 508).print_eax().power_off();
    });
    let image = disks::image();
    let make = || {
        let mut rig = Rig::new(&kernel);
        let disk = blk(&mut rig, image.try_clone().unwrap());
        rig.devices(vec![device("virtio-disk0", 3, PciKind::Blk(disk))])
    };
    assert_eq!(robbed(make, &image, "virtio-disk0"), "00000000 07070707");
}

#[test]
fn sata_disks_wait_for_the_host() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        disks::place_bar(asm, 0x1f, 2, 5);
        disks::ahci_port(asm, 0);
        disks::ata(asm, 0, 0xc8, 7, &[], 512);
        asm.load(Dword, DATA + 508).print_eax().power_off();
    });
    let image = disks::image();
    let make = || {
        let mut rig = Rig::new(&kernel);
        let drive = disks::drive(&mut rig, image.try_clone().unwrap(), DriveKind::Disk, 0);
        let ahci = PciKind::Ahci(Ahci { drives: vec![drive], io_thread: 0 });
        let mut adapter = device("ide", 0x1f, ahci);
        adapter.address.function = 2;
        rig.devices(vec![adapter])
    };
    assert_eq!(robbed(make, &image, ID), "00000101 00000050 07070707");
}

#[test]
fn nvme_disks_wait_for_the_host() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        disks::nvme_queue(asm, 3);
        disks::nvme_command(asm, 1, 0, &[(0, 0x02), (1, 1), (6, DATA), (10, 7), (12, 0)]);
        asm.load(Dword, DATA + 508).print_eax().power_off();
    });
    let image = disks::image();
    let make = || {
        let mut rig = Rig::new(&kernel);
        let drive = disks::drive(&mut rig, image.try_clone().unwrap(), DriveKind::Disk, 0);
        let (drives, serial) = (vec![drive], "test".to_owned());
        let controller = Nvme { drives, serial, queues: 2, io_thread: 0 };
        rig.devices(vec![device("nvme0", 3, PciKind::Nvme(controller))])
    };
    assert_eq!(robbed(make, &image, ID), "00000001 00000001 00000001 07070707");
}

#[test]
fn ide_disks_wait_for_the_host() {
    needs_kvm!();
    let bios = std::fs::read(manor_tests::firmware::seabios().unwrap()).unwrap();
    let image = disks::boots("booted ");
    let make = || {
        let mut rig = Rig::new(&[]).firmware(&bios);
        rig.config.platform.machine = Machine::Pc;
        let mut drive = disks::drive(&mut rig, image.try_clone().unwrap(), DriveKind::Disk, 0);
        drive.boot_index = Some(1);
        let mut ide = device("ide", 1, PciKind::Ide(Ide { drives: vec![drive], io_thread: 0 }));
        ide.address.function = 1;
        rig.devices(vec![ide])
    };
    assert_eq!(robbed(make, &image, ID), "booted 1");
}

/// Where the guest writes: the first bytes of each step.
const STEP: u64 = 128 << 10;
const STEPS: u32 = 60;
const SIZE: u64 = STEP * (STEPS as u64 + 1);
const COUNT: u32 = AREA + 0x6000;
/// In it there is no room for so many pages.
const SMALL: u64 = 96 << 10;

/// Writes the number of each step to its place, and says so at the end.
fn filling() -> Vec<u8> {
    pvh(|asm| {
        disks::virtio_scsi(asm, 3);
        disks::request(asm, 0, &[0], None);
        let submit = |asm: &mut Asm| {
            asm.load(Word, COUNT).add_eax(1).and_eax(0xffff).store(Word, COUNT);
            asm.store(Word, AREA + 0x1002).poke(Word, BAR + 0x3000 + 8, 2);
            let again = asm.here();
            asm.load(Word, AREA + 0x2002).jump_unless_eax_is_at(Word, COUNT, again);
        };
        submit(asm);
        disks::request(asm, 0, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1], Some(512));
        let again = asm.here();
        // Byte 4 of the command counts 128 KiB.
        asm.load(Dword, DATA).add_eax(1).store(Dword, DATA).store(Byte, AREA + 0x3000 + 19 + 4);
        submit(asm);
        let failed = asm.label();
        asm.load(Byte, ANSWER + 10).jump_unless_eax_is(0, failed);
        asm.load(Dword, DATA).jump_unless_eax_is(STEPS, again);
        asm.print("all").power_off();
        asm.place(failed).print("failed at ");
        asm.load(Dword, DATA).print_eax().power_off();
    })
}

fn on(rig: &mut Rig, image: Image, policy: OnError) {
    let mut drive = disks::drive(rig, tempfile::tempfile().unwrap(), DriveKind::Disk, 0);
    if let Some(medium) = &mut drive.medium {
        medium.image = image;
    }
    let host = Scsi { drives: vec![drive], queues: 1, queue_size: 128, io_thread: 0 };
    let devices: Vec<PciDevice> = vec![device("scsi0", 3, PciKind::Scsi(host))];
    rig.config.pci = devices;
    rig.config.disk_errors = vec![errors(ID, policy, OnError::Report)];
}

/// A guest fills the file system that its disk is on; it is made larger, and the guest goes on.
fn fills(fs: &SmallFs, guest: Guest) {
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    wait_for_stop(&mut client, ID, true);
    fs.resize(SMALL * 64).unwrap();
    client.ask(Request::Resume).unwrap();
    assert_eq!(guest.wait().2, "all");
}

fn check(read: impl Fn(u64) -> u32) {
    let wrong: Vec<_> = (1..=STEPS).filter(|step| read(u64::from(*step) * STEP) != *step).collect();
    assert!(wrong.is_empty(), "lost: {wrong:?}");
}

fn small_fs(bytes: u64) -> Option<SmallFs> {
    let fs = SmallFs::new(bytes);
    fs.inspect_err(|error| println!("SKIP: no file system of our own: {error}")).ok()
}

fn number_at(file: &File, at: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn a_raw_disk_that_ran_full_goes_on_when_there_is_room() {
    needs_kvm!();
    let Some(fs) = small_fs(SMALL) else { return };
    let file = fs.file("disk").unwrap();
    file.set_len(SIZE).unwrap();
    let mut rig = Rig::new(&filling());
    let raw = Image::Raw { file: rig.add(file.try_clone().unwrap()) };
    on(&mut rig, raw, OnError::Enospace);
    fills(&fs, rig.start());
    check(|at| number_at(&file, at));
}

#[test]
fn a_qcow2_disk_that_ran_full_goes_on_when_there_is_room() {
    needs_kvm!();
    let Some(fs) = small_fs(SMALL) else { return };
    let file = fs.file("disk").unwrap();
    let storage = FileStorage::new(file.try_clone().unwrap()).unwrap();
    qcow2::create(&storage, &CreateOptions::new(SIZE)).unwrap();
    let mut rig = Rig::new(&filling());
    let layer = Layer {
        format: ImageFormat::Qcow2,
        file: rig.add(file.try_clone().unwrap()),
        data_file: None,
        extents: Vec::new(),
    };
    on(&mut rig, Image::Chain(vec![layer]), STOP);
    fills(&fs, rig.start());
    let report = qcow2::check(&storage, qcow2::Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    let image = Qcow2::open(Arc::new(storage), OpenOptions::default()).unwrap();
    check(|at| {
        let mut bytes = [0; 4];
        image.read(&mut bytes, at).unwrap();
        u32::from_le_bytes(bytes)
    });
}

#[test]
fn a_disk_whose_server_ran_full_goes_on_when_there_is_room() {
    needs_kvm!();
    let Some(fs) = small_fs(SMALL) else { return };
    let file = fs.file("disk").unwrap();
    file.set_len(SIZE).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("nbd.sock");
    let _server = NbdServer::start(&fs.path("disk"), &Place::Unix(place.clone()), None).unwrap();
    let socket = UnixStream::connect(&place).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut rig = Rig::new(&filling());
    let export = "disk".to_owned();
    let nbd = Nbd { socket: rig.add(socket), export, tls: None, reconnect_delay: 10 };
    on(&mut rig, Image::Nbd(nbd), OnError::Enospace);
    fills(&fs, rig.start());
    check(|at| number_at(&file, at));
}

#[test]
fn a_guest_that_is_to_hear_of_a_full_disk_hears_of_it() {
    needs_kvm!();
    for (policy, expected) in [(OnError::Report, "failed at 000000"), (OnError::Ignore, "all")] {
        let Some(fs) = small_fs(SMALL) else { return };
        let file = fs.file("disk").unwrap();
        file.set_len(SIZE).unwrap();
        let mut rig = Rig::new(&filling());
        let raw = Image::Raw { file: rig.add(file) };
        on(&mut rig, raw, policy);
        let serial = rig.start().wait().2;
        assert!(serial.starts_with(expected), "{policy:?}: {serial}");
    }
}

#[test]
fn a_guest_that_waits_for_its_disk_is_reset_and_destroyed_all_the_same() {
    needs_kvm!();
    let Some(fs) = small_fs(SMALL) else { return };
    let file = fs.file("disk").unwrap();
    file.set_len(SIZE).unwrap();
    let mut rig = Rig::new(&filling());
    let raw = Image::Raw { file: rig.add(file) };
    on(&mut rig, raw, STOP);
    let guest = rig.start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    wait_for_stop(&mut client, ID, true);
    assert_eq!(client.ask(Request::Pause), Ok(Reply::Done));
    // Reset, it stays paused, and has forgotten what its disk owed it.
    assert_eq!(client.ask(Request::Reset), Ok(Reply::Done));
    assert_eq!((guest.state(), block(&mut client, ID).fault), (RunState::Paused, None));
    assert!(client.save(&tempfile::tempfile().unwrap()).is_ok());
    client.ask(Request::Resume).unwrap();
    wait_for_stop(&mut client, ID, true);
    let refused = client.ask(Request::PowerButton).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::State);
    client.send(Request::Destroy);
    assert!(guest.wait().0.success());
}
