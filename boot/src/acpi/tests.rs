use arch::layout::{GIB, Platform};
use arch::topology::Topology;

use super::*;

const AT: u64 = 0xe_0000;

fn board(platform: Platform, apic_ids: Vec<u32>) -> Board {
    Board::new(&MemoryMap::new(platform, 4 * GIB, 40).unwrap(), apic_ids)
}

fn find<'a>(tables: &'a Tables, signature: &[u8; 4]) -> &'a [u8] {
    let table = tables.tables.iter().find(|table| &table.signature == signature);
    &tables.bytes[table.unwrap().span.clone()]
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The table at a guest address, as a guest would follow it.
fn at(tables: &Tables, address: u64) -> &[u8] {
    let offset = usize::try_from(address - AT).unwrap();
    let len = u32_at(&tables.bytes, offset + 4) as usize;
    &tables.bytes[offset..offset + len]
}

#[test]
fn every_checksum_adds_up_and_every_length_is_true() {
    for platform in [Platform::Q35, Platform::Pc, Platform::Microvm] {
        let tables = Tables::new(&board(platform, (0..64).collect()), AT);
        assert_eq!(sum(&tables.bytes[..20]), 0, "RSDP, first part");
        assert_eq!(sum(&tables.bytes[..36]), 0, "RSDP");
        for table in &tables.tables {
            let bytes = &tables.bytes[table.span.clone()];
            assert_eq!(bytes[..4], table.signature);
            assert_eq!(u32_at(bytes, 4) as usize, bytes.len());
            if &table.signature != b"FACS" {
                assert_eq!(sum(bytes), 0, "{:?}", table.signature);
            }
        }
    }
}

#[test]
fn a_guest_reaches_every_table_from_the_rsdp() {
    let tables = Tables::new(&board(Platform::Q35, vec![0, 1]), AT);
    let xsdt = at(&tables, u64_at(&tables.bytes, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    let listed: Vec<_> =
        xsdt[36..].chunks(8).map(|entry| at(&tables, u64_at(entry, 0))[..4].to_vec()).collect();
    assert_eq!(listed, [b"FACP", b"APIC", b"MCFG"]);
    let fadt = find(&tables, b"FACP");
    let facs = u64::from(u32_at(fadt, 36));
    assert_eq!(&at(&tables, facs)[..4], b"FACS");
    assert_eq!(facs % 64, 0);
    assert_eq!(&at(&tables, u64::from(u32_at(fadt, 40)))[..4], b"DSDT");
    assert_eq!(u64_at(fadt, 140), u64::from(u32_at(fadt, 40)));
}

#[test]
fn every_address_moves_with_the_tables_and_nothing_else_does() {
    let board = board(Platform::Q35, vec![0, 1]);
    let (here, there) = (Tables::new(&board, AT), Tables::new(&board, AT + 0x1000));
    let mut moved = here.clone();
    for pointer in &here.pointers {
        let range = pointer.offset..pointer.offset + usize::from(pointer.size);
        let mut word = [0; 8];
        word[..range.len()].copy_from_slice(&moved.bytes[range.clone()]);
        let word = (u64::from_le_bytes(word) + 0x1000).to_le_bytes();
        moved.bytes[range.clone()].copy_from_slice(&word[..range.len()]);
    }
    let differs: Vec<_> = (0..moved.bytes.len())
        .filter(|&at| moved.bytes[at] != there.bytes[at])
        .map(|at| {
            let table = here.tables.iter().find(|table| table.span.contains(&at));
            (table.map(|t| t.signature), at - table.map_or(0, |t| t.span.start))
        })
        .collect();
    let checksums = [(None, 8), (None, 32), (Some(*b"FACP"), 9), (Some(*b"XSDT"), 9)];
    assert!(differs.iter().all(|place| checksums.contains(place)), "{differs:?}");
}

#[test]
fn the_fadt_describes_the_chipset() {
    let fadt_of = |board: &Board| find(&Tables::new(board, AT), b"FACP").to_vec();
    let mut board = board(Platform::Q35, vec![0]);
    let fadt = fadt_of(&board);
    assert_eq!(fadt.len(), 276);
    assert_eq!(u16::from_le_bytes([fadt[46], fadt[47]]), 9, "SCI");
    assert_eq!(u32_at(&fadt, 48), 0, "SMI_CMD");
    assert_eq!([56, 64, 76, 80].map(|at| u32_at(&fadt, at)), [0x600, 0x604, 0x608, 0]);
    assert_eq!(fadt[88..93], [4, 2, 0, 4, 0]);
    assert_eq!(u64_at(&fadt, 116 + 4), 0xcf9);
    assert_eq!((fadt[116], fadt[128]), (1, 6));
    let flags = u32_at(&fadt, 112);
    assert_eq!(flags >> 4 & 1, 0, "fixed power button");
    assert_eq!(flags >> 10 & 1, 1, "reset register");
    assert_eq!(flags >> 20 & 1, 0, "full hardware");
    assert_eq!(fadt[109] & 0b110, 0b100, "no i8042 to probe, and no VGA");

    (board.ps2, board.slots, board.vga) = (true, 1 << 5, true);
    board.reset = ResetRegister::KeyboardController;
    let fadt = fadt_of(&board);
    assert_eq!((u64_at(&fadt, 116 + 4), fadt[116], fadt[128]), (0x64, 1, 0xfe));
    assert_eq!(fadt[109] & 0b10, 0b10);
    assert_eq!((u32_at(&fadt, 80), fadt[92]), (0x620, 4));
}

#[test]
fn hardware_reduced_tables_name_an_event_device_and_no_legacy_hardware() {
    let board = Board { reduced: true, rtc: false, ..board(Platform::Microvm, vec![0, 1]) };
    let tables = Tables::new(&board, AT);
    let fadt = find(&tables, b"FACP");
    let flags = u32_at(fadt, 112);
    assert_eq!((flags >> 20 & 1, flags >> 4 & 1), (1, 1), "hardware-reduced, no fixed button");
    assert_eq!(fadt[46..48], [0, 0], "SCI");
    assert_eq!([56, 64, 76, 80].map(|at| u32_at(fadt, at)), [0; 4], "fixed hardware");
    assert_eq!((fadt[244], u64_at(fadt, 244 + 4)), (1, 0x601), "sleep control");
    assert_eq!((fadt[256], u64_at(fadt, 256 + 4)), (1, 0x602), "sleep status");
    assert_eq!((fadt[108], fadt[109] & 1 << 5), (0, 1 << 5), "no clock in CMOS");
    let madt = find(&tables, b"APIC");
    assert_eq!(u32_at(madt, 40), 0, "no PICs");
    assert_eq!(entries(madt).iter().filter(|(kind, _)| *kind == 2).count(), 0, "overrides");
    let dsdt = find(&tables, b"DSDT");
    let has = |what: &[u8]| dsdt.windows(what.len()).any(|bytes| bytes == what);
    assert!(has(b"ACPI0013") && has(b"_EVT") && has(b"PWRB") && !has(b"RTC_"));
}

/// MADT entries as (type, body).
fn entries(madt: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let (mut rest, mut entries) = (&madt[44..], vec![]);
    while let [kind, len, ..] = *rest {
        let (entry, tail) = rest.split_at(usize::from(len));
        entries.push((kind, entry[2..].to_vec()));
        rest = tail;
    }
    entries
}

#[test]
fn the_madt_has_the_vcpus_with_their_apic_ids() {
    let topology = Topology { sockets: 2, dies: 1, cores: 3, threads: 1 };
    let ids: Vec<_> = (0..6).map(|index| topology.apic_id(index)).collect();
    let tables = Tables::new(&board(Platform::Q35, ids.clone()), AT);
    let entries = entries(find(&tables, b"APIC"));
    let cpus: Vec<_> = entries.iter().filter(|(kind, _)| *kind == 0).map(|(_, e)| e).collect();
    assert_eq!(cpus.len(), 6);
    for (uid, (entry, id)) in cpus.iter().zip(ids).enumerate() {
        assert_eq!(entry[..], [uid as u8, id as u8, 1, 0, 0, 0]);
    }
    let overrides: Vec<_> = entries.iter().filter(|(kind, _)| *kind == 2).map(|(_, e)| e).collect();
    assert_eq!(overrides[0][..], [0, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(overrides[1][..], [0, 9, 9, 0, 0, 0, 0xd, 0]);
    assert!(entries.contains(&(4, vec![0xff, 0, 0, 1])), "NMI on LINT1");
}

#[test]
fn ids_beyond_eight_bits_are_x2apic_entries() {
    let tables = Tables::new(&board(Platform::Q35, vec![0, 254, 255, 300]), AT);
    let entries = entries(find(&tables, b"APIC"));
    let kinds: Vec<_> = entries.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0, 0, 9, 9, 1, 2, 2, 4, 10]);
    assert_eq!(u32_at(&entries[3].1, 2), 300);
    assert_eq!(u32_at(&entries[3].1, 10), 3);
}

#[test]
fn mcfg_follows_the_chipset_and_is_absent_without_ecam() {
    let mut board = board(Platform::Q35, vec![0]);
    board.ecam = Some(0xe000_0000..0xf000_0000);
    board.last_bus = 7;
    let tables = Tables::new(&board, AT);
    assert_eq!(u64_at(find(&tables, b"MCFG"), 44), 0xe000_0000);
    assert_eq!(find(&tables, b"MCFG")[54..56], [0, 7], "first and last bus");
    let pc = Tables::new(&self::board(Platform::Pc, vec![0]), AT);
    assert!(pc.tables.iter().all(|table| &table.signature != b"MCFG"));
}

#[test]
fn the_dsdt_names_the_devices_that_are_there() {
    let has = |board: &Board, what: &[u8]| {
        find(&Tables::new(board, AT), b"DSDT").windows(what.len()).any(|bytes| bytes == what)
    };
    let mut board = board(Platform::Q35, vec![0, 1]);
    for there in [&b"PCI0"[..], b"_OSC", b"_PRT", b"COM1", b"RTC_", b"_S5_", b"C001"] {
        assert!(has(&board, there), "{}", String::from_utf8_lossy(there));
    }
    for absent in [&b"COM2"[..], b"KBD_", b"C002"] {
        assert!(!has(&board, absent), "{}", String::from_utf8_lossy(absent));
    }
    board.serial = [false, true, false, true];
    board.ps2 = true;
    for there in [&b"COM2"[..], b"COM4", b"KBD_", b"MOU_"] {
        assert!(has(&board, there), "{}", String::from_utf8_lossy(there));
    }
    assert!(!has(&board, b"COM1"));
    assert!(!has(&self::board(Platform::Pc, vec![0]), b"_OSC"));
}

#[test]
fn the_largest_machine_fits_its_room() {
    let mut board = board(Platform::Q35, (0..64).collect());
    (board.serial, board.ps2, board.generation) = ([true; 4], true, true);
    (board.slots, board.hotplug) = (u32::MAX, Some(1));
    assert!(Tables::new(&board, AT).bytes.len() <= 0x1_0000);
}

/// For looking at the tables with `iasl -d`: `ACPI_DUMP=dir cargo test -p manor-boot dump`.
#[test]
fn dump_for_iasl() {
    let Some(dir) = std::env::var_os("ACPI_DUMP") else { return };
    let mut board = board(Platform::Q35, (0..4).collect());
    (board.serial, board.ps2, board.generation) = ([true; 4], true, true);
    board.hotplug = Some(0b0011);
    let node = |apic_ids, memory| Node { apic_ids, memory, distances: Vec::new() };
    board.nodes = vec![node(vec![0, 1], vec![0..GIB, GIB..2 * GIB]), node(vec![2, 3], Vec::new())];
    let tables = Tables::new(&board, AT);
    for table in &tables.tables {
        let name = String::from_utf8_lossy(&table.signature).to_lowercase();
        let path = std::path::Path::new(&dir).join(format!("{name}.dat"));
        std::fs::write(path, &tables.bytes[table.span.clone()]).unwrap();
    }
}

#[test]
fn the_crash_port_is_announced_only_where_there_is_one() {
    let announced = |pvpanic| {
        let board = Board { pvpanic, ..board(Platform::Q35, vec![0]) };
        let tables = Tables::new(&board, AT);
        find(&tables, b"DSDT").windows(8).any(|bytes| bytes == b"QEMU0001")
    };
    assert!(announced(true));
    assert!(!announced(false));
}

#[test]
fn a_processor_that_may_come_is_announced_as_such() {
    let mut board = board(Platform::Q35, vec![0, 1, 2, 3]);
    board.hotplug = Some(0b0101);
    let tables = Tables::new(&board, AT);
    let madt = find(&tables, b"APIC");
    let flags: Vec<_> = (0..4).map(|uid| u32_at(madt, 44 + 8 * uid + 4)).collect();
    assert_eq!(flags, [1, 2, 1, 2], "enabled, or able to be");
    let dsdt = find(&tables, b"DSDT");
    let has = |words: &[u8]| dsdt.windows(words.len()).any(|bytes| bytes == words);
    // _MAT: Buffer (8) { a local APIC, enabled }
    assert!(has(b"_MAT\x11\x0b\x0a\x08\x00\x08\x03\x03\x01\x00\x00\x00"));
    assert!(has(b"_E02") && has(b"C003") && has(b"_OST"));
    assert_ne!(u32_at(find(&tables, b"FACP"), 80), 0, "its register block");
    board.hotplug = None;
    let tables = Tables::new(&board, AT);
    assert!(!find(&tables, b"DSDT").windows(4).any(|bytes| bytes == b"_E02" || bytes == b"_STA"));
}

#[test]
fn the_generation_lies_at_its_address_and_has_an_event() {
    let has = |board: &Board, words: &[u8]| {
        find(&Tables::new(board, AT), b"DSDT").windows(words.len()).any(|bytes| bytes == words)
    };
    let mut board = board(Platform::Q35, vec![0]);
    assert!(!has(&board, b"VMGENCTR") && !has(&board, b"_E05"));
    board.generation = true;
    // Package (2) { 0xFEFFB000, Zero }
    assert!(has(&board, b"ADDR\x12\x08\x02\x0c\x00\xb0\xff\xfe\x00"));
    assert!(has(&board, b"VMGENCTR") && has(&board, b"_E05"));
    assert_ne!(u32_at(find(&Tables::new(&board, AT), b"FACP"), 80), 0, "its register block");
    board.reduced = true;
    assert!(has(&board, b"VGEN") && !has(&board, b"_E05"));
}
