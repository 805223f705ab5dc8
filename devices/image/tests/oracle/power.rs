//! A guest's requests and snapshots, with the power cut again and again: beside a flat model that
//! knows of each sector what may be in it, and with what qemu-img says of every image that was left.

use std::collections::BTreeSet;
use std::sync::Arc;

use image::qcow2::{self, CreateOptions, NewSnapshot, OpenOptions, Qcow2, Repair, SnapshotRef};
use image::torture::PowerCut;
use image::{Image as _, MemoryStorage};
use manor_tests::torture::{Scale, Tally};

use crate::rig::{Random, Rig};

const SECTOR: u64 = 512;
const SECTORS: u64 = 1200;

/// A sector is filled with one byte, and may have any of these after a cut.
type Possible = BTreeSet<u8>;

struct Flat {
    /// As the guest sees it.
    now: Vec<u8>,
    possible: Vec<Possible>,
    /// Names and contents of snapshots; they are durable at once.
    snapshots: Vec<(String, Vec<u8>)>,
}

impl Flat {
    fn set(&mut self, range: std::ops::Range<u64>, byte: u8) {
        for sector in range {
            self.now[sector as usize] = byte;
            self.possible[sector as usize].insert(byte);
        }
    }

    fn settle(&mut self) {
        for (possible, now) in self.possible.iter_mut().zip(&self.now) {
            *possible = BTreeSet::from([*now]);
        }
    }
}

fn sectors(disk: &Qcow2) -> Vec<u8> {
    let mut bytes = vec![0; (SECTORS * SECTOR) as usize];
    disk.read(&mut bytes, 0).unwrap();
    let whole = |sector: &[u8]| {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "half a sector");
        sector[0]
    };
    bytes.chunks(SECTOR as usize).map(whole).collect()
}

/// One request, and what it does to the model.
fn act(disk: &Qcow2, flat: &mut Flat, random: &mut Random, name: &mut u32) {
    let start = random.below(SECTORS);
    let most = [1, 8, 100][random.below(3) as usize];
    let end = (start + 1 + random.below(most)).min(SECTORS);
    let (offset, len) = (start * SECTOR, (end - start) * SECTOR);
    match random.below(20) {
        0..=9 => {
            let byte = random.number() as u8;
            flat.set(start..end, byte);
            disk.write(&vec![byte; len as usize], offset).unwrap();
        }
        10..=12 => {
            flat.set(start..end, 0);
            disk.write_zeroes(offset, len, random.below(2) == 0).unwrap();
        }
        13 => {
            disk.discard(offset, len).unwrap();
            // Kept or not, as the image likes; either may be what is found later.
            let now = sectors(disk);
            for sector in start..end {
                let byte = now[sector as usize];
                assert!(byte == 0 || byte == flat.now[sector as usize]);
                flat.set(sector..sector + 1, byte);
            }
        }
        14 | 15 => {
            disk.flush().unwrap();
            flat.settle();
        }
        16 | 17 if flat.snapshots.len() < 4 => {
            *name += 1;
            // No number, which might be another one's ID.
            let called = format!("s{name}");
            disk.create_snapshot(&NewSnapshot::now(&called)).unwrap();
            flat.settle();
            flat.snapshots.push((called, flat.now.clone()));
        }
        18 if !flat.snapshots.is_empty() => {
            let chosen = random.below(flat.snapshots.len() as u64) as usize;
            disk.apply_snapshot(SnapshotRef::Name(&flat.snapshots[chosen].0)).unwrap();
            flat.now = flat.snapshots[chosen].1.clone();
            flat.settle();
        }
        19 if !flat.snapshots.is_empty() => {
            let chosen = random.below(flat.snapshots.len() as u64) as usize;
            let (gone, _) = flat.snapshots.remove(chosen);
            disk.delete_snapshot(SnapshotRef::Name(&gone)).unwrap();
            flat.settle();
        }
        _ => assert!(sectors(disk) == flat.now),
    }
}

/// `rounds` lives of a host, each of which ends with a cut after some of its requests.
fn live(seed: u64, options: &CreateOptions, rounds: u32, requests: u32) {
    let rig = Rig::new();
    let mut random = Random(seed);
    let file = MemoryStorage::default();
    qcow2::create(&file, options).unwrap();
    let mut bytes = file.bytes();
    let mut name = 0;
    let mut flat = Flat {
        now: vec![0; SECTORS as usize],
        possible: vec![BTreeSet::from([0]); SECTORS as usize],
        snapshots: Vec::new(),
    };
    for round in 0..rounds {
        let cut = Arc::new(PowerCut::new(std::mem::take(&mut bytes)));
        let disk = Qcow2::open(cut.clone(), OpenOptions::default()).unwrap();
        for _ in 0..requests {
            act(&disk, &mut flat, &mut random, &mut name);
        }
        // The process is killed here: what it wrote the host has; or its power is cut, and it has
        // some of that. What is not finished when the process ends is as if it were not begun.
        let steps = cut.len();
        drop(disk);
        bytes = cut.after(steps, &mut random);
        let what = format!("seed {seed}, round {round}");

        let file = Arc::new(MemoryStorage::new(bytes.clone()));
        let report = qcow2::check(&*file, Repair::Nothing).unwrap();
        assert_eq!(report.corruptions, 0, "{what}: {:?}", report.messages);
        let read_only = OpenOptions { read_only: true, ..OpenOptions::default() };
        let now = sectors(&Qcow2::open(file.clone(), read_only).unwrap());
        for (sector, (byte, possible)) in now.iter().zip(&flat.possible).enumerate() {
            assert!(possible.contains(byte), "{what}: sector {sector}: {byte} of {possible:?}");
        }
        for (name, then) in &flat.snapshots {
            let snapshot = Some(name.clone());
            let options = OpenOptions { snapshot, ..OpenOptions::default() };
            assert!(sectors(&Qcow2::open(file.clone(), options).unwrap()) == *then, "{what}");
        }
        let listed = qcow2::describe(&*file).unwrap().snapshots;
        assert_eq!(listed.len(), flat.snapshots.len(), "{what}");
        if round % 5 == 0 || round + 1 == rounds {
            judged(&rig, &bytes, &now, &what);
        }
        flat.now = now;
        flat.settle();
    }
    // A repair gives back what the cuts lost, and changes nothing else.
    let file = Arc::new(MemoryStorage::new(bytes));
    let report = qcow2::check(&*file, Repair::Leaks).unwrap();
    assert_eq!((report.corruptions, report.leaks), (0, 0), "{:?}", report.messages);
    assert!(sectors(&Qcow2::open(file, OpenOptions::default()).unwrap()) == flat.now);
}

/// qemu-img finds lost clusters at worst, and sees the same disk.
fn judged(rig: &Rig, bytes: &[u8], now: &[u8], what: &str) {
    std::fs::write(rig.path("disk"), bytes).unwrap();
    let output = rig.try_img("check -f qcow2 disk");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{what}: {text}");
    let seen = rig.converted("qcow2", "disk");
    let seen: Vec<u8> = seen.chunks(SECTOR as usize).map(|sector| sector[0]).collect();
    assert!(seen == now, "{what}: qemu-img sees another disk");
}

fn shapes() -> Vec<CreateOptions> {
    let base = CreateOptions::new(SECTORS * SECTOR);
    vec![
        CreateOptions { cluster_size: 4096, ..base.clone() },
        CreateOptions { cluster_size: 512, refcount_bits: 8, ..base.clone() },
        CreateOptions { cluster_size: 16384, extended_l2: true, ..base.clone() },
        CreateOptions { cluster_size: 4096, version: 2, ..base },
    ]
}

#[test]
fn whatever_a_power_cut_leaves_is_sound_and_has_what_was_flushed() {
    let scale = Scale::of_environment();
    let mut tally = Tally::of("qcow2");
    let (lives, rounds, requests) = scale.pick((1, 20, 25), (8, 56, 60));
    for seed in 0..lives {
        for (shape, options) in (31..).zip(shapes()) {
            live(scale.seed * 1000 + shape + 100 * seed, &options, rounds, requests);
            tally.tried += u64::from(rounds);
            tally.contained += u64::from(rounds);
        }
    }
    let requests = tally.tried * u64::from(requests);
    tally.note = format!("power cuts amid {requests} requests and snapshots");
    tally.tell();
}
