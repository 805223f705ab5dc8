//! Caches as a guest is told of them (Intel SDM leaves 2 and 4, AMD APM leaves 0x8000_0005,
//! 0x8000_0006 and 0x8000_001d): the host's, none, or the same on every host.

use super::table::Table;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Caches {
    #[default]
    Host,
    /// Nothing is told of any.
    Hidden,
    /// L1 and L2 of each core, L3 of each die, in sizes that processors of any vendor have.
    Emulated,
}

struct Cache {
    /// 1 data, 2 instructions, 3 both.
    kind: u32,
    level: u32,
    kib: u32,
    ways: u32,
}

const EMULATED: [Cache; 4] = [
    Cache { kind: 1, level: 1, kib: 32, ways: 8 },
    Cache { kind: 2, level: 1, kib: 32, ways: 8 },
    Cache { kind: 3, level: 2, kib: 512, ways: 8 },
    Cache { kind: 3, level: 3, kib: 16 << 10, ways: 16 },
];

const LINE: u32 = 64;
/// Of leaf 2: there is no list of descriptors, see leaf 4.
const SEE_LEAF_4: u32 = 0xff01;

impl Cache {
    /// Who shares it is put in with the topology.
    fn subleaf(&self) -> [u32; 4] {
        const SELF_INITIALISING: u32 = 1 << 8;
        let sets = self.kib * 1024 / LINE / self.ways;
        let eax = self.kind | self.level << 5 | SELF_INITIALISING;
        [eax, (LINE - 1) | ((self.ways - 1) << 22), sets - 1, 0]
    }

    /// Of AMD's older leaves: their code for how many ways there are.
    fn associativity(&self) -> u32 {
        if self.ways == 16 { 8 } else { 6 }
    }
}

pub(super) fn set(table: &mut Table, caches: Caches) {
    match caches {
        Caches::Host => {}
        Caches::Hidden => {
            for leaf in [2, 4, 0x8000_0005, 0x8000_0006, 0x8000_001d] {
                table.remove(leaf);
            }
        }
        Caches::Emulated => emulate(table),
    }
}

fn emulate(table: &mut Table) {
    let amd = table.is_amd();
    let mut subleaves: Vec<_> = EMULATED.iter().map(Cache::subleaf).collect();
    subleaves.push([0; 4]);
    let [data, instructions, second, third] = &EMULATED;
    // Lines per tag, and their length.
    let line = 1 << 8 | LINE;
    let l2 = second.kib << 16 | second.associativity() << 12 | line;
    if amd {
        table.remove(2);
        table.remove(4);
        table.set_subleaves(0x8000_001d, &subleaves);
        let first = |cache: &Cache| cache.kib << 24 | cache.ways << 16 | line;
        table.edit(0x8000_0005, 0, |leaf| {
            (leaf.ecx, leaf.edx) = (first(data), first(instructions));
        });
        let l3 = ((third.kib / 512) << 18) | third.associativity() << 12 | line;
        table.edit(0x8000_0006, 0, |leaf| (leaf.ecx, leaf.edx) = (l2, l3));
    } else {
        table.set_leaf(2, [SEE_LEAF_4, 0, 0, 0]);
        table.set_subleaves(4, &subleaves);
        table.edit(0x8000_0006, 0, |leaf| leaf.ecx = l2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{amd, intel, leaf, spec};
    use super::super::{CpuModel, CpuSpec, cpuid};
    use super::*;

    #[test]
    fn emulated_caches_are_the_same_on_every_host() {
        for (host, number) in [(intel(), 4), (amd(), 0x8000_001d)] {
            let spec = CpuSpec { caches: Caches::Emulated, ..spec(CpuModel::HostPassthrough) };
            let table = cpuid(&host, &spec, 0);
            let size = |index| {
                let cache = leaf(&table, number, index);
                let ways = (cache.ebx >> 22) + 1;
                let level = (cache.eax & 0x1f, cache.eax >> 5 & 7);
                (level, ways * (cache.ebx % 4096 + 1) * (cache.ecx + 1) / 1024)
            };
            assert_eq!(size(0), ((1, 1), 32));
            assert_eq!(size(1), ((2, 1), 32));
            assert_eq!(size(2), ((3, 2), 512));
            assert_eq!(size(3), ((3, 3), 16 << 10));
            assert_eq!(leaf(&table, number, 4).eax, 0, "no more");
            // Three cores of two threads share the last one.
            let sharing = leaf(&table, number, 3).eax >> 14 & 0xfff;
            assert!(sharing >= 5, "{sharing}");
        }
    }

    #[test]
    fn hidden_caches_are_not_told() {
        let spec = CpuSpec { caches: Caches::Hidden, ..spec(CpuModel::HostModel) };
        let table = cpuid(&intel(), &spec, 0);
        assert_eq!((leaf(&table, 4, 0).eax, leaf(&table, 2, 0).eax), (0, 0));
    }
}
