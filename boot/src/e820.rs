//! The memory map that a kernel is told, in the types that e820 and PVH share.

use arch::layout::{
    EBDA_START, GENERATION, HIGH_RAM_START, HIMEM_START, KVM_TSS, MemoryMap, PAGE_SIZE,
};

pub(crate) const RAM: u32 = 1;
pub(crate) const RESERVED: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) kind: u32,
}

pub(crate) fn spans(map: &MemoryMap) -> Vec<Span> {
    let span = |start: u64, end: u64, kind| Span { start, len: end - start, kind };
    let mut spans = vec![
        span(0, EBDA_START, RAM),
        // EBDA (empty: nothing at 0x40e points to it), the VGA hole, and the firmware tables. They
        // are never reclaimed, so "reserved" rather than "ACPI" keeps one kind for all of it.
        span(EBDA_START, HIMEM_START, RESERVED),
        span(HIMEM_START, map.low_ram_end, RAM),
    ];
    if let Some(ecam) = &map.ecam {
        // Linux takes MCFG at its word early only where the map has it reserved.
        spans.push(span(ecam.start, ecam.end, RESERVED));
    }
    // With the pages that KVM keeps for itself, right behind.
    spans.push(span(GENERATION, KVM_TSS + 3 * PAGE_SIZE, RESERVED));
    if map.high_ram_end > HIGH_RAM_START {
        spans.push(span(HIGH_RAM_START, map.high_ram_end, RAM));
    }
    spans
}

#[cfg(test)]
mod tests {
    use arch::layout::{GIB, MIB, Platform};

    use super::*;

    #[test]
    fn spans_ascend_and_account_for_all_ram_but_the_legacy_hole() {
        for size in [32 * MIB, 3 * GIB, 100 * GIB] {
            let map = MemoryMap::new(Platform::Q35, size, 46).unwrap();
            let spans = spans(&map);
            for pair in spans.windows(2) {
                assert!(pair[0].start + pair[0].len <= pair[1].start);
            }
            let ram: u64 = spans.iter().filter(|s| s.kind == RAM).map(|s| s.len).sum();
            assert_eq!(ram, size - (HIMEM_START - EBDA_START));
        }
    }
}
