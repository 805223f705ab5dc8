//! Internal snapshots of disks that a guest writes to.

use std::fs::File;
use std::sync::Arc;

use baremetal::Width::{Dword, Word};
use baremetal::pvh;
use image::qcow2::{self, CreateOptions, NewSnapshot, OpenOptions, Qcow2, Repair};
use image::{FileStorage, Image as _, SnapshotInfo, Storage};
use vmm_protocol::config::{self, DriveKind, ImageFormat, Layer, PciKind, Scsi};
use vmm_protocol::control::{ControlErrorCode, Reply, Request};

use crate::devices::device;
use crate::disks::{self, AREA, DATA};
use crate::media::{COUNT, scsi_again};
use crate::needs_kvm;
use crate::rig::{Client, Rig};
use crate::swap::NUMBER;

const SIZE: u64 = 1 << 20;
const DATE: u64 = 1_700_000_000;

fn storage(file: &File) -> Arc<dyn Storage> {
    Arc::new(FileStorage::new(file.try_clone().unwrap()).unwrap())
}

pub(crate) fn qcow2_file() -> File {
    let file = tempfile::tempfile().unwrap();
    qcow2::create(&*storage(&file), &CreateOptions::new(SIZE)).unwrap();
    file
}

/// Writes a number to the first disk, then to the second, then the next one, for ever.
fn counting() -> Vec<u8> {
    pvh(|asm| {
        disks::virtio_scsi(asm, 3);
        asm.poke(Word, AREA + 0x2002, 0).poke(Word, AREA + 0x1002, 0).poke(Word, COUNT, 0);
        asm.poke(Dword, NUMBER, 0);
        let again = asm.here();
        asm.load(Dword, NUMBER).add_eax(1).store(Dword, NUMBER).store(Dword, DATA);
        for unit in [0, 1] {
            scsi_again(asm, unit, &[0x2a, 0, 0, 0, 0, 7, 0, 0, 1, 0], Some(512));
        }
        asm.jump(again);
    })
}

/// A SCSI host with a disk on each of these images; those that are raw last.
pub(crate) fn rig(images: &[&File], raw: &[&File]) -> Rig {
    let mut rig = Rig::new(&counting());
    let mut drives = Vec::new();
    for (unit, file) in (0..).zip(images.iter().chain(raw)) {
        let mut drive = disks::drive(&mut rig, file.try_clone().unwrap(), DriveKind::Disk, unit);
        if usize::from(unit) < images.len()
            && let Some(medium) = &mut drive.medium
            && let config::Image::Raw { file } = medium.image
        {
            let format = ImageFormat::Qcow2;
            let layer = Layer { format, file, data_file: None, extents: Vec::new() };
            medium.image = config::Image::Chain(vec![layer]);
        }
        drives.push(drive);
    }
    let scsi = Scsi { drives, queues: 2, queue_size: 128, io_thread: 0 };
    rig.devices(vec![device("scsi0", 3, PciKind::Scsi(scsi))])
}

fn ids(units: &[u16]) -> Vec<String> {
    units.iter().map(|unit| format!("disk-disk-{unit}")).collect()
}

fn take(client: &mut Client, units: &[u16], name: &str) -> Result<Reply, ControlErrorCode> {
    let (ids, name) = (ids(units), name.to_owned());
    let asked = client.ask(Request::SnapshotDisks { ids, name, date: DATE });
    asked.map_err(|error| error.code)
}

fn delete(client: &mut Client, units: &[u16], name: &str) -> Result<Reply, ControlErrorCode> {
    let (ids, name) = (ids(units), name.to_owned());
    client.ask(Request::DeleteDiskSnapshots { ids, name }).map_err(|error| error.code)
}

fn snapshots(file: &File) -> Vec<SnapshotInfo> {
    let report = qcow2::check(&*storage(file), Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    qcow2::describe(&*storage(file)).unwrap().snapshots
}

fn names(file: &File) -> Vec<String> {
    snapshots(file).into_iter().map(|snapshot| snapshot.name).collect()
}

/// What the guest wrote, as a snapshot has it, or as it is now.
fn number(file: &File, snapshot: Option<&str>) -> u32 {
    let snapshot = snapshot.map(str::to_owned);
    let options = OpenOptions { read_only: true, snapshot, ..OpenOptions::default() };
    let mut bytes = [0; 4];
    Qcow2::open(storage(file), options).unwrap().read(&mut bytes, 7 * 512).unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn disks_are_kept_as_they_were_at_one_moment() {
    needs_kvm!();
    let (first, second) = (qcow2_file(), qcow2_file());
    let mut guest = rig(&[&first, &second], &[]).start();
    let (mut client, _) = guest.greet();
    let all = ["one", "two", "three", "four"];
    for name in all {
        let seen = guest.serial().len();
        guest.wait_serial("more", |serial| serial.len() > seen + 100);
        assert_eq!(take(&mut client, &[0, 1], name), Ok(Reply::Done));
    }
    let seen = guest.serial().len();
    guest.wait_serial("more", |serial| serial.len() > seen + 100);
    assert_eq!(delete(&mut client, &[0, 1], "two"), Ok(Reply::Done));
    assert_eq!(delete(&mut client, &[0, 1], "two"), Ok(Reply::Done), "it is gone anyway");
    client.ask(Request::Pause).unwrap();
    assert_eq!(take(&mut client, &[0, 1], "paused"), Ok(Reply::Done));
    drop(guest);

    let mut last = 0;
    for name in ["one", "three", "four", "paused"] {
        let (a, b) = (number(&first, Some(name)), number(&second, Some(name)));
        assert!(a == b || a == b + 1, "{name}: {a} and {b}");
        assert!(a > last, "{name}: {a} after {last}");
        last = a;
    }
    assert_eq!(number(&first, None), last);
    for file in [&first, &second] {
        assert_eq!(names(file), ["one", "three", "four", "paused"]);
        let found = snapshots(file);
        assert!(found.iter().all(|it| u64::from(it.date) == DATE && it.vm_clock > 0), "{found:?}");
        assert!(found.is_sorted_by_key(|it| it.vm_clock), "{found:?}");
    }
}

#[test]
fn where_one_disk_cannot_be_kept_none_is() {
    needs_kvm!();
    let (first, second, raw) = (qcow2_file(), qcow2_file(), disks::image());
    let there = Qcow2::open(storage(&second), OpenOptions::default()).unwrap();
    there.create_snapshot(&NewSnapshot::now("taken")).unwrap();
    drop(there);
    let mut guest = rig(&[&first, &second], &[&raw]).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the guest", |serial| serial.len() > 100);
    for (units, name, code) in [
        (&[0, 1][..], "taken", ControlErrorCode::Failed),
        (&[0, 1], "", ControlErrorCode::Failed),
        (&[0, 2], "new", ControlErrorCode::State),
        (&[0, 3], "new", ControlErrorCode::NotFound),
        (&[0, 0], "new", ControlErrorCode::Malformed),
    ] {
        assert_eq!(take(&mut client, units, name), Err(code), "{units:?} {name:?}");
    }
    let seen = guest.serial().len();
    guest.wait_serial("more", |serial| serial.len() > seen + 100);
    drop(guest);
    assert_eq!(names(&first), Vec::<String>::new());
    assert_eq!(names(&second), ["taken"]);
    assert_eq!(number(&second, Some("taken")), 0);
}
