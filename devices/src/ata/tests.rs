use std::sync::Arc;

use super::*;
use crate::ata::spec::{SECTOR, command, error};
use crate::backend::Action;
use crate::backend::lane::Meter;
use crate::scsi::UnitKind;
use crate::scsi::tests::{disk as image, unit};

const MIB: u64 = 1 << 20;

pub(crate) fn identity(parallel: bool) -> AtaIdentity {
    AtaIdentity {
        model: "MANOR HARDDISK".to_owned(),
        serial: "s-1".to_owned(),
        wwn: Some(0x5000_c500_15ea_71aa),
        rotation_rate: 1,
        parallel,
    }
}

fn disk(len: u64, read_only: bool) -> AtaDisk {
    let meter = Arc::<Meter>::default();
    AtaDisk::new(image(len, read_only).0, identity(false), meter)
}

fn task(command: u8, lba: u64, count: u16) -> TaskFile {
    TaskFile { command, features: 0, lba, count, device: 0x40 }
}

fn range(work: &Work) -> (Action, u64, u64) {
    match work {
        Work::Transfer(transfer) => (transfer.action, transfer.offset, transfer.len),
        other => panic!("{other:?}"),
    }
}

fn words(work: Work) -> Vec<u16> {
    let Work::Input(data) = work else { panic!("{work:?}") };
    assert_eq!(data.len() as u64, SECTOR);
    assert_eq!(data.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
    data.chunks_exact(2).map(|word| u16::from_le_bytes([word[0], word[1]])).collect()
}

#[test]
fn a_disk_says_what_it_is() {
    let words = words(disk(MIB, false).execute(&task(command::IDENTIFY, 0, 0)));
    assert_eq!(words[60], 2048);
    assert_eq!(words[100], 2048);
    assert_eq!((words[10], words[11]), (0x732d, 0x3120), "s-1, bytes swapped");
    assert_eq!(words[83] & 0x0400, 0x0400, "48 bits");
    assert_eq!(words[88], 0x207f, "Ultra DMA 5 of 6");
    assert_eq!((words[76] & 0x100, words[75]), (0x100, 31), "a native queue");
    assert_eq!((words[108], words[111]), (0x5000, 0x71aa));
    assert_eq!((words[106], words[169], words[217]), (0x6003, 1, 1));
}

#[test]
fn ranges_come_in_three_kinds_of_address() {
    let disk = disk(MIB, false);
    let read = Action::Read;
    assert_eq!(range(&disk.execute(&task(command::READ_DMA, 3, 2))), (read, 1536, 1024));
    assert_eq!(range(&disk.execute(&task(command::READ_DMA, 0, 0))), (read, 0, 256 * 512));
    assert_eq!(range(&disk.execute(&task(command::READ_DMA_EXT, 3, 0x101))).2, 0x101 * 512);
    // Sector 2 of the second head of the first cylinder.
    let geometry = TaskFile { device: 0x01, lba: 2, ..task(command::READ_SECTORS, 0, 1) };
    assert_eq!(range(&disk.execute(&geometry)), (read, 64 * 512, 512));
    let nowhere = TaskFile { device: 0, lba: 0, ..task(command::READ_SECTORS, 0, 1) };
    assert_eq!(disk.execute(&nowhere), Work::Failed(error::IDNF));
}

#[test]
fn what_lies_outside_the_disk_is_not_found() {
    let disk = disk(MIB, false);
    for task in [
        task(command::READ_DMA, 2048, 1),
        task(command::READ_DMA, 2047, 2),
        task(command::READ_DMA_EXT, 0, 0),
        task(command::WRITE_DMA_EXT, 0xffff_ffff_ffff, 1),
        task(command::READ_VERIFY_EXT, 2048, 1),
    ] {
        assert_eq!(disk.execute(&task), Work::Failed(error::IDNF), "{task:x?}");
    }
    let queued = TaskFile { features: 2, ..task(command::READ_QUEUED, 2047, 0) };
    assert_eq!(disk.execute_queued(&queued), Work::Failed(error::IDNF));
}

#[test]
fn the_write_cache_decides_what_is_durable() {
    let disk = disk(MIB, false);
    let write = |command| range(&disk.execute(&task(command, 0, 1))).0;
    assert_eq!(write(command::WRITE_DMA), Action::Write { durable: false });
    assert_eq!(write(command::WRITE_DMA_FUA_EXT), Action::Write { durable: true });
    let off = TaskFile { features: 0x82, ..task(command::SET_FEATURES, 0, 0) };
    assert_eq!(disk.execute(&off), Work::Done { count: None, lba: None });
    assert_eq!(write(command::WRITE_DMA), Action::Write { durable: true });
    let other = self::disk(MIB, false);
    other.restore(&disk.save());
    assert_eq!(other.save(), disk.save());
    disk.reset();
    assert_eq!(write(command::WRITE_DMA), Action::Write { durable: false });
}

#[test]
fn a_read_only_disk_aborts_what_would_change_it() {
    let disk = disk(MIB, true);
    let trim = TaskFile { features: 1, ..task(command::DATA_SET_MANAGEMENT, 0, 1) };
    for task in [task(command::WRITE_DMA, 0, 1), task(command::WRITE_SECTORS_EXT, 0, 1), trim] {
        assert_eq!(disk.execute(&task), Work::Failed(error::ABRT));
    }
    let queued = TaskFile { features: 1, ..task(command::WRITE_QUEUED, 0, 0) };
    assert_eq!(disk.execute_queued(&queued), Work::Failed(error::ABRT));
}

#[test]
fn trims_name_their_ranges_and_all_are_checked() {
    let disk = disk(MIB, false);
    let trim = TaskFile { features: 1, ..task(command::DATA_SET_MANAGEMENT, 0, 1) };
    assert_eq!(disk.execute(&trim), Work::Trim { len: 512 });
    let entry = |first: u64, count: u64| (first | count << 48).to_le_bytes();
    let list = [entry(8, 4), entry(0, 0), entry(16, 1)].concat();
    assert_eq!(disk.trim_ranges(&list), Ok(vec![(4096, 2048), (8192, 512)]));
    assert_eq!(disk.trim_ranges(&entry(2047, 2)), Err(error::IDNF));
    assert_eq!(disk.trim_ranges(&entry(0xffff_ffff_ffff, 1)), Err(error::IDNF));
    assert_eq!(disk.execute(&TaskFile { count: 9, ..trim }), Work::Failed(error::ABRT));
}

#[test]
fn blocks_of_multiple_sectors_are_a_power_of_two() {
    let disk = disk(MIB, false);
    assert_eq!(disk.execute(&task(command::SET_MULTIPLE, 0, 3)), Work::Failed(error::ABRT));
    assert_eq!(disk.execute(&task(command::SET_MULTIPLE, 0, 32)), Work::Failed(error::ABRT));
    let _ = disk.execute(&task(command::SET_MULTIPLE, 0, 8));
    let Work::Transfer(read) = disk.execute(&task(command::READ_MULTIPLE, 0, 9)) else { panic!() };
    assert_eq!(read.block, Some(8));
    let _ = disk.execute(&task(command::SET_MULTIPLE, 0, 0));
    assert_eq!(disk.execute(&task(command::READ_MULTIPLE, 0, 1)), Work::Failed(error::ABRT));
}

#[test]
fn the_log_of_a_failed_queued_command_is_read_once() {
    let disk = disk(MIB, false);
    let failed = TaskFile { features: 8, ..task(command::READ_QUEUED, 0x12_3456, 7 << 3) };
    disk.note_queued_error(7, &failed, 0x41, error::UNC);
    let log = task(command::READ_LOG_EXT, 0x10, 1);
    let Work::Input(data) = disk.execute(&log) else { panic!() };
    assert_eq!(data[..7], [7, 0, 0x41, error::UNC, 0x56, 0x34, 0x12]);
    let Work::Input(data) = disk.execute(&log) else { panic!() };
    assert_eq!(data[0], 0x80);
    assert_eq!(disk.execute(&task(command::READ_LOG_EXT, 0x77, 1)), Work::Failed(error::ABRT));
}

#[test]
fn smart_is_fine_once_it_is_asked_with_its_key() {
    let disk = disk(MIB, false);
    let ask =
        |features, lba| disk.execute(&TaskFile { features, lba, ..task(command::SMART, 0, 1) });
    assert_eq!(ask(0xda, 0xc2_4f00), Work::Done { count: None, lba: Some(0xc2_4f00) });
    assert_eq!(ask(0xda, 0), Work::Failed(error::ABRT));
    assert!(matches!(ask(0xd0, 0xc2_4f00), Work::Input(_)));
    let _ = ask(0xd9, 0xc2_4f00);
    assert_eq!(ask(0xd0, 0xc2_4f00), Work::Failed(error::ABRT));
}

#[test]
fn a_packet_that_fails_leaves_its_sense_for_the_next() {
    let drive = Arc::new(unit(UnitKind::Cdrom, Some(image(MIB, true).0)));
    let packets = Packets::new(drive, identity(false));
    let Work::Input(data) = packets.execute(&task(command::IDENTIFY_PACKET, 0, 0)) else {
        panic!()
    };
    assert_eq!(data[..2], [0xc0, 0x85]);
    assert_eq!(packets.execute(&task(command::IDENTIFY, 0, 0)), Work::Failed(error::ABRT));
    assert_eq!(packets.packet(&[0; 12]), PacketWork::Failed(6 << 4 | error::ABRT));
    let sense = [3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0];
    let PacketWork::Reply(data) = packets.packet(&sense) else { panic!() };
    assert_eq!((data[2], data[12]), (6, 0x29));
    let PacketWork::Reply(data) = packets.packet(&sense) else { panic!() };
    assert_eq!((data[2], data[12]), (0, 0));
    assert_eq!(packets.packet(&[0; 12]), PacketWork::Done);
    let read = [0x28, 0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0];
    let PacketWork::Transfer(transfer) = packets.packet(&read) else { panic!() };
    assert_eq!((transfer.len, transfer.steps[0].offset), (4096, 2048));
}

/// Any registers are a command: none panics, and no range leaves the disk.
#[test]
fn random_commands_stay_inside_the_disk() {
    let disk = disk(MIB, false);
    let mut random = crate::virtio::rig::Random(0xa7a);
    for _ in 0..50_000 {
        let task = TaskFile {
            command: random.next() as u8,
            features: random.next() as u16,
            lba: random.next() >> random.pick(&[16, 40, 56]),
            count: random.next() as u16,
            device: random.next() as u8,
        };
        for work in [disk.execute(&task), disk.execute_queued(&task)] {
            if let Work::Transfer(transfer) = work {
                assert!(transfer.offset + transfer.len <= MIB, "{task:x?}");
            }
        }
    }
}
