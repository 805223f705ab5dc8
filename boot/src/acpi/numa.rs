//! SRAT and SLIT: which vCPUs and which memory belong together, and how far apart they are.

use std::ops::Range;

use acpi_tables::sdt::Sdt;
use arch::layout::HIMEM_START;

use super::{Board, sdt};

/// No RAM to a guest: what a PC has below its first MiB.
const LEGACY_HOLE: Range<u64> = 0xa_0000..HIMEM_START;

const LOCAL_APIC: u8 = 0;
const MEMORY: u8 = 1;
const LOCAL_X2APIC: u8 = 2;
const ENABLED: u32 = 1;
/// A structure for a LAPIC has 8 bits for the id; 255 is the broadcast id.
const XAPIC_ID_MAX: u32 = 254;

const HERE: u8 = 10;
const ELSEWHERE: u8 = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// APIC ids of its vCPUs.
    pub apic_ids: Vec<u32>,
    pub memory: Vec<Range<u64>>,
    /// To each node by its number; those that are missing are 10 to itself and 20 to others.
    pub distances: Vec<u8>,
}

/// The SRAT.
pub(super) fn affinities(board: &Board) -> Sdt {
    let mut srat = sdt(*b"SRAT", 3);
    srat.append_slice(&1u32.to_le_bytes()); // reserved, and 1 all the same
    srat.append_slice(&[0; 8]);
    for (number, node) in (0u32..).zip(&board.nodes) {
        for id in &node.apic_ids {
            processor(&mut srat, number, *id);
        }
    }
    for (number, node) in (0u32..).zip(&board.nodes) {
        for range in node.memory.iter().flat_map(around_the_hole) {
            memory(&mut srat, number, &range);
        }
    }
    srat
}

/// The SLIT.
pub(super) fn distances(board: &Board) -> Sdt {
    let mut slit = sdt(*b"SLIT", 1);
    slit.append_slice(&(board.nodes.len() as u64).to_le_bytes());
    for (from, node) in board.nodes.iter().enumerate() {
        for to in 0..board.nodes.len() {
            let default = if from == to { HERE } else { ELSEWHERE };
            slit.append_slice(&[node.distances.get(to).copied().unwrap_or(default)]);
        }
    }
    slit
}

fn processor(srat: &mut Sdt, node: u32, id: u32) {
    match u8::try_from(id) {
        Ok(id8) if id <= XAPIC_ID_MAX => {
            let [low, high @ ..] = node.to_le_bytes();
            srat.append_slice(&[LOCAL_APIC, 16, low, id8]);
            srat.append_slice(&ENABLED.to_le_bytes());
            srat.append_slice(&[0]); // local SAPIC EID
            srat.append_slice(&high);
            srat.append_slice(&[0; 4]); // clock domain
        }
        _ => {
            srat.append_slice(&[LOCAL_X2APIC, 24, 0, 0]);
            srat.append_slice(&[node, id, ENABLED, 0, 0].map(u32::to_le_bytes).concat());
        }
    }
}

fn memory(srat: &mut Sdt, node: u32, range: &Range<u64>) {
    srat.append_slice(&[MEMORY, 40]);
    srat.append_slice(&node.to_le_bytes());
    srat.append_slice(&[0; 2]);
    srat.append_slice(&[range.start, range.end - range.start].map(u64::to_le_bytes).concat());
    srat.append_slice(&[0; 4]);
    srat.append_slice(&ENABLED.to_le_bytes());
    srat.append_slice(&[0; 8]);
}

fn around_the_hole(range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
    let below = range.start..range.end.min(LEGACY_HOLE.start);
    let above = range.start.max(LEGACY_HOLE.end)..range.end;
    [below, above].into_iter().filter(|part| part.start < part.end)
}

#[cfg(test)]
mod tests {
    use arch::layout::{GIB, MIB, MemoryMap, Platform};

    use super::*;

    fn board(nodes: Vec<Node>) -> Board {
        let map = MemoryMap::new(Platform::Q35, 4 * GIB, 40).unwrap();
        Board { nodes, ..Board::new(&map, vec![0, 1, 300]) }
    }

    fn two_nodes() -> Board {
        let far = vec![31, 10];
        board(vec![
            Node {
                apic_ids: vec![0, 1],
                memory: std::iter::once(0..GIB).collect(),
                distances: Vec::new(),
            },
            Node {
                apic_ids: vec![300],
                memory: vec![GIB..2 * GIB, 4 * GIB..5 * GIB],
                distances: far,
            },
        ])
    }

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// The structures behind the fixed part: kind and bytes.
    fn structures(srat: &[u8]) -> Vec<(u8, &[u8])> {
        let (mut rest, mut found) = (&srat[48..], Vec::new());
        while let [kind, len, ..] = rest {
            let (one, others) = rest.split_at(usize::from(*len));
            found.push((*kind, one));
            rest = others;
        }
        found
    }

    #[test]
    fn vcpus_and_memory_are_told_by_node() {
        let srat = affinities(&two_nodes());
        let found = structures(srat.as_slice());
        let processors: Vec<(u32, u32)> = found
            .iter()
            .filter_map(|(kind, bytes)| match *kind {
                LOCAL_APIC => Some((bytes[2].into(), bytes[3].into())),
                LOCAL_X2APIC => Some((u32_at(bytes, 4), u32_at(bytes, 8))),
                _ => None,
            })
            .collect();
        assert_eq!(processors, [(0, 0), (0, 1), (1, 300)]);
        let memory: Vec<(u32, u64, u64)> = found
            .iter()
            .filter(|(kind, _)| *kind == MEMORY)
            .map(|(_, bytes)| (u32_at(bytes, 2), u64_at(bytes, 8), u64_at(bytes, 16)))
            .collect();
        let expected = [(0, 0, 0xa_0000), (0, MIB, GIB - MIB), (1, GIB, GIB), (1, 4 * GIB, GIB)];
        assert_eq!(memory, expected);
        let flags = found.iter().map(|(kind, bytes)| match *kind {
            LOCAL_APIC => u32_at(bytes, 4),
            LOCAL_X2APIC => u32_at(bytes, 12),
            _ => u32_at(bytes, 28),
        });
        assert!(flags.into_iter().all(|flags| flags == ENABLED));
    }

    #[test]
    fn distances_are_a_square_of_what_was_written_and_the_defaults() {
        let slit = distances(&two_nodes());
        let bytes = slit.as_slice();
        assert_eq!((u64_at(bytes, 36), &bytes[44..]), (2, &[10, 20, 31, 10][..]));
    }

    #[test]
    fn a_board_without_nodes_has_no_tables_of_them() {
        let signatures = |board: &Board| -> Vec<[u8; 4]> {
            super::super::Tables::new(board, 0).tables.iter().map(|table| table.signature).collect()
        };
        assert!(!signatures(&board(Vec::new())).contains(b"SRAT"));
        let listed = signatures(&two_nodes());
        assert!(listed.contains(b"SRAT") && listed.contains(b"SLIT"));
    }
}
