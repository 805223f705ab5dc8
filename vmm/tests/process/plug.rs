//! Devices that come and go while a guest runs, in the slot of a root port.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use baremetal::Width::{Dword, Word};
use baremetal::{Asm, pvh};
use image::qcow2::{self, CreateOptions};
use image::{FileStorage, Reference};
use manor_tests::nbd::{NbdServer, Place};
use vmm_protocol::config::{
    Balloon, Blk, Cache, Discard, DiskIo, Drive, DriveKind, Fd, Image, ImageFormat, Input,
    InputRole, Layer, Machine, Nbd, Net, PciAddress, PciDevice, PciKind, Rng, RngRate, RootPort,
    Scsi, Vsock, VsockHost,
};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request};
use vmm_protocol::exit::ExitReason;

use crate::devices::device;
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

const PORT: u8 = 2;
/// Slot control and, above it, slot status, in the Express capability of the port.
const SLOT: u8 = 0x58;
const PRESENT: u32 = 1 << 22;
const BUTTON: u32 = 1 << 16;
/// Written to the slot, with all its events taken.
const POWER_ON: u32 = 0x001f_01c0;
const POWER_OFF: u32 = 0x001f_07c0;

/// Identity of the device behind the port.
fn identity(asm: &mut Asm) {
    asm.out(Dword, 0xcf8, 0x8001_0000).read_port(Dword, 0xcfc).print_eax();
}

/// Powers the slot on when something comes into it, and off when it is asked to.
fn careful() -> Vec<u8> {
    pvh(|asm| {
        asm.print("up\n");
        let empty = asm.here();
        asm.pci_read(PORT, 0, SLOT).and_eax(PRESENT).jump_if_eax_is(0, empty);
        asm.print("in ");
        identity(asm);
        asm.pci_write(PORT, 0, SLOT, POWER_ON);
        let present = asm.here();
        asm.pci_read(PORT, 0, SLOT).and_eax(BUTTON).jump_if_eax_is(0, present);
        asm.print(" asked ");
        asm.pci_write(PORT, 0, SLOT, POWER_OFF);
        let leaving = asm.here();
        asm.pci_read(PORT, 0, SLOT).and_eax(PRESENT).jump_unless_eax_is(0, leaving);
        identity(asm);
        asm.print("\n").jump(empty);
    })
}

/// Sees what is in the slot when it starts, and lets go of nothing.
fn stubborn() -> Vec<u8> {
    pvh(|asm| {
        asm.print("up ");
        identity(asm);
        let again = asm.here();
        asm.read_port(baremetal::Width::Byte, 0x80).jump(again);
    })
}

fn port() -> PciDevice {
    let port = RootPort { controller: 1, chassis: 1, port: 0x10 };
    device("port1", PORT, PciKind::RootPort(port))
}

fn with_port(kernel: &[u8]) -> Rig {
    Rig::new(kernel).devices(vec![port()])
}

/// A disk behind the port, whose image is the first file beside the request.
fn disk(id: &str, image: Image) -> PciDevice {
    let blk = Blk {
        image,
        read_only: false,
        cache: Cache::Writeback,
        discard: Discard::Unmap,
        serial: String::new(),
        logical_block_size: 512,
        io: DiskIo::Uring,
        queues: vec![0],
        queue_size: 128,
    };
    let address = PciAddress { bus: 1, slot: 0, function: 0 };
    PciDevice { address, ..device(id, 0, PciKind::Blk(blk)) }
}

fn raw(id: &str) -> PciDevice {
    disk(id, Image::Raw { file: Fd(0) })
}

fn attach(
    client: &mut Client,
    device: PciDevice,
    files: &[&File],
) -> Result<Reply, ControlErrorCode> {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let request = Request::Attach { device: Box::new(device), limits: None, errors: None };
    client.ask_with_files(request, &files).map_err(|error| error.code)
}

fn detach(client: &mut Client, id: &str) -> Result<Reply, ControlErrorCode> {
    client.ask(Request::Detach { id: id.to_owned() }).map_err(|error| error.code)
}

fn image() -> (tempfile::TempPath, File) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let (file, path) = file.into_parts();
    (path, file)
}

fn holds(guest: &Guest, path: &tempfile::TempPath) -> bool {
    let files = std::fs::read_dir(format!("/proc/{}/fd", guest.id())).unwrap();
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|it| *it == **path))
}

fn open_files(guest: &Guest) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", guest.id())).unwrap().count()
}

fn added(client: &mut Client, id: &str) {
    client.event_like(|kind| *kind == EventKind::DeviceAdded { id: id.to_owned() });
}

fn removed(client: &mut Client, id: &str) {
    client.event_like(|kind| *kind == EventKind::DeviceRemoved { id: id.to_owned() });
}

fn disks(client: &mut Client) -> Vec<String> {
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
    statistics.blocks.into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_disk_comes_and_goes_again_and_again_and_leaves_nothing() {
    needs_kvm!();
    let mut guest = with_port(&careful()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let before = open_files(&guest);
    for round in 1..=20 {
        let (path, file) = image();
        assert_eq!(attach(&mut client, raw("virtio-disk1"), &[&file]), Ok(Reply::Done));
        added(&mut client, "virtio-disk1");
        assert_eq!(disks(&mut client), ["virtio-disk1"]);
        guest.wait_serial("the disk", |serial| serial.matches("in 10421af4").count() == round);
        assert!(holds(&guest, &path));
        assert_eq!(detach(&mut client, "virtio-disk1"), Ok(Reply::Done));
        removed(&mut client, "virtio-disk1");
        guest.wait_serial("the empty slot", |serial| {
            serial.matches(" asked ffffffff\n").count() == round
        });
        assert!(!holds(&guest, &path));
        assert_eq!(disks(&mut client), <[String; 0]>::default());
    }
    assert_eq!(open_files(&guest), before);
}

#[test]
fn what_cannot_come_or_go_is_refused_and_changes_nothing() {
    needs_kvm!();
    let mut rig = with_port(&careful());
    let balloon = Balloon {
        current: 0,
        deflate_on_oom: false,
        free_page_reporting: false,
        statistics_period: 0,
        io_thread: 0,
    };
    rig.config.pci.push(device("balloon0", 3, PciKind::Balloon(balloon)));
    let mut guest = rig.start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    let before = open_files(&guest);
    let (_, file) = image();
    for slot in [0, PORT, 3, 0x1f, 32] {
        let mut on_root = raw("virtio-disk1");
        on_root.address = PciAddress { bus: 0, slot, function: 0 };
        assert_eq!(attach(&mut client, on_root, &[&file]), Err(ControlErrorCode::State), "{slot}");
    }
    let mut function = raw("virtio-disk1");
    function.address = PciAddress { bus: 0, slot: 9, function: 1 };
    assert_eq!(attach(&mut client, function, &[&file]), Err(ControlErrorCode::State));
    let mut nowhere = raw("virtio-disk1");
    nowhere.address.bus = 7;
    assert_eq!(attach(&mut client, nowhere, &[&file]), Err(ControlErrorCode::State));
    let mut above = raw("virtio-disk1");
    above.address.slot = 1;
    assert_eq!(attach(&mut client, above, &[&file]), Err(ControlErrorCode::State));
    assert_eq!(attach(&mut client, raw("balloon0"), &[&file]), Err(ControlErrorCode::Busy));
    assert_eq!(attach(&mut client, raw("virtio-disk1"), &[]), Err(ControlErrorCode::Failed));
    let mut another = port();
    another.id = "port2".to_owned();
    another.address.bus = 1;
    assert_eq!(attach(&mut client, another, &[]), Err(ControlErrorCode::State));
    let directory = File::open("/").unwrap();
    let mut direct = raw("virtio-disk1");
    let PciKind::Blk(blk) = &mut direct.kind else { panic!() };
    blk.cache = Cache::None;
    let refused = attach(&mut client, direct, &[&directory]);
    assert_eq!(refused, Err(ControlErrorCode::Failed));
    assert_eq!(detach(&mut client, "balloon0"), Err(ControlErrorCode::State));
    assert_eq!(detach(&mut client, "port1"), Err(ControlErrorCode::State));
    assert_eq!(detach(&mut client, "virtio-disk1"), Err(ControlErrorCode::NotFound));
    assert!(disks(&mut client).is_empty());
    assert_eq!((open_files(&guest), guest.serial()), (before, "up\n".to_owned()));
    // And what can, still can.
    assert_eq!(attach(&mut client, raw("virtio-disk1"), &[&file]), Ok(Reply::Done));
    guest.wait_serial("the disk", |serial| serial.contains("in 10421af4"));
    let taken = attach(&mut client, raw("virtio-disk2"), &[&file]);
    assert_eq!(taken, Err(ControlErrorCode::Busy));
}

#[test]
fn a_guest_that_does_not_let_go_keeps_its_disk_until_it_starts_over() {
    needs_kvm!();
    let mut guest = with_port(&stubborn()).start();
    guest.wait_serial("the guest", |serial| serial == "up ffffffff");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let (path, file) = image();
    assert_eq!(attach(&mut client, raw("virtio-disk1"), &[&file]), Ok(Reply::Done));
    client.ask(Request::Reset).unwrap();
    guest.wait_serial("the disk", |serial| serial.ends_with("up 10421af4"));
    assert_eq!(detach(&mut client, "virtio-disk1"), Ok(Reply::Done));
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(holds(&guest, &path));
    client.ask(Request::Reset).unwrap();
    removed(&mut client, "virtio-disk1");
    guest.wait_serial("the empty slot", |serial| serial.ends_with("up 10421af4up ffffffff"));
    assert!(!holds(&guest, &path));
}

#[test]
fn a_machine_is_saved_with_the_disk_that_came_and_goes_on_with_it() {
    needs_kvm!();
    let mut guest = with_port(&careful()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Pause).unwrap();
    let (_, file) = image();
    assert_eq!(attach(&mut client, raw("virtio-disk1"), &[&file]), Ok(Reply::Done));
    client.ask(Request::Resume).unwrap();
    guest.wait_serial("the disk", |serial| serial.ends_with("in 10421af4"));
    client.ask(Request::Pause).unwrap();
    let saved = tempfile::tempfile().unwrap();
    client.save(&saved).unwrap();
    drop(client);
    drop(guest);

    let mut rig = with_port(&careful());
    let image = Image::Raw { file: rig.add(file) };
    // Before others, as the definition may have it.
    let devices = vec![port(), disk("virtio-disk1", image)];
    let guest = rig.devices(devices).restoring(&saved).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    assert_eq!(disks(&mut client), ["virtio-disk1"]);
    assert_eq!(detach(&mut client, "virtio-disk1"), Ok(Reply::Done));
    removed(&mut client, "virtio-disk1");
}

/// Registers of the root bus's slots, and the status of general purpose events.
const CAME: u16 = 0xae00;
const ASKED: u16 = 0xae04;
const EJECT: u16 = 0xae08;
const EVENTS: u16 = 0x620;
const EVENT: u32 = 1 << 1;
const ROOT_SLOT: u8 = 9;

/// What a kernel's ACPI does with [`ROOT_SLOT`].
fn by_acpi() -> Vec<u8> {
    let bit = 1 << ROOT_SLOT;
    pvh(|asm| {
        asm.print("up\n");
        let empty = asm.here();
        asm.read_port(Word, EVENTS).and_eax(EVENT).jump_if_eax_is(0, empty);
        asm.out(Word, EVENTS, EVENT);
        asm.read_port(Dword, CAME).and_eax(bit).jump_if_eax_is(0, empty);
        asm.print("in ").pci_read(ROOT_SLOT, 0, 0).print_eax();
        let present = asm.here();
        asm.read_port(Dword, ASKED).and_eax(bit).jump_if_eax_is(0, present);
        asm.print(" asked ").out(Dword, EJECT, bit);
        let leaving = asm.here();
        asm.pci_read(ROOT_SLOT, 0, 0).jump_unless_eax_is(u32::MAX, leaving);
        asm.print_eax().print("\n").jump(empty);
    })
}

#[test]
fn a_disk_comes_to_the_root_bus_and_goes_by_acpi() {
    needs_kvm!();
    for machine in [Machine::Pc, Machine::Q35] {
        let mut rig = Rig::new(&by_acpi());
        rig.config.platform.machine = machine;
        let mut guest = rig.start();
        guest.wait_serial("the guest", |serial| serial == "up\n");
        let (mut client, _) = guest.greet();
        client.ask(Request::Events { after: 0 }).unwrap();
        let before = open_files(&guest);
        for round in 1..=10 {
            let (path, file) = image();
            let mut disk = raw("virtio-disk1");
            disk.address = PciAddress { bus: 0, slot: ROOT_SLOT, function: 0 };
            assert_eq!(attach(&mut client, disk, &[&file]), Ok(Reply::Done));
            guest.wait_serial("the disk", |serial| serial.matches("in 10421af4").count() == round);
            assert!(holds(&guest, &path));
            assert_eq!(detach(&mut client, "virtio-disk1"), Ok(Reply::Done));
            removed(&mut client, "virtio-disk1");
            guest.wait_serial("the empty slot", |serial| {
                serial.matches(" asked ffffffff\n").count() == round
            });
            assert!(!holds(&guest, &path));
        }
        assert_eq!(open_files(&guest), before);
    }
}

#[test]
fn a_microvm_has_no_hotplug() {
    needs_kvm!();
    let mut rig = Rig::new(&stubborn());
    rig.config.platform.machine = Machine::Microvm;
    let mut guest = rig.start();
    guest.wait_serial("the guest", |serial| serial.starts_with("up "));
    let (mut client, _) = guest.greet();
    let (_, file) = image();
    let mut disk = raw("virtio-disk1");
    disk.address = PciAddress { bus: 0, slot: ROOT_SLOT, function: 0 };
    assert_eq!(attach(&mut client, disk, &[&file]), Err(ControlErrorCode::State));
}

/// The guest's kernel does not make rings any more, nor threads: there are some in reserve.
#[test]
fn disks_on_servers_come_as_many_as_there_are_threads_for_and_go_and_come_again() {
    needs_kvm!();
    let mut rig = Rig::new(&stubborn());
    let host = Scsi { drives: Vec::new(), queues: 1, queue_size: 128, io_thread: 0 };
    let dir = tempfile::tempdir().unwrap();
    let (image, socket) = (dir.path().join("image"), dir.path().join("nbd.sock"));
    File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let place = Place::Unix(socket.clone());
    let _server = NbdServer::start(&image, &place, None).unwrap();
    let connect = || {
        let stream = UnixStream::connect(&socket).unwrap();
        stream.set_nonblocking(true).unwrap();
        File::from(OwnedFd::from(stream))
    };
    let mut late = |unit: u16, export: &str| {
        let file = tempfile::tempfile().unwrap();
        let mut drive = crate::disks::drive(&mut rig, file, DriveKind::Disk, unit);
        drive.id = format!("late{unit}");
        if let Some(medium) = &mut drive.medium {
            let (socket, export) = (Fd(0), export.to_owned());
            medium.image = Image::Nbd(Nbd { socket, export, tls: None, reconnect_delay: 60 });
        }
        drive
    };
    let drives: Vec<_> = (0..5).map(|unit| late(unit, "disk")).collect();
    let unknown = late(6, "nosuchexport");
    let guest = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start();
    let (mut client, _) = guest.greet();
    let before = open_files(&guest);
    for _ in 0..2 {
        for drive in &drives[..4] {
            attach_drive(&mut client, drive.clone(), &connect()).unwrap();
        }
        let Ok(Reply::Statistics(all)) = client.ask(Request::Statistics) else { panic!() };
        let connected = all.blocks.iter().filter(|(_, disk)| disk.connected == Some(true));
        assert_eq!(connected.count(), 4);
        let refused = attach_drive(&mut client, drives[4].clone(), &connect());
        assert_eq!(refused, Err(ControlErrorCode::Failed), "there are four threads");
        for drive in &drives[..4] {
            detach(&mut client, &drive.id).unwrap();
        }
        // One that a server refuses gives its thread back, too.
        let refused = attach_drive(&mut client, unknown.clone(), &connect());
        assert_eq!(refused, Err(ControlErrorCode::Failed));
    }
    assert_eq!(open_files(&guest), before);
    // A guest ends with one as well.
    attach_drive(&mut client, drives[0].clone(), &connect()).unwrap();
    client.ask(Request::Destroy).unwrap();
    assert_eq!(guest.wait().1.reason, ExitReason::Destroyed);
}

/// Its headers are read by a process that is confined already, and its clusters without a ring.
#[test]
fn an_image_with_a_backing_file_comes_with_all_its_files() {
    needs_kvm!();
    let (base, top) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    base.set_len(1 << 20).unwrap();
    let backing = Reference { name: "base".to_owned(), format: Some("raw".to_owned()) };
    let options = CreateOptions { backing: Some(backing), ..CreateOptions::new(1 << 20) };
    let storage = FileStorage::new(top.try_clone().unwrap()).unwrap();
    qcow2::create(&storage, &options).unwrap();
    let layer = |format, file| Layer { format, file, data_file: None, extents: Vec::new() };
    let layers = vec![layer(ImageFormat::Qcow2, Fd(0)), layer(ImageFormat::Raw, Fd(1))];
    let mut guest = with_port(&careful()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    let chain = disk("virtio-disk1", Image::Chain(layers));
    assert_eq!(attach(&mut client, chain, &[&top, &base]), Ok(Reply::Done));
    guest.wait_serial("the disk", |serial| serial.ends_with("in 10421af4"));
}

#[test]
fn an_interface_comes_and_goes() {
    needs_kvm!();
    let tap = match crate::sys::open_tap("manorplug%d") {
        Ok(tap) => File::from(tap),
        Err(error) => return println!("SKIP: no tap can be made: {error}"),
    };
    let net = Net {
        taps: vec![Fd(0)],
        stream: None,
        vhost: Vec::new(),
        mac: [0x52, 0x54, 0, 1, 2, 3],
        mtu: None,
        link_up: true,
        offloads: true,
        queues: vec![0],
        queue_size: 256,
        rom: None,
    };
    let mut interface = device("net1", 0, PciKind::Net(net));
    interface.address.bus = 1;
    let mut guest = with_port(&careful()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    assert_eq!(attach(&mut client, interface, &[&tap]), Ok(Reply::Done));
    guest.wait_serial("the interface", |serial| serial.ends_with("in 10411af4"));
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else { panic!() };
    assert_eq!(statistics.interfaces.len(), 1);
    let link = Request::SetLink { id: "net1".to_owned(), up: false };
    assert_eq!(client.ask(link.clone()), Ok(Reply::Done));
    assert_eq!(detach(&mut client, "net1"), Ok(Reply::Done));
    removed(&mut client, "net1");
    assert_eq!(client.ask(link).unwrap_err().code, ControlErrorCode::NotFound);
}

#[test]
fn small_devices_come_and_go_and_leave_nothing() {
    needs_kvm!();
    let dir = tempfile::tempdir().unwrap();
    let mut guest = with_port(&careful()).start();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let before = open_files(&guest);
    let rate = Some(RngRate { bytes: 1024, period: 100 });
    for round in 1..=3 {
        // As a daemon makes it: anew each time.
        let path = dir.path().join(format!("vsock{round}"));
        let listener = File::from(OwnedFd::from(UnixListener::bind(path).unwrap()));
        let vsock = Vsock { cid: 3, host: VsockHost::Socket { listener: Fd(0) } };
        let input = Input { role: InputRole::Keyboard, io_thread: 0 };
        for (identity, kind, files) in [
            ("10441af4", PciKind::Rng(Rng { rate, io_thread: 0 }), vec![]),
            ("10521af4", PciKind::Input(input), vec![]),
            ("10531af4", PciKind::Vsock(vsock), vec![&listener]),
        ] {
            let mut late = device("late0", 0, kind);
            late.address.bus = 1;
            assert_eq!(attach(&mut client, late, &files), Ok(Reply::Done), "{identity}");
            let seen = format!("in {identity}");
            guest.wait_serial("the device", |it| it.matches(&seen).count() == round);
            assert_eq!(detach(&mut client, "late0"), Ok(Reply::Done));
            removed(&mut client, "late0");
            let gone = format!("in {identity} asked ffffffff\n");
            guest.wait_serial("the empty slot", |it| it.matches(&gone).count() == round);
        }
    }
    assert_eq!(open_files(&guest), before);
}

fn attach_drive(client: &mut Client, drive: Drive, file: &File) -> Result<Reply, ControlErrorCode> {
    let request = Request::AttachDrive {
        host: "scsi0".to_owned(),
        drive: Box::new(drive),
        limits: None,
        errors: None,
    };
    client.ask_with_files(request, &[file.as_fd()]).map_err(|error| error.code)
}

/// The guest has no driver here: what it sees of drives, the device's own tests tell.
#[test]
fn scsi_drives_come_to_their_host_and_leave_it_at_once() {
    needs_kvm!();
    let mut rig = Rig::new(&stubborn());
    let host = Scsi { drives: Vec::new(), queues: 1, queue_size: 128, io_thread: 0 };
    let mut late = crate::disks::drive(&mut rig, tempfile::tempfile().unwrap(), DriveKind::Disk, 3);
    if let Some(medium) = &mut late.medium {
        medium.image = Image::Raw { file: Fd(0) };
    }
    let guest = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    for _ in 0..3 {
        let (path, file) = image();
        attach_drive(&mut client, late.clone(), &file).unwrap();
        client.event_like(|kind| *kind == EventKind::DeviceAdded { id: late.id.clone() });
        assert!(holds(&guest, &path));
        assert_eq!(attach_drive(&mut client, late.clone(), &file), Err(ControlErrorCode::Busy));
        let other = Drive { id: "other".to_owned(), ..late.clone() };
        let taken = attach_drive(&mut client, other, &file);
        assert_eq!(taken, Err(ControlErrorCode::Failed), "its place is taken");
        let Ok(Reply::Statistics(all)) = client.ask(Request::Statistics) else { panic!() };
        assert_eq!(all.blocks.iter().map(|(id, _)| id).collect::<Vec<_>>(), [&late.id]);
        detach(&mut client, &late.id).unwrap();
        client.event_like(|kind| *kind == EventKind::DeviceRemoved { id: late.id.clone() });
        assert!(!holds(&guest, &path));
    }
    assert_eq!(detach(&mut client, &late.id), Err(ControlErrorCode::NotFound));
    let (_, file) = image();
    let request = Request::AttachDrive {
        host: "x".to_owned(),
        drive: Box::new(late),
        limits: None,
        errors: None,
    };
    let refused = client.ask_with_files(request, &[file.as_fd()]).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::NotFound);
}
