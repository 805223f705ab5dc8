//! Disks that may not do as much as they can.

use std::time::{Duration, Instant};

use baremetal::Width::Dword;
use vmm_protocol::config::{DiskLimits, DriveKind, IoRate, PciKind};
use vmm_protocol::control::{ControlErrorCode, Reply, Request};

use crate::devices::device;
use crate::disks::{self, DATA};
use crate::media::{scsi_again, watching};
use crate::needs_kvm;
use crate::rig::{Client, Guest, Rig};

const DISK: &str = "disk-disk-0";

/// A guest that reads a sector, and again, and prints each time.
fn reading(limits: Vec<DiskLimits>) -> Guest {
    let kernel = watching(
        |asm| {
            disks::virtio_scsi(asm, 3);
            scsi_again(asm, 0, &[0], None);
        },
        |asm| {
            scsi_again(asm, 0, &[0x28, 0, 0, 0, 0, 7, 0, 0, 1], Some(512));
            asm.load(Dword, DATA);
        },
    );
    let mut rig = Rig::new(&kernel);
    let mut host = disks::scsi(&mut rig);
    host.drives[0] = disks::drive(&mut rig, disks::image(), DriveKind::Disk, 0);
    rig.config.disk_limits = limits;
    rig.devices(vec![device("scsi0", 3, PciKind::Scsi(host))]).start()
}

fn limits(id: &str, average: u64) -> DiskLimits {
    let read_requests = IoRate { average, ..IoRate::default() };
    DiskLimits { id: id.to_owned(), read_requests, ..DiskLimits::default() }
}

fn reads(client: &mut Client) -> u64 {
    let Ok(Reply::Statistics(statistics)) = client.ask(Request::Statistics) else {
        panic!("no statistics")
    };
    let found = statistics.blocks.iter().find(|(id, _)| id == DISK);
    found.unwrap().1.read_requests
}

#[test]
fn a_guest_reads_no_faster_than_its_disk_may() {
    needs_kvm!();
    let guest = reading(vec![limits(DISK, 20)]);
    let (mut client, _) = guest.greet();
    let start = Instant::now();
    while reads(&mut client) < 20 {
        assert!(start.elapsed() < Duration::from_secs(30), "the guest does not come on");
    }
    // The first two or three come at once.
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
    let unknown = client.ask(Request::LimitDisk(limits("nothing", 1))).unwrap_err();
    assert_eq!(unknown.code, ControlErrorCode::NotFound);
}

#[test]
fn limits_come_and_go_and_a_guest_that_waits_is_paused_and_reset_all_the_same() {
    needs_kvm!();
    let mut guest = reading(Vec::new());
    let (mut client, _) = guest.greet();
    guest.wait_serial("a read", |serial| serial.contains("07070707\n"));
    // So little that the next read but one waits for many seconds.
    let strict =
        DiskLimits { read_bytes: IoRate { average: 10, ..IoRate::default() }, ..limits(DISK, 0) };
    assert_eq!(client.ask(Request::LimitDisk(strict)), Ok(Reply::Done));
    let settled = |client: &mut Client| {
        let start = Instant::now();
        loop {
            let before = reads(client);
            std::thread::sleep(Duration::from_millis(300));
            if reads(client) == before {
                return before;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "the guest is not limited");
        }
    };
    settled(&mut client);
    let start = Instant::now();
    for request in [Request::Pause, Request::Resume, Request::Reset] {
        assert_eq!(client.ask(request), Ok(Reply::Done));
    }
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let before = settled(&mut client);
    assert_eq!(client.ask(Request::LimitDisk(limits(DISK, 0))), Ok(Reply::Done));
    let start = Instant::now();
    while reads(&mut client) < before + 5 {
        assert!(start.elapsed() < Duration::from_secs(10), "the limit is still there");
    }
}
