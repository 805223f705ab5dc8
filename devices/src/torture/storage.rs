//! Disks and drives on every bus: whatever a driver asks of them, only what lies inside the disk is touched.

use super::Script;
use super::board::{DISK_LEN, MemoryDisk, Nobody, meter, ram, thread, unit};
use super::function::Function;
use crate::ahci::{Ahci, AhciParts};
use crate::ata::{AtaDisk, AtaIdentity, Drive, Packets, TaskFile, Work};
use crate::backend::Action;
use crate::ide::{Ide, IdeParts};
use crate::nvme::{Namespace, Nvme, NvmeIdentity, NvmeParts};
use crate::pci::PciFunction as _;
use crate::scsi::{Cdb, Direction, LogicalUnit, Outcome, Step, UnitKind};

use std::sync::Arc;

/// No reply of a unit is longer.
const MOST_REPLY: usize = 64 << 10;

/// ```text
/// u8 disk or drive   steps: u8 what   0–249: 16 bytes of command, u8 how many parameters, parameters
///                    250: eject   251: load   252: reset   253: saved and restored   254: grown   255: attention
/// ```
pub fn scsi(data: &[u8]) {
    let mut script = Script(data);
    let kind = if script.byte() & 1 == 0 { UnitKind::Disk } else { UnitKind::Cdrom };
    let unit = unit(kind);
    while !script.is_over() {
        match script.byte() {
            what @ 250.. => change(&unit, what, &mut script),
            _ => {
                let cdb = Cdb::new(script.take(16));
                let length = script.byte().into();
                let parameters = script.take(length);
                let outcome = unit.execute(&cdb, &mut |place| {
                    let given = parameters.get(..place.len());
                    given.map(|given| place.copy_from_slice(given)).is_some()
                });
                if let Ok(outcome) = outcome {
                    check(&outcome);
                }
            }
        }
    }
}

fn change(unit: &LogicalUnit, what: u8, script: &mut Script<'_>) {
    match what {
        250 => drop(unit.eject(script.byte() & 1 == 0)),
        251 => unit.load(MemoryDisk::new(unit.kind() == UnitKind::Cdrom)),
        252 => unit.reset(),
        253 => {
            let saved = unit.save();
            unit.restore(&saved);
            assert_eq!(unit.save(), saved);
        }
        _ => unit.resized(),
    }
}

fn check(outcome: &Outcome) {
    match outcome {
        Outcome::Done => {}
        Outcome::Reply(data) => assert!(data.len() <= MOST_REPLY, "{} bytes", data.len()),
        Outcome::Transfer(transfer) => {
            for Step { action, offset, .. } in &transfer.steps {
                let len = match action {
                    Action::Read | Action::Write { .. } => {
                        assert_ne!(transfer.direction, Direction::None);
                        0
                    }
                    Action::Discard { len } | Action::Zero { len, .. } => *len,
                    Action::Flush => 0,
                };
                let end = offset.checked_add(len).expect("a step ends somewhere");
                assert!(end <= DISK_LEN, "{action:?} at {offset}");
            }
        }
    }
}

fn identity(parallel: bool) -> AtaIdentity {
    AtaIdentity {
        model: "torture".to_owned(),
        serial: "s-1".to_owned(),
        wwn: Some(7),
        rotation_rate: 1,
        parallel,
    }
}

fn disk(parallel: bool) -> Drive {
    Drive::Disk(AtaDisk::new(MemoryDisk::new(false), identity(parallel), meter()))
}

fn drive(parallel: bool) -> Drive {
    Drive::Packets(Packets::new(unit(UnitKind::Cdrom), identity(parallel)))
}

/// ```text
/// u8 bus   steps: u8 what   even: a command: u8 command, u16 features, 6 bytes LBA, u16 count, u8 device
///                           1: queued, likewise   3: 64 bytes of ranges to trim   others: reset
/// ```
pub fn ata(data: &[u8]) {
    let mut script = Script(data);
    let Drive::Disk(disk) = disk(script.byte() & 1 != 0) else { return };
    while !script.is_over() {
        match script.byte() {
            3 => {
                if let Ok(ranges) = disk.trim_ranges(script.take(64)) {
                    let inside = |(at, len): &(u64, u64)| at + len <= DISK_LEN;
                    assert!(ranges.iter().all(inside), "{ranges:?}");
                }
            }
            what if what & 1 == 0 || what == 1 => {
                let task = task(&mut script);
                let work = if what == 1 { disk.execute_queued(&task) } else { disk.execute(&task) };
                match work {
                    Work::Transfer(transfer) => {
                        let end = transfer.offset.checked_add(transfer.len);
                        assert!(end.is_some_and(|end| end <= DISK_LEN), "{task:x?}");
                    }
                    Work::Input(data) => {
                        assert!(data.len() <= MOST_REPLY && data.len().is_multiple_of(512));
                    }
                    Work::Trim { len } => assert!(len <= MOST_REPLY as u64),
                    Work::Done { .. } | Work::Failed(_) => {}
                }
            }
            _ => disk.reset(),
        }
        let saved = disk.save();
        disk.restore(&saved);
        assert_eq!(disk.save(), saved);
    }
}

fn task(script: &mut Script<'_>) -> TaskFile {
    let command = script.byte();
    let features = script.short();
    let mut lba = [0; 8];
    script.fill(&mut lba[..6]);
    TaskFile {
        command,
        features,
        lba: u64::from_le_bytes(lba),
        count: script.short(),
        device: script.byte(),
    }
}

const LIST: u64 = 0x1000;
const TABLES: u64 = 0x4000;
const DATA: u64 = 0x1_0000;
const PORT: u64 = 0x100;
const PORT_STEP: u64 = 0x80;

/// ```text
/// steps: u8 what   below 7: as every function   7: u8 port and slot, u8 flags, u8 pieces, 36 bytes of command
///        8: the drive opens or closes
/// ```
pub fn ahci(data: &[u8]) {
    let ram = ram();
    let drives = [Some(disk(false)), None, Some(drive(false)), None, None, None];
    let parts = AhciParts {
        id: "ahci",
        ram: ram.clone(),
        msi: &Nobody,
        intx: Arc::new(Nobody),
        thread: thread(),
        drives,
    };
    let Ok(ahci) = Ahci::new(parts) else { return };
    let function = Function::new(&ahci, &ram, &[(5, 0x1000)]);
    let write = |at: u64, value: u32| {
        let _ = ahci.bar_write(5, at, &value.to_le_bytes());
    };
    let _ = ahci.config_write(4, &[6, 0]);
    // AHCI with interrupts; ports 0 and 2 with a list and a place for what they send.
    write(4, 0x8000_0002);
    for port in [0, 2] {
        let at = PORT + port * PORT_STEP;
        write(at, (LIST + port * 0x400) as u32);
        write(at + 8, (LIST + 0x2000 + port * 0x100) as u32);
        write(at + 0x14, 0xffff_ffff);
        write(at + 0x18, 0x10);
        write(at + 0x18, 0x11);
    }
    let mut script = Script(data);
    while !script.is_over() {
        match script.byte() % 8 {
            7 => {
                let place = script.byte();
                let (port, slot) = (u64::from(place >> 7) * 2, u64::from(place & 31));
                let table = TABLES + slot * 0x200;
                let (flags, pieces) = (u32::from(script.byte()), u32::from(script.byte() % 16));
                let header = LIST + port * 0x400 + slot * 32;
                let words = [5 | flags & 0xe0 | pieces << 16, 0, table as u32, 0];
                let _ = ram.write_slice(header, &words.map(u32::to_le_bytes).concat());
                let _ = ram.write_slice(table, script.take(20));
                let _ = ram.write_slice(table + 0x40, script.take(16));
                for piece in 0..u64::from(pieces) {
                    let len = u32::from(script.byte()) << 1 | 1;
                    let words = [(DATA + piece * 0x1000) as u32, 0, 0, len];
                    let at = table + 0x80 + piece * 16;
                    let _ = ram.write_slice(at, &words.map(u32::to_le_bytes).concat());
                }
                write(PORT + port * PORT_STEP + 0x38, 1 << slot);
                function.settle();
            }
            what => function.step(what, &mut script),
        }
    }
    function.end();
}

/// ```text
/// steps: u8 what   below 7: as every function   7: u8 channel, register and width, 4 bytes written
///        8: likewise, read   9: u8 channel, u8 count, so many words of data, read or written
/// ```
pub fn ide(data: &[u8]) {
    let ram = ram();
    let parts = IdeParts {
        id: "ide",
        ram: ram.clone(),
        lines: [Arc::new(Nobody), Arc::new(Nobody)],
        thread: thread(),
        drives: [[Some(disk(true)), None], [Some(drive(true)), Some(disk(true))]],
    };
    let Ok(ide) = Ide::new(parts) else { return };
    let _ = ide.config_write(4, &[5, 0]);
    let ports: Vec<_> = ide.ports().into_iter().map(|(_, _, port)| port).collect();
    let function = Function::new(&ide, &ram, &[(4, 16)]);
    let mut script = Script(data);
    while !script.is_over() {
        match script.byte() % 10 {
            7 => {
                let place = script.byte();
                let width = if place & 7 == 0 { 1 << (place >> 5 & 1) } else { 1 };
                let mut data = [0; 4];
                script.fill(&mut data[..width]);
                let _ = ports[usize::from(place >> 6)].write((place & 7).into(), &data[..width]);
                function.settle();
            }
            8 => {
                let place = script.byte();
                let width = if place & 7 == 0 { 2 } else { 1 };
                ports[usize::from(place >> 6)].read((place & 7).into(), &mut [0; 2][..width]);
            }
            9 => {
                let place = script.byte();
                let port = &ports[usize::from(place >> 7) * 2];
                for _ in 0..u32::from(script.byte()) * 2 {
                    if place & 1 == 0 {
                        port.read(0, &mut [0; 2]);
                    } else {
                        let _ = port.write(0, &[place; 2]);
                    }
                }
                function.settle();
            }
            what => function.step(what, &mut script),
        }
    }
    function.end();
}

const ADMIN: [u64; 2] = [0x1000, 0x2000];
const QUEUE: [u64; 2] = [0x3000, 0x5000];
const ENTRIES: u32 = 32;

/// ```text
/// steps: u8 what   below 7: as every function   7: u8 queue and pages, u8 opcode, u8 flags, 4 bytes namespace,
///                                                  24 bytes of dwords 10 to 15
/// ```
pub fn nvme(data: &[u8]) {
    let ram = ram();
    let namespace =
        |read_only| Some(Namespace { disk: MemoryDisk::new(read_only), meter: meter(), eui: None });
    let parts = NvmeParts {
        id: "nvme",
        ram: ram.clone(),
        msi: &Nobody,
        intx: Arc::new(Nobody),
        express: None,
        thread: thread(),
        identity: NvmeIdentity { model: "torture".to_owned(), serial: "s-1".to_owned() },
        namespaces: vec![namespace(false), None, namespace(true)],
        queues: 2,
    };
    let Ok(nvme) = Nvme::new(parts) else { return };
    let function = Function::new(&nvme, &ram, &[(0, 0x4000)]);
    let write = |at: u64, value: u32| {
        let _ = nvme.bar_write(0, at, &value.to_le_bytes());
    };
    let _ = nvme.config_write(4, &[6, 0]);
    write(0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
    write(0x28, ADMIN[0] as u32);
    write(0x30, ADMIN[1] as u32);
    write(0x14, 0x0046_0001);
    let mut tails = [0; 2];
    let mut send = |queue: usize, command: [u32; 16]| {
        let (queue, base) = if queue == 0 { (0, ADMIN[0]) } else { (1, QUEUE[0]) };
        let at = base + u64::from(tails[queue]) * 64;
        let _ = ram.write_slice(at, &command.map(u32::to_le_bytes).concat());
        tails[queue] = (tails[queue] + 1) % ENTRIES;
        write(0x1000 + 8 * queue as u64, tails[queue]);
        function.settle();
        // The driver has seen whatever came of it.
        let head = if queue == 0 { tails[0] } else { tails[1] };
        write(0x1004 + 8 * queue as u64, head);
    };
    let create = |opcode: u32, place: u64, flags: u32| {
        let mut command = [0; 16];
        (command[0], command[6]) = (opcode, place as u32);
        (command[10], command[11]) = ((ENTRIES - 1) << 16 | 1, flags);
        command
    };
    send(0, create(5, QUEUE[1], 1));
    send(0, create(1, QUEUE[0], 1 << 16 | 1));
    let mut script = Script(data);
    while !script.is_over() {
        match script.byte() % 8 {
            7 => {
                let place = script.byte();
                let mut command = [0; 16];
                command[0] = u32::from(script.byte()) | u32::from(script.byte()) << 8;
                command[1] = script.number();
                // Pages: a page, two, or a list at an odd place.
                let data = DATA as u32 + (u32::from(place) & 0x70) * 4;
                (command[6], command[8]) = (data, DATA as u32 + (u32::from(place) & 0xc) * 0x400);
                for dword in &mut command[10..] {
                    *dword = script.number();
                }
                send(usize::from(place & 1), command);
            }
            what => function.step(what, &mut script),
        }
    }
    function.end();
}
