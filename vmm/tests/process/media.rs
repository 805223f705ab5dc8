//! Media that are exchanged and disks that grow while a guest uses them.

use std::fs::File;
use std::io::Write as _;

use baremetal::Width::{Byte, Dword, Word};
use baremetal::{Asm, pvh};
use vmm_protocol::config::{Cache, DriveKind, Machine, PciDevice, PciKind};
use vmm_protocol::control::{ControlErrorCode, EventKind, Reply, Request};

use crate::devices::{blk, device};
use crate::disks::{self, ANSWER, AREA, BAR, DATA};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

/// A medium that lies under a name, so that one can see who has it open.
fn medium(byte: u8) -> (tempfile::TempPath, File) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[byte; 64 << 10]).unwrap();
    let (file, path) = file.into_parts();
    (path, file)
}

fn insert(id: &str, force: bool, source: &str) -> Request {
    let (id, source) = (id.to_owned(), source.to_owned());
    Request::Insert { id, force, cache: Cache::None, source }
}

fn eject(id: &str, force: bool) -> Request {
    Request::Eject { id: id.to_owned(), force }
}

/// Whether the VMM still has this file.
fn holds(guest: &Guest, path: &tempfile::TempPath) -> bool {
    let files = std::fs::read_dir(format!("/proc/{}/fd", guest.id())).unwrap();
    files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|it| *it == **path))
}

fn wait_until_gone(guest: &Guest, path: &tempfile::TempPath) {
    for _ in 0..3000 {
        if !holds(guest, path) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    panic!("the VMM keeps {}", path.display());
}

fn moved(client: &mut Client, id: &str, open: bool) {
    let wanted = EventKind::TrayMoved { id: id.to_owned(), open };
    client.event_like(|kind| *kind == wanted);
}

fn changed(client: &mut Client, id: &str, source: Option<&str>) {
    let source = source.map(str::to_owned);
    let wanted = EventKind::MediumChanged { id: id.to_owned(), source };
    client.event_like(|kind| *kind == wanted);
}

/// `read` reads the drive's second sector to [`DATA`], once and again, and prints its end.
fn reading(prepare: impl FnOnce(&mut Asm), read: impl FnOnce(&mut Asm)) -> Vec<u8> {
    pvh(|asm| {
        prepare(asm);
        let again = asm.here();
        asm.poke(Dword, DATA + 2044, 0);
        read(asm);
        asm.load(Dword, DATA + 2044).print_eax().print("\n");
        asm.repeat(1000, |asm| {
            asm.read_port(Byte, 0x80);
        });
        asm.jump(again);
    })
}

const READ: [u8; 12] = [0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0];

/// The drive `id` holds the usual image: out with it, in with others, and the guest sees each.
fn exchange_media(machine: Machine, kernel: &[u8], devices: fn(&mut Rig) -> PciDevice, id: &str) {
    let mut rig = Rig::new(kernel);
    rig.config.platform.machine = machine;
    let devices = vec![devices(&mut rig)];
    let mut guest = rig.devices(devices).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    guest.wait_serial("the first medium", |serial| serial.contains("07070707\n"));
    let ((first_path, first), (path, second)) = (medium(0xa1), medium(0xb2));

    assert_eq!(client.ask_with(insert(id, false, "first"), &first), Ok(Reply::Done));
    drop(first);
    changed(&mut client, id, Some("first"));
    guest.wait_serial("another medium", |serial| serial.ends_with("a1a1a1a1\n"));
    assert_eq!(client.ask(eject(id, false)), Ok(Reply::Done));
    changed(&mut client, id, None);
    moved(&mut client, id, true);
    // It is let go of whether the guest looks or not.
    wait_until_gone(&guest, &first_path);
    guest.wait_serial("no medium", |serial| serial.ends_with(" 00000000\n"));
    assert_eq!(client.ask_with(insert(id, false, "second"), &second), Ok(Reply::Done));
    changed(&mut client, id, Some("second"));
    moved(&mut client, id, false);
    guest.wait_serial("the next medium", |serial| serial.ends_with("b2b2b2b2\n"));

    // While it is paused, and what cannot be.
    client.ask(Request::Pause).unwrap();
    assert_eq!(client.ask(eject(id, false)), Ok(Reply::Done));
    client.ask(Request::Resume).unwrap();
    wait_until_gone(&guest, &path);
    let directory = File::open("/").unwrap();
    let refused = client.ask_with(insert(id, false, "nothing"), &directory).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Failed, "{refused}");
    let refused = client.ask(insert(id, false, "nothing")).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Malformed, "{refused}");
    assert_eq!(client.ask(eject("vda", true)).unwrap_err().code, ControlErrorCode::NotFound);
}

#[test]
fn a_guest_sees_the_media_that_come_into_its_scsi_drive() {
    needs_kvm!();
    let kernel = reading(
        |asm| disks::virtio_scsi(asm, 3),
        |asm| scsi_again(asm, 1, &READ[..10], Some(2048)),
    );
    let host = |rig: &mut Rig| device("scsi0", 3, PciKind::Scsi(disks::scsi(rig)));
    exchange_media(Machine::Q35, &kernel, host, "disk-cdrom-1");
}

/// How many commands there were.
pub(crate) const COUNT: u32 = AREA + 0x6000;

/// A command that can be given any number of times; prints its status.
pub(crate) fn scsi_again(asm: &mut Asm, unit: u8, cdb: &[u8], data: Option<u32>) {
    disks::request(asm, unit, cdb, data);
    // Each place of the ring is zero, which is the first descriptor.
    asm.load(Word, COUNT).add_eax(1).and_eax(0xffff).store(Word, COUNT);
    asm.store(Word, AREA + 0x1002).poke(Word, BAR + 0x3000 + 8, 2);
    let again = asm.here();
    asm.load(Word, AREA + 0x2002).jump_unless_eax_is_at(Word, COUNT, again);
    asm.load(Byte, ANSWER + 10).print_eax().print(" ");
}

#[test]
fn a_guest_sees_the_media_that_come_into_its_sata_drive() {
    needs_kvm!();
    let kernel = reading(
        |asm| {
            disks::place_bar(asm, 0x1f, 2, 5);
            disks::ahci_port(asm, 3);
        },
        |asm| disks::ata(asm, 3, 0xa0, 0, &READ, 2048),
    );
    let adapter = |rig: &mut Rig| {
        let mut adapter = device("ide", 0x1f, PciKind::Ahci(disks::ahci(rig)));
        adapter.address.function = 2;
        adapter
    };
    exchange_media(Machine::Q35, &kernel, adapter, "disk-cdrom-3");
}

#[test]
fn a_guest_sees_the_media_that_come_into_its_ide_drive() {
    needs_kvm!();
    /// Of the second channel.
    const PORTS: u16 = 0x170;
    let kernel = reading(
        |_| {},
        |asm| {
            // A packet, with as many bytes at a time as there are.
            asm.out(Byte, PORTS + 6, 0xa0).out(Byte, PORTS + 1, 0);
            asm.out(Byte, PORTS + 4, 0).out(Byte, PORTS + 5, 8).out(Byte, PORTS + 7, 0xa0);
            settle(asm, PORTS);
            for pair in READ.chunks_exact(2) {
                asm.out(Word, PORTS, u16::from_le_bytes([pair[0], pair[1]]).into());
            }
            settle(asm, PORTS);
            let failed = asm.label();
            asm.read_port(Byte, PORTS + 7).print_eax().print(" ");
            asm.read_port(Byte, PORTS + 7).and_eax(8).jump_if_eax_is(0, failed);
            asm.repeat(1022, |asm| _ = asm.read_port(Word, PORTS));
            asm.read_port(Word, PORTS).store(Word, DATA + 2044);
            asm.read_port(Word, PORTS).store(Word, DATA + 2046);
            asm.place(failed);
        },
    );
    exchange_media(Machine::Pc, &kernel, disks::ide, "disk-cdrom-0");
}

/// Until the drive is not busy.
pub(crate) fn settle(asm: &mut Asm, ports: u16) {
    let again = asm.here();
    asm.read_port(Byte, ports + 7).and_eax(0x80).jump_unless_eax_is(0, again);
}

#[test]
fn a_drive_that_the_guest_has_locked_opens_by_force_only_and_its_own_eject_is_told() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        disks::virtio_scsi(asm, 3);
        let packet = |asm: &mut Asm, cdb: &[u8]| scsi_again(asm, 1, cdb, None);
        packet(asm, &[0]);
        packet(asm, &[0x1e, 0, 0, 0, 1, 0]);
        asm.print("locked\n");
        // Until the medium is gone.
        let again = asm.here();
        packet(asm, &[0]);
        asm.load(Byte, ANSWER + 10).jump_if_eax_is(0, again);
        // Shut it, and open it again.
        packet(asm, &[0x1b, 0, 0, 0, 3, 0]);
        packet(asm, &[0x1b, 0, 0, 0, 2, 0]);
        asm.print("opened\n").stop();
    });
    let mut rig = Rig::new(&kernel);
    let host = disks::scsi(&mut rig);
    let mut guest = rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    guest.wait_serial("the lock", |serial| serial.contains("locked\n"));
    let id = "disk-cdrom-1";
    let refused = client.ask(eject(id, false)).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Busy);
    assert_eq!(refused.message, "the guest has locked the medium in its drive");
    let (_path, file) = medium(1);
    let refused = client.ask_with(insert(id, false, ""), &file).unwrap_err();
    assert_eq!(refused.code, ControlErrorCode::Busy);
    assert_eq!(client.ask(eject(id, true)), Ok(Reply::Done));
    guest.wait_serial("the guest's own eject", |serial| serial.contains("opened\n"));
    moved(&mut client, id, true);
}

/// Prints the dword at `address`, once and again.
pub(crate) fn watching(prepare: impl FnOnce(&mut Asm), look: impl FnOnce(&mut Asm)) -> Vec<u8> {
    pvh(|asm| {
        prepare(asm);
        let again = asm.here();
        look(asm);
        asm.print_eax().print("\n");
        asm.repeat(1000, |asm| _ = asm.read_port(Byte, 0x80)).jump(again);
    })
}

fn grow(client: &mut Client, id: &str, bytes: u64) -> Result<Reply, ControlErrorCode> {
    let request = Request::ResizeDisk { id: id.to_owned(), bytes };
    client.ask(request).map_err(|error| error.code)
}

#[test]
fn a_guest_sees_its_disks_grow() {
    needs_kvm!();
    let blk_kernel = watching(
        |asm| disks::place_bar(asm, 3, 0, 0),
        // The capacity in the configuration space.
        |asm| _ = asm.load(Dword, BAR + 0x2000),
    );
    let scsi_kernel = watching(
        |asm| {
            disks::virtio_scsi(asm, 3);
            scsi_again(asm, 0, &[0], None);
        },
        |asm| {
            scsi_again(asm, 0, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], Some(8));
            asm.load(Dword, DATA);
        },
    );
    for (kernel, id, before, after) in [
        (blk_kernel, "virtio-disk0", "00000800\n", "00001000\n"),
        // The last block, with the first byte first.
        (scsi_kernel, "disk-disk-0", "ff070000\n", "ff0f0000\n"),
    ] {
        let mut rig = Rig::new(&kernel);
        let file = disks::image();
        let kind = match id {
            "virtio-disk0" => PciKind::Blk(blk(&mut rig, file.try_clone().unwrap())),
            _ => {
                let mut host = disks::scsi(&mut rig);
                let file = file.try_clone().unwrap();
                host.drives[0] = disks::drive(&mut rig, file, DriveKind::Disk, 0);
                PciKind::Scsi(host)
            }
        };
        let name = if id == "virtio-disk0" { id } else { "scsi0" };
        let mut guest = rig.devices(vec![device(name, 3, kind)]).start();
        let (mut client, _) = guest.greet();
        guest.wait_serial("the size", |serial| serial.ends_with(before));
        assert_eq!(grow(&mut client, id, 2 << 20), Ok(Reply::Done));
        guest.wait_serial("the new size", |serial| serial.ends_with(after));
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
        assert_eq!(grow(&mut client, id, 1 << 20), Err(ControlErrorCode::Failed));
        assert_eq!(grow(&mut client, "nothing", 1 << 20), Err(ControlErrorCode::NotFound));
        assert_eq!(file.metadata().unwrap().len(), 2 << 20);
    }
}
