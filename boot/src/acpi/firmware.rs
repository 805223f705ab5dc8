//! [`FirmwareTables`]: the tables as firmware takes them, in files and with a script that says how
//! to place them (`etc/table-loader`, as SeaBIOS and OVMF know it).
//!
//! The script is a list of 128-byte commands:
//! ```text
//! 1 allocate   file name[56], alignment u32, zone u8 (1 anywhere, 2 below 1 MiB)
//! 2 pointer    destination[56], source[56], offset u32, size u8: add the address of the source
//! 3 checksum   file name[56], offset u32, start u32, length u32
//! ```
//! Everything else is skipped, so zeros fill it up.

use acpi_tables::rsdp::Rsdp;

use super::{Board, Tables};

/// The files, by what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareTables {
    pub rsdp: Vec<u8>,
    pub tables: Vec<u8>,
    pub script: Vec<u8>,
}

const ALLOCATE: u32 = 1;
const POINTER: u32 = 2;
const CHECKSUM: u32 = 3;

const ANYWHERE: u8 = 1;
const BELOW_1_MIB: u8 = 2;

const NAME_LEN: usize = 56;
const COMMAND_LEN: usize = 128;

/// Where every table has its checksum.
const TABLE_CHECKSUM: usize = 9;
/// The RSDP's: of its first 20 bytes, and of all.
const RSDP_CHECKSUMS: [(usize, usize); 2] = [(8, 20), (32, 36)];

impl FirmwareTables {
    pub const RSDP: &'static str = "etc/acpi/rsdp";
    pub const TABLES: &'static str = "etc/acpi/tables";
    pub const SCRIPT: &'static str = "etc/table-loader";

    #[must_use]
    pub fn new(board: &Board) -> Self {
        let Tables { bytes: mut tables, tables: list, pointers } = Tables::new(board, 0);
        let mut rsdp = tables[..Rsdp::len()].to_vec();
        // What lies in the other file keeps its offset, so the room of the RSDP stays, empty.
        tables[..Rsdp::len()].fill(0);

        let mut script = Script::default();
        script.allocate(Self::RSDP, 16, BELOW_1_MIB);
        script.allocate(Self::TABLES, 64, ANYWHERE);
        for pointer in &pointers {
            let file = if pointer.offset < Rsdp::len() { Self::RSDP } else { Self::TABLES };
            script.pointer(file, Self::TABLES, pointer.offset, pointer.size);
        }
        // Sums come last. Firmware differs in whether it counts the old sum in: it must be zero.
        for table in &list {
            let moved = pointers.iter().any(|pointer| table.span.contains(&pointer.offset));
            if moved {
                let at = table.span.start + TABLE_CHECKSUM;
                tables[at] = 0;
                script.checksum(Self::TABLES, at, table.span.start, table.span.len());
            }
        }
        for (at, len) in RSDP_CHECKSUMS {
            rsdp[at] = 0;
            script.checksum(Self::RSDP, at, 0, len);
        }
        Self { rsdp, tables, script: script.0 }
    }
}

#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn allocate(&mut self, file: &str, alignment: u32, zone: u8) {
        self.command(ALLOCATE, &[file], &[&alignment.to_le_bytes(), &[zone]]);
    }

    fn pointer(&mut self, from: &str, to: &str, offset: usize, size: u8) {
        self.command(POINTER, &[from, to], &[&(offset as u32).to_le_bytes(), &[size]]);
    }

    fn checksum(&mut self, file: &str, offset: usize, start: usize, len: usize) {
        let numbers = [offset, start, len].map(|number| (number as u32).to_le_bytes());
        self.command(CHECKSUM, &[file], &[&numbers.concat()]);
    }

    fn command(&mut self, kind: u32, names: &[&str], rest: &[&[u8]]) {
        let start = self.0.len();
        self.0.extend(kind.to_le_bytes());
        for name in names {
            let mut field = name.as_bytes().to_vec();
            field.resize(NAME_LEN, 0);
            self.0.extend(field);
        }
        self.0.extend(rest.concat());
        self.0.resize(start + COMMAND_LEN, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arch::layout::{GIB, MemoryMap, Platform};

    use super::*;

    const RSDP_AT: u64 = 0xf_5000;
    const TABLES_AT: u64 = 0x7ffe_0000;

    /// What firmware does with the script; the files as they lie in memory afterwards.
    fn carry_out(files: &FirmwareTables) -> BTreeMap<String, (u64, Vec<u8>)> {
        let mut placed: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        let u32_at = |bytes: &[u8], at: usize| {
            u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
        };
        let name = |bytes: &[u8], at: usize| {
            let field = &bytes[at..at + NAME_LEN];
            let end = field.iter().position(|byte| *byte == 0).unwrap();
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        for command in files.script.chunks_exact(COMMAND_LEN) {
            let file = name(command, 4);
            match u32_at(command, 0) as u32 {
                ALLOCATE => {
                    let (at, bytes) = match (file.as_str(), command[64]) {
                        (FirmwareTables::RSDP, BELOW_1_MIB) => (RSDP_AT, files.rsdp.clone()),
                        (FirmwareTables::TABLES, ANYWHERE) => (TABLES_AT, files.tables.clone()),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(at % u32_at(command, 60) as u64, 0);
                    placed.insert(file, (at, bytes));
                }
                POINTER => {
                    let target = placed[&name(command, 60)].0;
                    let (at, size) = (u32_at(command, 116), usize::from(command[120]));
                    let field = &mut placed.get_mut(&file).unwrap().1[at..at + size];
                    let mut word = [0; 8];
                    word[..size].copy_from_slice(field);
                    let word = (u64::from_le_bytes(word) + target).to_le_bytes();
                    field.copy_from_slice(&word[..size]);
                }
                CHECKSUM => {
                    let [at, start, len] = [60, 64, 68].map(|field| u32_at(command, field));
                    let bytes = &mut placed.get_mut(&file).unwrap().1;
                    assert_eq!(bytes[at], 0);
                    bytes[at] = 0u8.wrapping_sub(sum(&bytes[start..start + len]));
                }
                other => panic!("command {other}"),
            }
        }
        placed
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn firmware_gets_what_a_direct_boot_would_have_at_the_same_address() {
        for platform in [Platform::Q35, Platform::Pc] {
            let map = MemoryMap::new(platform, 4 * GIB, 40).unwrap();
            let mut board = Board::new(&map, (0..64).collect());
            board.generation = true;
            let placed = carry_out(&FirmwareTables::new(&board));
            let expected = Tables::new(&board, TABLES_AT).bytes;
            let len = Rsdp::len();
            assert!(placed[FirmwareTables::TABLES].1[len..] == expected[len..]);
            assert_eq!(placed[FirmwareTables::RSDP].1, expected[..len]);
        }
    }

    #[test]
    fn the_script_is_whole_commands() {
        let map = MemoryMap::new(Platform::Q35, GIB, 40).unwrap();
        let files = FirmwareTables::new(&Board::new(&map, vec![0]));
        assert_eq!(files.script.len() % COMMAND_LEN, 0);
        assert_eq!(files.rsdp.len(), 36);
    }
}
