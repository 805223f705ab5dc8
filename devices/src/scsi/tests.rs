use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::*;
use crate::backend::lane::Meter;
use crate::backend::{Action, Cache, Disk, DiskIo, DiskSpec, RawDisk};

const MIB: u64 = 1 << 20;

/// A disk of `len` bytes, its sectors filled with their number.
pub(crate) fn disk(len: u64, read_only: bool) -> (Arc<dyn Disk>, File) {
    let file = tempfile::tempfile().unwrap();
    let image: Vec<u8> = (0..len.min(4 * MIB)).map(|at| (at / 512) as u8).collect();
    file.write_all_at(&image, 0).unwrap();
    file.set_len(len).unwrap();
    let spec = DiskSpec {
        file: Arc::new(file.try_clone().unwrap()),
        read_only,
        cache: Cache::Writeback,
        discard: true,
        block_size: 512,
        io: DiskIo::Uring,
        queues: 2,
        depth: 64,
    };
    (Arc::new(RawDisk::new(spec).unwrap()), file)
}

pub(crate) fn unit(kind: UnitKind, disk: Option<Arc<dyn Disk>>) -> LogicalUnit {
    let identity = Identity {
        vendor: "MANOR".to_owned(),
        product: "HARDDISK".to_owned(),
        serial: "s-1".to_owned(),
        wwn: Some(0x5000_c500_15ea_71aa),
        rotation_rate: 1,
        removable: false,
    };
    LogicalUnit::new(kind, identity, disk, Arc::<Meter>::default())
}

struct Rig {
    unit: LogicalUnit,
}

impl Rig {
    /// Past the attention of power-on.
    fn new(kind: UnitKind, len: u64) -> Self {
        let rig = Self { unit: unit(kind, Some(disk(len, kind == UnitKind::Cdrom).0)) };
        assert_eq!(rig.run(&[0]), Err(Sense::RESET));
        rig
    }

    fn disk() -> Self {
        Self::new(UnitKind::Disk, MIB)
    }

    fn cdrom() -> Self {
        Self::new(UnitKind::Cdrom, MIB)
    }

    fn run(&self, cdb: &[u8]) -> Result<Outcome, Sense> {
        self.run_with(cdb, &[])
    }

    fn run_with(&self, cdb: &[u8], parameters: &[u8]) -> Result<Outcome, Sense> {
        self.unit.execute(&Cdb::new(cdb), &mut |place| {
            let given = parameters.get(..place.len());
            given.map(|given| place.copy_from_slice(given)).is_some()
        })
    }

    fn reply(&self, cdb: &[u8]) -> Vec<u8> {
        match self.run(cdb) {
            Ok(Outcome::Reply(data)) => data,
            other => panic!("{other:?}"),
        }
    }

    fn steps(&self, cdb: &[u8], parameters: &[u8]) -> Vec<(Action, u64)> {
        match self.run_with(cdb, parameters) {
            Ok(Outcome::Transfer(transfer)) => {
                transfer.steps.iter().map(|step| (step.action, step.offset)).collect()
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_first_command_after_power_on_hears_of_it_and_inquiry_does_not() {
    let unit = unit(UnitKind::Disk, Some(disk(MIB, false).0));
    let run = |cdb: &[u8]| unit.execute(&Cdb::new(cdb), &mut |_| false);
    assert!(run(&[0x12, 0, 0, 0, 36]).is_ok());
    assert_eq!(run(&[0]), Err(Sense::RESET));
    assert_eq!(run(&[0]), Ok(Outcome::Done));
    unit.reset();
    let Ok(Outcome::Reply(sense)) = run(&[3, 0, 0, 0, 18]) else { panic!() };
    assert_eq!((sense[2], sense[12]), (6, 0x29));
    assert_eq!(run(&[0]), Ok(Outcome::Done));
}

#[test]
fn inquiry_names_the_unit_and_is_cut_to_what_was_allocated() {
    let rig = Rig::disk();
    let data = rig.reply(&[0x12, 0, 0, 0, 255]);
    assert_eq!((data[0], data[1], data[2], data[4] as usize), (0, 0, 5, data.len() - 5));
    assert_eq!(&data[8..32], b"MANOR   HARDDISK        ");
    assert_eq!(rig.reply(&[0x12, 0, 0, 0, 5]).len(), 5);
    assert_eq!(Rig::cdrom().reply(&[0x12, 0, 0, 0, 36])[..2], [5, 0x80]);
    assert_eq!(rig.run(&[0x12, 0, 1, 0, 36]), Err(Sense::FIELD), "a page code without EVPD");
}

#[test]
fn every_page_of_product_data_that_is_listed_is_there_with_its_length() {
    for rig in [Rig::disk(), Rig::cdrom()] {
        let pages = rig.reply(&[0x12, 1, 0, 0, 255]);
        for page in &pages[4..] {
            let data = rig.reply(&[0x12, 1, *page, 0, 255]);
            assert_eq!((data[1], usize::from(data[3])), (*page, data.len() - 4));
        }
    }
    let rig = Rig::disk();
    assert_eq!(&rig.reply(&[0x12, 1, 0x80, 0, 255])[4..], b"s-1");
    let names = rig.reply(&[0x12, 1, 0x83, 0, 255]);
    assert!(names.ends_with(&0x5000_c500_15ea_71aa_u64.to_be_bytes()), "{names:x?}");
    assert_eq!(rig.reply(&[0x12, 1, 0xb1, 0, 255])[4..6], [0, 1]);
    assert_eq!(rig.run(&[0x12, 1, 0xb7, 0, 255]), Err(Sense::FIELD));
}

#[test]
fn capacity_is_the_last_block_in_both_lengths() {
    let rig = Rig::disk();
    assert_eq!(rig.reply(&[0x25]), [0, 0, 7, 0xff, 0, 0, 2, 0]);
    let long = rig.reply(&[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]);
    assert_eq!(long[..12], [0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 2, 0]);
    assert_eq!((long[13], long[14]), (3, 0x80), "4 KiB beneath, thin");
    let huge = Rig::new(UnitKind::Disk, 3 << 40);
    assert_eq!(huge.reply(&[0x25])[..4], [0xff; 4]);
    assert_eq!(Rig::cdrom().reply(&[0x25]), [0, 0, 1, 0xff, 0, 0, 8, 0]);
}

#[test]
fn transfers_of_every_length_name_their_range() {
    let rig = Rig::disk();
    let read = |cdb: &[u8], offset, len| {
        let Ok(Outcome::Transfer(transfer)) = rig.run(cdb) else { panic!("{cdb:x?}") };
        assert_eq!(transfer.direction, Direction::FromDevice);
        assert_eq!((transfer.steps[0].offset, transfer.len), (offset, len), "{cdb:x?}");
    };
    read(&[0x08, 0, 0, 2, 1], 1024, 512);
    read(&[0x08, 0, 0, 0, 0], 0, 256 * 512);
    read(&[0x28, 0, 0, 0, 0, 3, 0, 0, 2], 1536, 1024);
    read(&[0xa8, 0, 0, 0, 0, 3, 0, 0, 0, 2], 1536, 1024);
    read(&[0x88, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 2], 1536, 1024);
    assert_eq!(rig.run(&[0x28, 0, 0, 0, 0, 3]), Ok(Outcome::Done), "no block is no transfer");
    let write = rig.steps(&[0x2a, 0x08, 0, 0, 0, 1, 0, 0, 1], &[]);
    assert_eq!(write, [(Action::Write { durable: true }, 512)]);
    let write = rig.steps(&[0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], &[]);
    assert_eq!(write, [(Action::Write { durable: false }, 512)]);
}

#[test]
fn what_lies_outside_the_disk_is_refused_also_where_it_wraps() {
    let rig = Rig::disk();
    for cdb in [
        &[0x28, 0, 0, 0, 8, 0, 0, 0, 1][..],
        &[0x28, 0, 0, 0, 7, 0xff, 0, 0, 2],
        &[0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x8a, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x35, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1],
    ] {
        assert_eq!(rig.run(cdb), Err(Sense::RANGE), "{cdb:x?}");
    }
    assert_eq!(Rig::cdrom().run(&[0x28, 0, 0, 0, 2, 0, 0, 0, 1]), Err(Sense::RANGE));
    assert_eq!(
        Rig::cdrom().run(&[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Err(Sense::RANGE)
    );
}

#[test]
fn a_read_only_disk_is_not_written_to_and_says_so_before() {
    let unit = unit(UnitKind::Disk, Some(disk(MIB, true).0));
    let run = |cdb: &[u8]| {
        unit.execute(&Cdb::new(cdb), &mut |data| {
            data.fill(0);
            true
        })
    };
    let _ = run(&[0]);
    for cdb in [
        &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0x41, 0, 0, 0, 0, 0, 0, 0, 1],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24],
    ] {
        assert_eq!(run(cdb), Err(Sense::WRITE_PROTECTED), "{cdb:x?}");
    }
    let Ok(Outcome::Reply(mode)) = run(&[0x1a, 0, 0x3f, 0, 255]) else { panic!() };
    assert_eq!(mode[2] & 0x80, 0x80);
}

#[test]
fn unmap_takes_its_list_and_checks_every_range_of_it() {
    let rig = Rig::disk();
    let list = |ranges: &[(u64, u32)]| {
        let len = 16 * ranges.len() as u16;
        let mut list = [(len + 6).to_be_bytes(), len.to_be_bytes(), [0; 2], [0; 2]].concat();
        for (first, count) in ranges {
            list.extend(first.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        list
    };
    let unmap = |len: u16| [&[0x42, 0, 0, 0, 0, 0, 0][..], &len.to_be_bytes()].concat();
    let steps = rig.steps(&unmap(40), &list(&[(2, 2), (8, 1)]));
    assert_eq!(
        steps,
        [(Action::Discard { len: 1024 }, 1024), (Action::Discard { len: 512 }, 4096)]
    );
    assert_eq!(rig.run_with(&unmap(24), &list(&[(2047, 2)])), Err(Sense::RANGE));
    assert_eq!(rig.run_with(&unmap(24), &list(&[(u64::MAX, 2)])), Err(Sense::RANGE));
    assert_eq!(rig.run_with(&unmap(24), &list(&[])), Err(Sense::LIST_LENGTH), "fewer than said");
    assert_eq!(rig.run_with(&unmap(7), &list(&[])), Err(Sense::LIST_LENGTH));
    assert_eq!(rig.run_with(&unmap(0xffff), &[0; 0xffff]), Err(Sense::LIST_LENGTH));
    assert_eq!(rig.run(&unmap(0)), Ok(Outcome::Done));
}

#[test]
fn write_same_zeroes_a_range_or_repeats_a_pattern() {
    let rig = Rig::disk();
    let zero = Action::Zero { len: 8 * 512, unmap: true, durable: false };
    let cdb = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8];
    assert_eq!(rig.steps(&cdb, &[0; 512]), [(zero, 2048)]);
    let mut no_data = cdb;
    no_data[1] |= 1;
    assert_eq!(rig.steps(&no_data, &[]), [(zero, 2048)]);
    let pattern = rig.steps(&[0x41, 0, 0, 0, 0, 0, 0, 1, 1], &[7; 512]);
    let write = Action::Write { durable: false };
    assert_eq!(pattern, [(write, 0), (write, 256 * 512)]);
    assert_eq!(rig.run_with(&[0x41], &[0; 512]), Err(Sense::FIELD), "no number of blocks");
    assert_eq!(rig.run_with(&cdb, &[0; 100]), Err(Sense::FIELD));
    let big = Rig::new(UnitKind::Disk, 1 << 40);
    let all = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    assert_eq!(big.run_with(&all, &[0; 512]), Err(Sense::RANGE));
    let much = [0x93, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
    assert_eq!(big.run_with(&much, &[0; 512]), Err(Sense::FIELD));
}

#[test]
fn the_write_cache_is_shown_and_can_be_switched() {
    let rig = Rig::disk();
    let caching = |control: u8| rig.reply(&[0x1a, 8, control << 6 | 8, 0, 255])[4..7].to_vec();
    assert_eq!(caching(0), [8, 18, 4]);
    assert_eq!(caching(1), [8, 18, 4], "it can be changed");
    let mut list = vec![0; 4];
    list.extend([8, 18]);
    list.extend([0; 18]);
    assert_eq!(rig.run_with(&[0x15, 0x10, 0, 0, 24], &list), Ok(Outcome::Done));
    assert_eq!(caching(0), [8, 18, 0]);
    let write = rig.steps(&[0x2a, 0, 0, 0, 0, 1, 0, 0, 1], &[]);
    assert_eq!(write, [(Action::Write { durable: true }, 512)]);
    list[7] = 1;
    assert_eq!(rig.run_with(&[0x15, 0x10, 0, 0, 24], &list), Err(Sense::LIST_FIELD));
    list[5] = 200;
    assert_eq!(rig.run_with(&[0x15, 0x10, 0, 0, 24], &list), Err(Sense::LIST_LENGTH));
    let saved = rig.unit.save();
    let other = unit(UnitKind::Disk, Some(disk(MIB, false).0));
    other.restore(&saved);
    assert_eq!(other.save(), saved);
}

#[test]
fn all_mode_pages_add_up_to_the_length_in_the_header() {
    for rig in [Rig::disk(), Rig::cdrom()] {
        let short = rig.reply(&[0x1a, 0, 0x3f, 0, 255]);
        assert_eq!(usize::from(short[0]), short.len() - 1);
        let long = rig.reply(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0]);
        assert_eq!(usize::from(long[1]), long.len() - 2);
        assert_eq!(rig.run(&[0x1a, 0, 0xff, 0, 255]), Err(Sense::NO_SAVED_PAGES));
        assert_eq!(rig.run(&[0x1a, 0, 0x12, 0, 255]), Err(Sense::FIELD));
    }
}

#[test]
fn a_drive_opens_closes_and_tells_of_its_medium() {
    let rig = Rig::cdrom();
    let event = || rig.reply(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6].to_vec();
    assert_eq!(event(), [0, 2]);
    assert_eq!(rig.run(&[0x1e, 0, 0, 0, 1]), Ok(Outcome::Done));
    assert_eq!(rig.run(&[0x1b, 0, 0, 0, 2]), Err(Sense::REMOVAL_PREVENTED));
    assert_eq!(rig.unit.eject(false), Err(MediumLocked));
    assert_eq!(event(), [1, 2], "the host asks for it");
    assert_eq!(rig.run(&[0x1e, 0, 0, 0, 0]), Ok(Outcome::Done));
    assert_eq!(rig.run(&[0x1b, 0, 0, 0, 2]), Ok(Outcome::Done));
    assert_eq!(rig.run(&[0]), Err(Sense::TRAY_OPEN));
    assert_eq!(rig.run(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), Err(Sense::TRAY_OPEN));
    assert_eq!(rig.run(&[0x1b, 0, 0, 0, 3]), Ok(Outcome::Done));
    assert_eq!(rig.run(&[0]), Err(Sense::MEDIUM_CHANGED));
    assert_eq!(rig.run(&[0]), Ok(Outcome::Done));
    rig.unit.eject(true).unwrap();
    assert_eq!(rig.run(&[0]), Err(Sense::TRAY_OPEN));
    rig.unit.load(disk(2 * MIB, true).0);
    assert_eq!(event(), [2, 2]);
    assert_eq!(rig.run(&[0]), Err(Sense::MEDIUM_CHANGED));
    assert_eq!(rig.reply(&[0x25])[..4], [0, 0, 3, 0xff]);
}

#[test]
fn whoever_moves_the_tray_or_exchanges_the_medium_it_is_heard() {
    let rig = Rig::cdrom();
    let (trays, exchanges) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU32::new(0)));
    let (heard, counted) = (trays.clone(), exchanges.clone());
    rig.unit.on_tray(move |open| heard.lock().unwrap().push(open));
    rig.unit.on_exchange(move || _ = counted.fetch_add(1, SeqCst));
    rig.run(&[0x1b, 0, 0, 0, 2]).unwrap();
    // Open it is, whatever was locked before: nothing is in it that could be lost.
    assert_eq!(rig.run(&[0x1e, 0, 0, 0, 1]), Ok(Outcome::Done));
    rig.unit.eject(false).unwrap();
    rig.unit.load(disk(2 * MIB, true).0);
    rig.unit.load(disk(MIB, true).0);
    rig.unit.eject(false).unwrap();
    rig.unit.reset();
    assert_eq!(*trays.lock().unwrap(), [true, false, true, false]);
    assert_eq!(exchanges.load(SeqCst), 4);
}

#[test]
fn a_disk_that_has_grown_says_so_before_the_next_command() {
    let rig = Rig::disk();
    rig.unit.medium().1.unwrap().grow(8 * MIB).unwrap();
    rig.unit.resized();
    assert_eq!(rig.run(&[0]), Err(Sense::CAPACITY_CHANGED));
    let last = 8 * MIB as u32 / 512 - 1;
    assert_eq!(rig.reply(&[0x25])[..4], last.to_be_bytes());
}

#[test]
fn an_empty_drive_has_no_medium_and_answers_all_the_same() {
    let unit = unit(UnitKind::Cdrom, None);
    let run = |cdb: &[u8]| unit.execute(&Cdb::new(cdb), &mut |_| false);
    let _ = run(&[0]);
    for cdb in [&[0][..], &[0x25], &[0x43], &[0x51], &[0x28]] {
        assert_eq!(run(cdb), Err(Sense::NO_MEDIUM), "{cdb:x?}");
    }
    let Ok(Outcome::Reply(features)) = run(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0]) else { panic!() };
    assert_eq!(features[6..8], [0, 0], "no current profile");
    assert!(run(&[0x1a, 0, 0x2a, 0, 255]).is_ok());
}

#[test]
fn the_table_of_contents_has_one_track_and_the_end() {
    let rig = Rig::cdrom();
    let toc = rig.reply(&[0x43, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(toc[..4], [0, 18, 1, 1]);
    assert_eq!(toc[4..12], [0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(toc[12..20], [0, 0x14, 0xaa, 0, 0, 0, 2, 0]);
    let msf = rig.reply(&[0x43, 2, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(msf[8..12], [0, 0, 2, 0], "the first sector is at two seconds");
    assert_eq!(rig.reply(&[0x43, 0, 1, 0, 0, 0, 0, 1, 0])[..2], [0, 10]);
    assert_eq!(rig.run(&[0x43, 0, 5, 0, 0, 0, 0, 1, 0]), Err(Sense::FIELD));
    let sizes = [(MIB, 8), (1 << 30, 0x10)];
    for (size, profile) in sizes {
        let features = Rig::new(UnitKind::Cdrom, size).reply(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(features[7], profile);
        assert_eq!(features[3] as usize, features.len() - 4);
    }
}

/// Any bytes are a command: none panics, and no range leaves the disk.
#[test]
fn random_commands_stay_inside_the_disk() {
    let mut random = crate::virtio::rig::Random(0x5eed);
    for kind in [UnitKind::Disk, UnitKind::Cdrom] {
        let rig = Rig::new(kind, MIB);
        for _ in 0..20_000 {
            let mut cdb: Vec<u8> = (0..16).map(|_| random.next() as u8).collect();
            if random.below(2) == 0 {
                // Small numbers reach further.
                cdb[1..9].iter_mut().for_each(|byte| *byte &= 1);
            }
            let parameters: Vec<u8> = (0..600).map(|_| random.next() as u8).collect();
            if let Ok(Outcome::Transfer(transfer)) = rig.run_with(&cdb, &parameters) {
                for step in transfer.steps {
                    let len = match (step.action, step.data) {
                        (Action::Discard { len } | Action::Zero { len, .. }, _) => len,
                        (_, Data::All) => transfer.len,
                        (_, Data::Repeated(times)) => transfer.len * times,
                        (_, Data::None) => 0,
                    };
                    assert!(step.offset + len <= MIB, "{cdb:x?}: {step:?}");
                }
            }
        }
    }
}
