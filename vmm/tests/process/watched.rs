//! What is watched over of a guest that runs: how far it writes into its images, and to how much of its memory.

use std::time::{Duration, Instant};

use baremetal::Width::Dword;
use baremetal::pvh;
use vmm_protocol::control::{ControlErrorCode, DirtyRate, EventKind, Reply, Request, Statistics};

use crate::needs_kvm;
use crate::rig::{Client, Rig};
use crate::snapshots::{qcow2_file, rig};

/// Where the guest's one sector ends, in a raw image.
const END: u64 = 8 * 512;

fn statistics(client: &mut Client) -> Statistics {
    match client.ask(Request::Statistics) {
        Ok(Reply::Statistics(statistics)) => statistics,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_image_that_is_written_to_beyond_a_place_is_told_of_once() {
    needs_kvm!();
    let (qcow2, raw) = (qcow2_file(), crate::disks::image());
    let guest = rig(&[&qcow2], &[&raw]).start();
    let (mut client, _) = guest.greet();
    client.ask(Request::Events { after: 0 }).unwrap();
    let set = |client: &mut Client, unit: u16, image, place| {
        let (id, name) = (format!("disk-disk-{unit}"), format!("disk {unit}"));
        client.ask(Request::SetThreshold { id, image, place, name }).map_err(|error| error.code)
    };
    let passed = |kind: &EventKind| matches!(kind, EventKind::ThresholdPassed { .. });
    // What lies just where it ends is not passed.
    assert_eq!(set(&mut client, 1, 0, Some(END)), Ok(Reply::Done));
    let written = |client: &mut Client| statistics(client).blocks[1].1.write_requests;
    let before = written(&mut client);
    while written(&mut client) < before + 3 {}
    let places: Vec<_> = statistics(&mut client).blocks.iter().map(|it| it.1.threshold).collect();
    assert_eq!(places, [None, Some(END)]);

    assert_eq!(set(&mut client, 1, 0, Some(END - 1)), Ok(Reply::Done));
    let EventKind::ThresholdPassed { id, name, threshold, excess } = client.event_like(passed).kind
    else {
        unreachable!()
    };
    assert_eq!((&*id, &*name, threshold, excess), ("disk-disk-1", "disk 1", END - 1, 1));
    assert_eq!(statistics(&mut client).blocks[1].1.threshold, None, "it is told once");

    // In a qcow2 image the sector lies somewhere else.
    assert_eq!(set(&mut client, 0, 0, Some(END)), Ok(Reply::Done));
    let EventKind::ThresholdPassed { id, excess, .. } = client.event_like(passed).kind else {
        unreachable!()
    };
    assert_eq!(id, "disk-disk-0");
    assert_eq!((END + excess) % 65536, END, "it ends where it ends in its cluster");
    assert!(excess >= 65536, "{excess}");

    for (unit, image) in [(1, 1), (2, 0)] {
        assert_eq!(set(&mut client, unit, image, None), Err(ControlErrorCode::NotFound));
    }
}

#[test]
fn how_much_memory_a_guest_writes_to_is_measured_and_no_longer() {
    needs_kvm!();
    let kernel = pvh(|asm| {
        asm.print("up\n");
        let again = asm.here();
        asm.sweep(32 << 20, 36 << 20, 4096, |asm| _ = asm.store_there(Dword));
        asm.jump(again);
    });
    let mut guest = Rig::new(&kernel).memory(64).start();
    let (mut client, _) = guest.greet();
    guest.wait_serial("the guest", |serial| serial == "up\n");
    assert_eq!(statistics(&mut client).dirty_rate, None);
    let mut measure = |seconds| {
        let asked = client.ask(Request::MeasureDirtyRate { seconds });
        asked.map_err(|error| error.code)
    };
    for seconds in [0, 61] {
        assert_eq!(measure(seconds), Err(ControlErrorCode::Malformed));
    }
    assert_eq!(measure(1), Ok(Reply::Done));
    assert_eq!(measure(1), Err(ControlErrorCode::Busy));
    let begun = Instant::now();
    let rate = loop {
        let found = statistics(&mut client).dirty_rate;
        let Some(DirtyRate { started, seconds, rate }) = found.map(|found| *found) else {
            panic!("nothing is measured")
        };
        assert!(started > 1_700_000_000 && seconds == 1);
        match rate {
            Some(rate) => break rate,
            None => assert!(begun.elapsed() < Duration::from_secs(30)),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    // 4 MiB, and hardly anything else, in about a second.
    assert!((1..=6).contains(&rate), "{rate}");
    client.ask(Request::Pause).unwrap();
    let refused = client.ask(Request::MeasureDirtyRate { seconds: 1 });
    assert_eq!(refused.unwrap_err().code, ControlErrorCode::State);
}
