//! Requests that no disk can serve (virtio 1.2 §5.2.6).

use std::fs;

use baremetal::Width::Dword;
use image::FileStorage;
use image::qcow2::{Repair, check};
use vmm_protocol::config::{DiskIo, ImageFormat};
use vmm_protocol::exit::ExitReason;

use crate::driver::{Buffer, Device, Guest, Kind, WRITE};
use crate::vm::{DISK_SIZE, Setup, Vm};
use crate::{attack, driver, without_kvm};

const READ: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const IOERR: u32 = 1;
const UNSUPP: u32 = 2;

const SECTORS: u64 = DISK_SIZE / 512;
/// Ways in which a disk is served.
const WAYS: [(DiskIo, Option<ImageFormat>); 3] =
    [(DiskIo::Uring, None), (DiskIo::Plain, None), (DiskIo::Plain, Some(ImageFormat::Qcow2))];
const DISKS: [Kind; 2] = [Kind::Disk, Kind::ReadOnlyDisk];

/// Discard or write zeroes: one segment, in the data.
fn range(guest: &mut Guest<'_>, device: &mut Device, kind: u32, sector: u64, len: u32, flags: u32) {
    let data = device.buffers + 0x200;
    guest.asm.poke(Dword, data, sector as u32).poke(Dword, data + 4, (sector >> 32) as u32);
    guest.asm.poke(Dword, data + 8, len).poke(Dword, data + 12, flags);
    guest.disk_request(device, kind, 0, &[(data.into(), 16, 0)]);
}

#[test]
fn requests_beyond_the_disk_fail_and_leave_it_alone() {
    for (io, format) in WAYS {
        attack(Setup { io, format, ..Setup::default() }, |guest, devices| {
            guest.case("sectors beyond the disk", devices, &DISKS, |guest, device| {
                let data = u64::from(device.buffers) + 0x1000;
                let sectors = [SECTORS, SECTORS - 1, u64::MAX, u64::MAX / 512, 1 << 55, 1 << 63];
                for sector in sectors {
                    guest.disk_request(device, READ, sector, &[(data, 1024, WRITE)]);
                    guest.expect("status of a read", IOERR);
                    guest.disk_request(device, OUT, sector, &[(data, 1024, 0)]);
                    guest.expect("status of a write", IOERR);
                }
            });
            guest.case("parts of blocks", devices, &DISKS, |guest, device| {
                let data = u64::from(device.buffers) + 0x1000;
                for len in [1, 511, 513] {
                    guest.disk_request(device, READ, 0, &[(data, len, WRITE)]);
                    guest.expect("status of a read", IOERR);
                    guest.disk_request(device, OUT, 0, &[(data, len, 0)]);
                    guest.expect("status of a write", IOERR);
                }
            });
            guest.case("types that do not exist", devices, &DISKS, |guest, device| {
                let data = u64::from(device.buffers) + 0x1000;
                for kind in [2, 3, 5, 7, 9, 10, 12, 14, 0x100, 0x8000_0000, u32::MAX] {
                    guest.disk_request(device, kind, 0, &[(data, 512, WRITE)]);
                    guest.expect("status of a type that does not exist", UNSUPP);
                }
            });
            guest.case("ranges beyond the disk", devices, &[Kind::Disk], |guest, device| {
                // Negotiated like by a driver that knows them.
                device.features |= 1 << 13 | 1 << 14;
                guest.bring_up(device);
                for kind in [DISCARD, WRITE_ZEROES] {
                    for (sector, len) in [
                        (0, u32::MAX),
                        (SECTORS, 1),
                        (SECTORS - 1, 2),
                        (u64::MAX, 1),
                        (u64::MAX, u32::MAX),
                        (1 << 55, 8),
                    ] {
                        range(guest, device, kind, sector, len, 0);
                        guest.expect("status of a range beyond the disk", IOERR);
                    }
                    range(guest, device, kind, 8, 8, 0xffff_fffe);
                    guest.expect("status of flags that do not exist", UNSUPP);
                    let data = u64::from(device.buffers) + 0x200;
                    for len in [1, 15, 17, 32, 4096] {
                        guest.disk_request(device, kind, 0, &[(data, len, 0)]);
                        guest.expect("status of half a segment, or two", UNSUPP);
                    }
                }
                device.features &= !(1 << 13 | 1 << 14);
            });
            guest.case("an identity that does not fit", devices, &DISKS, |guest, device| {
                let data = u64::from(device.buffers) + 0x1000;
                for len in [1, 19, 21, 4096] {
                    guest.asm.poke(Dword, data as u32 + 20, 0x600d_600d);
                    guest.disk_request(device, GET_ID, 0, &[(data, len, WRITE)]);
                }
            });
        });
    }
}

/// As many as the queue holds, which an image serves with several threads, and a reset meanwhile.
#[test]
fn many_requests_of_an_image_are_in_flight_when_its_device_is_reset() {
    let setup = Setup { format: Some(ImageFormat::Qcow2), ..Setup::default() };
    attack(setup, |guest, devices| {
        guest.case("resets of a busy image", devices, &DISKS, |guest, device| {
            for _ in 0..10 {
                let data = u64::from(device.buffers) + 0x1000;
                for sector in [0, 1000, 2000] {
                    guest.disk_request(device, READ, sector, &[(data, 512, WRITE)]);
                }
                for _ in 0..60 {
                    guest.offer_busy(device);
                }
                guest.kick(device, 0);
                guest.bring_up(device);
            }
            // In flight together, and all of them come back.
            for _ in 0..60 {
                guest.offer_busy(device);
            }
            guest.kick(device, 0);
            guest.wait_used(device, 60);
        });
    });
}

/// Broken or answered: either way the driver hears of it, unless the answer has no place to go.
#[test]
fn requests_without_their_parts_are_contained() {
    attack(Setup::default(), |guest, devices| {
        guest.case("requests without their parts", devices, &DISKS, |guest, device| {
            let (header, data) = (u64::from(device.buffers), u64::from(device.buffers) + 0x1000);
            guest.asm.poke(Dword, device.buffers, READ).poke(Dword, device.buffers + 4, 0);
            guest.asm.poke(Dword, device.buffers + 8, 0).poke(Dword, device.buffers + 12, 0);
            let requests: &[&[Buffer]] = &[
                &[(header, 16, 0)],
                &[(data, 1, WRITE)],
                &[(data, 512, WRITE)],
                &[(header, 15, 0), (data, 1, WRITE)],
                &[(header, 1, 0), (data, 513, WRITE)],
                &[(header, 16, 0), (data, 512, 0), (data, 1, 0)],
                &[(header, 8, 0), (header + 8, 8, 0), (data, 511, WRITE)],
                &[(header, 16, 0), (data, 1, WRITE)],
                &[(header, 4096, 0), (data, 1, WRITE)],
                // The status lies in its own header.
                &[(header, 16, 0), (header, 513, WRITE)],
            ];
            for request in requests {
                guest.submit(device, request);
                guest.pause(20);
                guest.runs_or_is_broken(device);
                guest.bring_up(device);
            }
        });
    });
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    if without_kvm() {
        return;
    }
    for (io, format) in WAYS {
        let mut devices = Device::all(false);
        let kernel = driver::kernel(|guest| {
            guest.start(&mut devices);
            let device = devices.iter_mut().find(|it| it.kind == Kind::ReadOnlyDisk).unwrap();
            let data = u64::from(device.buffers) + 0x1000;
            // The driver acknowledged no VIRTIO_BLK_F_RO; then, features that are not on offer.
            guest.disk_request(device, OUT, 0, &[(data, 4096, 0)]);
            guest.expect("status of a write", IOERR);
            guest.disk_request(device, FLUSH, 0, &[]);
            for kind in [DISCARD, WRITE_ZEROES] {
                range(guest, device, kind, 0, 8, 0);
                guest.expect("status of a range", UNSUPP);
            }
            guest.works(device);
        });
        let mut vm = Vm::start(Setup { io, format, ..Setup::default() }, &kernel);
        vm.read_until("DONE");
        let image = vm.read_only_disk.with_extension(if format.is_some() { "base" } else { "" });
        assert!(fs::read(image).unwrap().iter().all(|byte| *byte == 0x5a));
        assert_eq!(vm.end(), ExitReason::Shutdown);
    }
}

/// What a guest wrote and flushed lies in its image when the VMM is gone, and the image is sound; what
/// lies below is as it was.
#[test]
fn an_image_of_layers_is_whole_when_its_guest_is_gone() {
    if without_kvm() {
        return;
    }
    let mut devices = Device::all(false);
    let kernel = driver::kernel(|guest| {
        guest.start(&mut devices);
        let device = devices.iter_mut().find(|it| it.kind == Kind::Disk).unwrap();
        device.features |= 1 << 13 | 1 << 14;
        guest.bring_up(device);
        let data = device.buffers + 0x1000;
        for sector in [0, 200, 1000] {
            guest.asm.poke(Dword, data, 0x1234_5678);
            guest.disk_request(device, OUT, sector, &[(data.into(), 4096, 0)]);
            guest.expect("status of a write", 0);
        }
        for kind in [DISCARD, WRITE_ZEROES] {
            range(guest, device, kind, 128, 256, 0);
            guest.expect("status of a range", 0);
        }
        guest.disk_request(device, FLUSH, 0, &[]);
        guest.expect("status of a flush", 0);
        guest.asm.poke(Dword, data, 0);
        guest.disk_request(device, READ, 1000, &[(data.into(), 512, WRITE)]);
        guest.asm.load(Dword, data);
        guest.expect("data that was written", 0x1234_5678);
    });
    let mut vm = Vm::start(Setup { format: Some(ImageFormat::Qcow2), ..Setup::default() }, &kernel);
    vm.read_until("DONE");
    let base = fs::read(vm.disk.with_extension("base")).unwrap();
    let disk = FileStorage::new(fs::File::open(&vm.disk).unwrap()).unwrap();
    assert_eq!(vm.end(), ExitReason::Shutdown);
    assert!(base.iter().all(|byte| *byte == 0));
    let report = check(&disk, Repair::Nothing).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    assert_eq!(report.allocated_clusters, 2, "one was given up");
}

/// Images of other programs grow under a guest's writes, inside what an I/O thread may do.
#[test]
fn images_of_other_programs_take_writes() {
    if without_kvm() {
        return;
    }
    for format in [ImageFormat::Vmdk, ImageFormat::Vdi, ImageFormat::Vpc] {
        let mut devices = Device::all(false);
        let kernel = driver::kernel(|guest| {
            guest.start(&mut devices);
            let device = devices.iter_mut().find(|it| it.kind == Kind::Disk).unwrap();
            device.features |= 1 << 13 | 1 << 14;
            guest.bring_up(device);
            let data = device.buffers + 0x1000;
            for sector in [0, 200, SECTORS - 8] {
                guest.asm.poke(Dword, data, 0x1234_5678);
                guest.disk_request(device, OUT, sector, &[(data.into(), 4096, 0)]);
                guest.expect("status of a write", 0);
                guest.asm.poke(Dword, data, 0);
                guest.disk_request(device, READ, sector, &[(data.into(), 512, WRITE)]);
                guest.asm.load(Dword, data);
                guest.expect("data that was written", 0x1234_5678);
            }
            for kind in [DISCARD, WRITE_ZEROES] {
                range(guest, device, kind, 128, 256, 0);
                guest.expect("status of a range", 0);
            }
            guest.disk_request(device, FLUSH, 0, &[]);
            guest.expect("status of a flush", 0);
        });
        let mut vm = Vm::start(Setup { format: Some(format), ..Setup::default() }, &kernel);
        vm.read_until("DONE");
        assert_eq!(vm.end(), ExitReason::Shutdown);
    }
}
